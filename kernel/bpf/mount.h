/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hooks on mounts. None of them refuses anything: they mark the slots in which something came or
 * went on, beneath or on the way to an object, so that policies are bound afresh; until then a
 * filesystem that was not there when they were bound may be part of any object.
 *
 * Names are those of the host's mount namespace. Whoever has made a user namespace of his own can
 * mount nothing there, and so nothing that he mounts is a reason to mark anything.
 */
#ifndef AEGIS_MOUNT_H
#define AEGIS_MOUNT_H

static __always_inline bool is_hosts_namespace(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return !BPF_CORE_READ(task, nsproxy, mnt_ns, user_ns, level);
}

/* Whether policies name a place, or anything above or below it. */
__noinline u32 mount_changes(u32 slot, u64 place)
{
	if (!has_objects_at(slot, place))
		return 0;
	if (bound_name(slot, place) || place_labels(slot, place, 0) ||
	    own_labels(slot, inode_of(place), true) || (u32)known_row(slot, inode_of(place)))
		__sync_fetch_and_add(&marks[slot & SLOT_MASK].mounts, 1);
	return 0;
}

static __always_inline int note_mount(u64 place, int ret)
{
	if (ret || !is_hosts_namespace())
		return ret;
	for (u32 slot = 1; slot < AEGIS_SLOTS; slot++)
		mount_changes(slot, place);
	return 0;
}

/*
 * Whether something is mounted, and not only told how to be: each unshare of a mount namespace
 * makes all mounts private. The order is that of path_mount().
 */
static __always_inline bool brings_something(u64 flags)
{
	return !(flags & MS_REMOUNT) && (flags & MS_BIND || !(flags & MS_PROPAGATION));
}

SEC("lsm/sb_mount")
int BPF_PROG(aegis_sb_mount, const char *device, const struct path *path, const char *type,
	     unsigned long flags, void *data, int ret)
{
	if (!brings_something(flags))
		return ret;
	return note_mount(number_of(path->dentry), ret);
}

SEC("lsm/move_mount")
int BPF_PROG(aegis_move_mount, const struct path *from, const struct path *to, int ret)
{
	note_mount(number_of(from->dentry), ret);
	return note_mount(number_of(to->dentry), ret);
}

SEC("lsm/sb_umount")
int BPF_PROG(aegis_sb_umount, struct vfsmount *vfsmount, int flags, int ret)
{
	struct mount *mount = (void *)mount_of(number_of(vfsmount));

	note_mount(number_of(FIELD(false, mount, mnt.mnt_root)), ret);
	return note_mount(number_of(FIELD(false, mount, mnt_mountpoint)), ret);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(aegis_sb_pivotroot, const struct path *old, const struct path *new, int ret)
{
	note_mount(number_of(old->dentry), ret);
	return note_mount(number_of(new->dentry), ret);
}

#endif
