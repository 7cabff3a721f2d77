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
static __always_inline bool put_name(const bool direct, const struct path_buffer *path,
				     struct dentry *dentry)
{
	u8 *end;
	u32 used = *path->used;
	u32 size = FIELD(direct, dentry, d_name.len) & AEGIS_NAME_MAX;

	if (used > path->size) {
		*path->truncated |= path->truncated_bit;
		return false;
	}
	end = path->bytes + used;
	bpf_probe_read_kernel(end, size, FIELD(direct, dentry, d_name.name));
	end[size] = 0;
	*path->used = used + size + 1;
	return true;
}

/*
 * Writes the components of a path, innermost first, up to the root of its mount namespace. Within
 * the first filesystem fields are read directly, since most paths end there.
 */
enum { PATH_COMPONENTS_MAX = 64 };

static __always_inline void put_path(const bool direct, const struct path_buffer *path,
				     struct dentry *dentry, struct vfsmount *vfsmount)
{
	struct dentry *mount_root = FIELD(direct, vfsmount, mnt_root);
	u64 here, above;

	for (int i = 0; i < PATH_COMPONENTS_MAX; i++) {
		struct dentry *parent = FIELD(direct, dentry, d_parent);

		if (dentry == mount_root || parent == dentry)
			goto crossing;
		if (!put_name(direct, path, dentry))
			return;
		dentry = parent;
	}
	*path->truncated |= path->truncated_bit;
	return;

crossing:
	here = mount_of(number_of(vfsmount));
	for (int i = 0; i < PATH_COMPONENTS_MAX; i++) {
		struct mount *mount = (void *)here;
		struct dentry *parent;

		if (dentry == FIELD(false, mount, mnt.mnt_root)) {
			above = number_of(FIELD(false, mount, mnt_parent));
			if (above == here)
				return; /* the root of the mount namespace */
			dentry = FIELD(false, mount, mnt_mountpoint);
			here = above;
			continue;
		}
		parent = FIELD(false, dentry, d_parent);
		if (parent == dentry)
			return; /* not below its mount's root: nothing more is known */
		if (!put_name(false, path, dentry))
			return;
		dentry = parent;
	}
	*path->truncated |= path->truncated_bit;
}

static __always_inline void put_exe(const struct path_buffer *path)
{
	struct file *file;

	if (bpf_core_enum_value_exists(enum bpf_func_id___probe,
				       BPF_FUNC_get_current_task_btf___probe)) {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();

		if (!task->mm)
			return; /* a kernel thread runs no program */
		file = task->mm->exe_file;
		if (file)
			put_path(/* direct= */ true, path, file->f_path.dentry, file->f_path.mnt);
	} else {
		struct task_struct *task = (void *)bpf_get_current_task();

		file = BPF_CORE_READ(task, mm, exe_file);
		if (file)
			put_path(/* direct= */ false, path, BPF_CORE_READ(file, f_path.dentry),
				 BPF_CORE_READ(file, f_path.mnt));
	}
}

static __noinline void report(const struct request *request, struct file *file)
{
	struct aegis_answer answer = unpack_answer(request->answer);
	u32 slot = request->subject.slot;
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	struct aegis_count_key key = {.rule = answer.rule, .scope = request->subject.scope};
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
		return;
	}
	event->time = bpf_ktime_get_boot_ns();
	event->generation = generation ? generation->number : 0;
	event->cgroup = current_cgroup();
	event->inode.ino = file->f_inode->i_ino;
	event->inode.dev = file->f_inode->i_sb->s_dev;
	event->inode.generation = file->f_inode->i_generation;
	event->rule = answer.rule;
	event->scope = request->subject.scope;
	event->action = answer.action;
	event->access = answer.access;
	event->why = answer.why;
	event->pid = process >> 32;
	event->tid = process;
	event->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(event->comm, sizeof(event->comm));

	event->truncated = 0;
	event->path_size = 0;
	path.bytes = event->path;
	path.used = &event->path_size;
	path.truncated = &event->truncated;
	put_path(/* direct= */ true, &path, file->f_path.dentry, file->f_path.mnt);
	event->exe_size = 0;
	exe.bytes = event->exe;
	exe.used = &event->exe_size;
	exe.truncated = &event->truncated;
	put_exe(&exe);
	event->spared = answer.spared;
	bpf_ringbuf_submit(event, 0);
}

#endif
