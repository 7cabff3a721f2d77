/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file of an overlay is two: the one that was opened, and the one in a layer that backs it. Each
 * is opened, and asked for. A mapping is made of the one in the layer, but mmap_file is called for
 * the other alone, and file_mprotect for what is mapped alone. What holds for either holds for the
 * mapping.
 */
#ifndef AEGIS_BACKING_H
#define AEGIS_BACKING_H

/* What else an open file is; no path: it is nothing else. */
struct half {
	u64 path;
	u64 inode;
};

/* Whether a number is an open file: what is mapped of one belongs to its inode. */
static __always_inline bool is_file(u64 number)
{
	struct file *file = (void *)number;
	u64 inode = number_of(BPF_CORE_READ(file, f_inode));

	return inode && inode == number_of(BPF_CORE_READ(file, f_mapping, host));
}

/*
 * The file that backs one of an overlay; 0: it is not found. Up to 6.12 the private data is that
 * file, since 6.13 a structure that begins with it.
 */
static __always_inline u64 backing_of(struct file *file)
{
	u64 number = number_of(file->private_data), first = 0;

	if (is_file(number))
		return number;
	bpf_probe_read_kernel(&first, sizeof(first), (void *)number);
	return is_file(first) ? first : 0;
}

/*
 * The path by which the other half of a file that backs one was opened; 0: it backs none. Up to 6.7
 * it is the file's own, with an inode that is not its own. Later it follows the file; which bit
 * says so differs from version to version, but what follows any other file is no path.
 */
static __always_inline u64 path_before(struct file *file)
{
	u64 number = number_of(file);

	if (file->f_inode != file->f_path.dentry->d_inode)
		return number + bpf_core_field_offset(struct file, f_path);
	if (bpf_core_field_exists(struct backing_file, user_path)) {
		struct path *path =
			(void *)(number + bpf_core_field_offset(struct backing_file, user_path));
		u64 super = number_of(BPF_CORE_READ(path, dentry, d_sb));

		if (super && super == number_of(BPF_CORE_READ(path, mnt, mnt_root, d_sb)))
			return number_of(path);
	}
	return 0;
}

static __always_inline struct half other_half(struct file *file)
{
	struct half half = {};

	if (file->f_inode->i_sb->s_magic == OVERLAYFS_SUPER_MAGIC) {
		struct file *backing = (void *)backing_of(file);

		half.inode = number_of(BPF_CORE_READ(backing, f_inode));
		half.path = (u64)backing + bpf_core_field_offset(struct file, f_path);
	} else {
		struct path *path = (void *)(half.path = path_before(file));

		half.inode = number_of(BPF_CORE_READ(path, dentry, d_inode));
	}
	return half;
}

/* Adds what holds for the other half, on its own filesystem and where that is mounted. */
static __always_inline packed_answer weigh_half(u32 slot, u64 asked, struct file *file,
						packed_answer answer)
{
	struct half half = other_half(file);
	struct path *path = (void *)half.path;
	struct vfsmount *vfsmount;
	packed_answer other;
	u64 dentry;

	if (!half.path)
		return answer;
	/* A file of an overlay with nothing behind it that we know: it cannot be told. */
	if (!half.inode)
		return weigh_found(slot, asked, FOUND_INCOMPLETE, unknown_label(slot), answer);
	dentry = number_of(BPF_CORE_READ(path, dentry));
	vfsmount = BPF_CORE_READ(path, mnt);
	other = weigh_object(slot, asked, dentry, number_of(FIELD(false, vfsmount, mnt_root)),
			     half.inode);
	if (!is_denied(other))
		other = weigh_mounts(slot, asked, mount_of(number_of(vfsmount)), dentry, other);
	return is_denied(other) || !answer ? other : answer;
}

#endif
