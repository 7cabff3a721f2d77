/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hooks on files.
 *
 * file_open is the one place that open, openat2, creat, open_by_handle_at, /proc/PID/fd, io_uring,
 * execve and its interpreters all pass, after the path is resolved and before any byte is
 * read, written or cut off. Opens with O_PATH do not pass it, and give no access to content.
 */
#ifndef AEGIS_FILE_H
#define AEGIS_FILE_H

static __always_inline u32 accesses_of_open(const struct file *file)
{
	return aegis_accesses_of_open(file->f_mode & FMODE_READ, file->f_mode & FMODE_WRITE,
				      file->f_flags & __FMODE_EXEC, file->f_flags & O_TRUNC);
}

static __always_inline void weigh_file(struct request *request, struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;
	struct vfsmount *vfsmount = file->f_path.mnt;
	struct inode *inode = file->f_inode;
	u32 slot = request->subject.slot;
	u32 strictest = filesystem_label(slot, inode->i_sb->s_dev);

	/* A filesystem without any object is not walked at all. */
	if (strictest) {
		found labels;

		if (inode == dentry->d_inode)
			labels = walk(/* direct= */ true, slot, dentry, inode, vfsmount->mnt_root,
				      0, 0);
		else
			labels = climb_aliases(slot, number_of(inode));
		weigh_found(request, labels, strictest);
		if (aegis_is_denied(&request->answer))
			return;
	}
	weigh_mounts(request, mount_of((void *)number_of(vfsmount)), number_of(dentry));
}

SEC("lsm/file_open")
int BPF_PROG(aegis_file_open, struct file *file, int ret)
{
	struct request request = {.subject = current_subject()};
	u32 slot = request.subject.slot;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	/* Allowed: outside of every scope, which is to say almost everybody. */
	if (!request.subject.scope)
		return 0;

	request.wanted = accesses_of_open(file);
	request.generation = bpf_map_lookup_elem(&generations, &slot);
	request.verdicts = bpf_map_lookup_elem(&verdicts, &slot);
	/* Denied: a scope without its generation. A slot that gave the scope has both. */
	if (!request.generation || !request.verdicts)
		return -EPERM;

	weigh_file(&request, file);
	/* Allowed: no rule speaks. */
	if (!request.answer.rule)
		return 0;
	report(&request, file);
	/* Denied by a rule; else a rule only watches, or its policy is in mode audit. */
	return aegis_is_denied(&request.answer) ? -EPERM : 0;
}

#endif
