/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What user space learns: a count for every hit, and an event unless the ring is full. A full ring
 * costs the event and is itself counted, against the rule; it never changes an answer.
 */
#ifndef AEGIS_REPORT_H
#define AEGIS_REPORT_H

/*
 * One path of an event. How much is written stands in the event itself: read back from there it is
 * any number to the verifier, which would otherwise follow every length of every name.
 */
struct path_buffer {
	u8 *bytes; /* room for `size` bytes and one name more */
	u32 size;
	u32 *used;
	u32 *truncated;
	u32 truncated_bit;
};

/* Appends one component and a NUL. False: there is no room for more. */
static __always_inline bool put_name(const struct path_buffer *path, struct dentry *dentry)
{
	u8 *end;
	u32 used = *path->used;
	u32 size = FIELD(false, dentry, d_name.len) & AEGIS_NAME_MAX;

	if (used > path->size) {
		*path->truncated |= path->truncated_bit;
		return false;
	}
	end = path->bytes + used;
	bpf_probe_read_kernel(end, size, FIELD(false, dentry, d_name.name));
	end[size] = 0;
	*path->used = used + size + 1;
	return true;
}

/*
 * Where a path goes on from the root of a mount: at the place where that is mounted, and where that
 * mount is, and so on. Anything else stays where it is. 0: at the root of the mount namespace.
 * Two functions, since each returns one number: the place, and its mount.
 */
__noinline u64 outer_mount(u64 place, u64 mount_number)
{
	for (int i = 0; i < AEGIS_MOUNTS_MAX; i++) {
		struct mount *mount = (void *)mount_number;
		u64 above;

		if (!mount_number || place != number_of(FIELD(false, mount, mnt.mnt_root)))
			return mount_number;
		above = number_of(FIELD(false, mount, mnt_parent));
		if (above == mount_number)
			return 0;
		place = number_of(FIELD(false, mount, mnt_mountpoint));
		mount_number = above;
	}
	return 0;
}

__noinline u64 outer_place(u64 place, u64 mount_number)
{
	for (int i = 0; i < AEGIS_MOUNTS_MAX; i++) {
		struct mount *mount = (void *)mount_number;
		u64 above;

		if (!mount_number || place != number_of(FIELD(false, mount, mnt.mnt_root)))
			return place;
		above = number_of(FIELD(false, mount, mnt_parent));
		if (above == mount_number)
			return 0;
		place = number_of(FIELD(false, mount, mnt_mountpoint));
		mount_number = above;
	}
	return 0;
}

/*
 * Writes the components of a path, innermost first, up to the root of its mount namespace; without
 * a mount, up to the root of its filesystem.
 */
enum { PATH_COMPONENTS_MAX = 64 };

static __always_inline void put_path(const struct path_buffer *path, u64 place, u64 vfsmount)
{
	u64 mount = vfsmount ? mount_of(vfsmount) : 0;

	for (int i = 0; i < PATH_COMPONENTS_MAX; i++) {
		u64 outer = outer_place(place, mount), above;

		mount = outer_mount(place, mount);
		above = outer ? parent_of(outer) : 0;
		if (above == outer)
			return; /* nothing more is known */
		if (!put_name(path, (struct dentry *)outer))
			return;
		place = above;
	}
	*path->truncated |= path->truncated_bit;
}

static __always_inline void put_exe(const struct path_buffer *path)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file *file = BPF_CORE_READ(task, mm, exe_file);

	/* A kernel thread runs no program. */
	if (file)
		put_path(path, (u64)BPF_CORE_READ(file, f_path.dentry),
			 (u64)BPF_CORE_READ(file, f_path.mnt));
}

/* Who was answered: the slot that did, and the scope. */
static __always_inline u64 pack_subject(struct subject subject)
{
	return (u64)subject.slot << 32 | subject.scope;
}

/*
 * @inode: what the answer is about
 * @dentry, @vfsmount: its path; without a mount, 0, as far as its filesystem knows it
 */
__noinline u32 report(u64 who, u64 packed, u64 dentry, u64 vfsmount, u64 inode_number)
{
	struct aegis_answer answer = unpack_answer(packed);
	u32 slot = who >> 32, scope = who;
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	struct aegis_count_key key = {.rule = answer.rule, .scope = scope};
	void *by_rule = bpf_map_lookup_elem(&counts, &slot);
	struct aegis_count *count = by_rule ? bpf_map_lookup_elem(by_rule, &key) : NULL;
	struct path_buffer path = {.size = AEGIS_EVENT_PATH, .truncated_bit = 1};
	struct path_buffer exe = {.size = AEGIS_EVENT_EXE, .truncated_bit = 2};
	struct aegis_event *event;
	u64 process = bpf_get_current_pid_tgid();

	if (count && answer.action < AEGIS_ACTIONS)
		__sync_fetch_and_add(&count->hits[answer.action], 1);

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		if (count)
			__sync_fetch_and_add(&count->drops, 1);
		return 0;
	}
	event->time = bpf_ktime_get_boot_ns();
	event->generation = generation ? generation->number : 0;
	event->cgroup = current_cgroup();
	event->inode = key_of(/* direct= */ false, (struct inode *)inode_number);
	event->rule = answer.rule;
	event->scope = scope;
	event->action = answer.action;
	event->access = answer.access;
	event->why = answer.why;
	event->pid = process >> 32;
	event->tid = process;
	event->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(event->comm, sizeof(event->comm));

	/* Without a mount it is not known where the filesystem is. */
	event->truncated = vfsmount ? 0 : path.truncated_bit;
	event->path_size = 0;
	path.bytes = event->path;
	path.used = &event->path_size;
	path.truncated = &event->truncated;
	put_path(&path, dentry, vfsmount);
	event->exe_size = 0;
	exe.bytes = event->exe;
	exe.used = &event->exe_size;
	exe.truncated = &event->truncated;
	put_exe(&exe);
	event->spared = answer.spared;
	bpf_ringbuf_submit(event, 0);
	return 1;
}

/*
 * What a hook returns for an answer, which is reported.
 *
 * From 6.12 on the verifier wants to see that only 0 and errors are returned: keep the compiler
 * from computing -EPERM out of the condition.
 */
static __always_inline int conclude(struct subject subject, packed_answer answer, u64 dentry,
				    u64 vfsmount, u64 inode)
{
	int denied;

	/* Allowed: no rule speaks. */
	if (!(u32)answer)
		return 0;
	answer = take_emergency(answer, /* is_guard= */ false);
	denied = is_denied(answer);
	report(pack_subject(subject), answer, dentry, vfsmount, inode);
	barrier_var(denied);
	/* Denied: a rule says so, or it could not be told. */
	if (denied)
		return -EPERM;
	/* Allowed: a rule only watches, its policy is in mode audit, or there is an emergency. */
	return 0;
}

#endif
