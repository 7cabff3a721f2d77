/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hooks on open files.
 *
 * file_open is the one place that open, openat2, creat, open_by_handle_at, /proc/PID/fd, io_uring,
 * execve and its interpreters all pass, after the path is resolved and before any byte is
 * read, written or cut off. Opens with O_PATH do not pass it, and give no access to content.
 *
 * mmap_file and file_mprotect decide what a mapping of a file may be used for: running it without
 * execve, and whatever a descriptor from before was opened for.
 */
#ifndef AEGIS_FILE_H
#define AEGIS_FILE_H

static __always_inline u32 accesses_of_open(const struct file *file)
{
	return aegis_accesses_of_open(file->f_mode & FMODE_READ, file->f_mode & FMODE_WRITE,
				      file->f_flags & __FMODE_EXEC, file->f_flags & O_TRUNC);
}

/* Numbers are made from the file whenever they are needed: kept, they would fill the stack. */
static __always_inline u64 dentry_of(struct file *file)
{
	return number_of(file->f_path.dentry);
}

static __always_inline u64 vfsmount_of(struct file *file)
{
	return number_of(file->f_path.mnt);
}

/* What holds for a file where nothing has moved: see weigh_object(). */
static __always_inline packed_answer weigh_unmoved(u32 slot, u64 asked, struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;
	struct vfsmount *vfsmount = file->f_path.mnt;
	struct inode *inode = file->f_inode;
	u32 strictest = filesystem_label(slot, inode->i_sb->s_dev);
	found labels;

	/* A filesystem without any object is not walked at all. */
	if (!strictest)
		return 0;
	if (strictest == AEGIS_UNSEEN)
		return weigh_elsewhere(slot, asked, number_of(inode->i_sb), number_of(inode),
				       strictest);
	if (inode == dentry->d_inode)
		labels = walk_object(slot, dentry, inode, vfsmount->mnt_root);
	else
		labels = climb_aliases(slot, number_of(inode));
	return labels ? weigh_found(slot, asked, labels, strictest, 0) : 0;
}

static __always_inline packed_answer weigh_moved(u32 slot, u64 asked, struct file *file)
{
	struct vfsmount *vfsmount = file->f_path.mnt;

	return weigh_object(slot, asked, dentry_of(file), number_of(vfsmount->mnt_root),
			    number_of(file->f_inode));
}

/*
 * The answer about an open file.
 *
 * One that allows is void if something has left its place meanwhile: it may have been looked for
 * by name after it was gone, and among what is gone before it was there. Then all is decided
 * again; if that happens three times, it cannot be told.
 *
 * @is_mapping: nobody asks for the other half of an overlay's file. An open is worth a second walk
 *              in the program, which is faster
 */
static __always_inline int judge_file(const bool is_mapping, struct subject subject,
				      struct file *file, u32 wanted)
{
	volatile struct aegis_marks *mark = &marks[subject.slot & SLOT_MASK];
	u64 asked = question(subject.scope, wanted);
	packed_answer answer;
	u32 epoch;

	for (int i = 0; i < 3; i++) {
		epoch = mark->epoch;
		if (!is_mapping && !i && !has_moved(subject.slot))
			answer = weigh_unmoved(subject.slot, asked, file);
		else
			answer = weigh_moved(subject.slot, asked, file);
		if (!is_denied(answer))
			answer = weigh_mounts(subject.slot, asked, mount_of(vfsmount_of(file)),
					      dentry_of(file), answer);
		if (is_mapping && !is_denied(answer))
			answer = weigh_half(subject.slot, asked, file, answer);
		if (is_denied(answer) || mark->epoch == epoch)
			goto decided;
	}
	answer = weigh_found(subject.slot, asked, FOUND_INCOMPLETE, unknown_label(subject.slot), 0);
decided:
	return conclude(subject, answer, dentry_of(file), vfsmount_of(file),
			number_of(file->f_inode));
}

SEC("lsm/file_open")
int BPF_PROG(aegis_file_open, struct file *file, int ret)
{
	struct subject subject = current_subject();

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	/* Outside of every scope, which is to say for almost everybody, nothing is asked. */
	if (subject.scope &&
	    judge_file(/* is_mapping= */ false, subject, file, accesses_of_open(file)))
		return -EPERM;
	note_layer(file);
	return 0;
}

/* What may be done through a mapping of a file. */
static __always_inline int judge_mapping(struct file *file, u32 wanted)
{
	struct subject subject = current_subject();

	/* Allowed: outside of every scope, or a mapping that nobody can use. */
	if (!subject.scope || !wanted)
		return 0;
	/* What was opened to be run is mapped to be run, whatever else its pages are for. */
	if (file->f_flags & __FMODE_EXEC)
		wanted = 1U << AEGIS_EXEC;
	return judge_file(/* is_mapping= */ true, subject, file, wanted);
}

SEC("lsm/mmap_file")
int BPF_PROG(aegis_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot,
	     unsigned long flags, int ret)
{
	u32 type = flags & MAP_TYPE;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	/* Allowed: memory of no file. */
	if (!file)
		return 0;
	return judge_mapping(file, aegis_accesses_of_mapping(
					   prot & PROT_READ, prot & PROT_WRITE, prot & PROT_EXEC,
					   type == MAP_SHARED || type == MAP_SHARED_VALIDATE));
}

SEC("lsm/file_mprotect")
int BPF_PROG(aegis_file_mprotect, struct vm_area_struct *area, unsigned long reqprot,
	     unsigned long prot, int ret)
{
	struct file *file;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	file = area->vm_file;
	/* Allowed: memory of no file. */
	if (!file)
		return 0;
	return judge_mapping(file, aegis_accesses_of_mapping(prot & PROT_READ, prot & PROT_WRITE,
							     prot & PROT_EXEC,
							     area->vm_flags & VM_SHARED));
}

#endif
