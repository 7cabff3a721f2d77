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
	u64 question = question_of(request);
	u32 strictest = filesystem_label(slot, inode->i_sb->s_dev);

	/* A filesystem without any object is not walked at all. */
	if (strictest) {
		found labels;

		if (inode == dentry->d_inode)
			labels = walk_object(slot, dentry, inode, vfsmount->mnt_root);
		else
			labels = climb_aliases(slot, number_of(inode));
		if (labels)
			request->answer =
				weigh_found(slot, question, labels, strictest, request->answer);
		if (is_denied(request->answer))
			return;
	}
	request->answer = weigh_mounts(slot, question, mount_of(number_of(vfsmount)),
				       number_of(dentry), request->answer);
}

SEC("lsm/file_open")
int BPF_PROG(aegis_file_open, struct file *file, int ret)
{
	struct request request = {.subject = current_subject()};
	int denied;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	/* Allowed: outside of every scope, which is to say almost everybody. */
	if (!request.subject.scope)
		return 0;

	request.wanted = accesses_of_open(file);
	weigh_file(&request, file);
	/* Allowed: no rule speaks. */
	if (!(u32)request.answer)
		return 0;
	take_emergency(&request, /* is_guard= */ false);
	report(&request, file);
	/*
	 * From 6.12 on the verifier wants to see that only 0 and errors are returned: keep the
	 * compiler from computing -EPERM out of the condition.
	 */
	denied = is_denied(request.answer);
	barrier_var(denied);
	/* Denied: a rule says so, or it could not be told. */
	if (denied)
		return -EPERM;
	/* Allowed: a rule only watches, its policy is in mode audit, or there is an emergency. */
	return 0;
}

#endif
