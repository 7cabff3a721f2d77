/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hooks on entries of directories, and on what belongs to a file beside its content.
 *
 * In a scope they decide `write`, and refuse to move what would be denied less elsewhere; then,
 * whoever it is and in every slot, what leaves a place takes its labels along. All of these run
 * before anything has changed. That a move fails later for another reason leaves at most a label by
 * inode where the same label holds by name.
 */
#ifndef AEGIS_ENTRY_H
#define AEGIS_ENTRY_H

/* What an event about a place is about: what is not there yet is reported as its directory. */
static __always_inline u64 about(u64 place, u64 inode)
{
	return inode ? inode : inode_of(parent_of(place));
}

static __always_inline int judge_entry(struct subject subject, u64 place, u64 inode)
{
	packed_answer answer;

	/* Allowed: outside of every scope. */
	if (!subject.scope)
		return 0;
	answer =
		weigh_entry(subject.slot, question(subject.scope, 1U << AEGIS_WRITE), place, inode);
	return conclude(subject, answer, place, 0, about(place, inode));
}

static __always_inline int judge_refer(struct subject subject, u64 from, u64 to)
{
	if (!subject.scope)
		return 0;
	return conclude(subject, weigh_refer(subject.slot, subject.scope, from, to), from, 0,
			inode_of(from));
}

static __always_inline int judge_way(struct subject subject, u64 place, u64 inode)
{
	if (!subject.scope)
		return 0;
	return conclude(subject, weigh_way(subject.slot, subject.scope, place, inode), place, 0,
			about(place, inode));
}

/* Something gets a place, or one more: see weigh_way(). */
static __always_inline int judge_coming(struct subject subject, u64 from, u64 to)
{
	return kind_of(inode_of(from)) == S_IFLNK ? judge_way(subject, to, 0) : 0;
}

/* Called twice for RENAME_EXCHANGE, once for each direction. */
SEC("lsm/inode_rename")
int BPF_PROG(aegis_inode_rename, struct inode *old_dir, struct dentry *old, struct inode *new_dir,
	     struct dentry *new, int ret)
{
	struct subject subject = current_subject();
	u64 from = number_of(old), to = number_of(new), replaced;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	replaced = inode_of(to);
	if (judge_entry(subject, from, inode_of(from)) || judge_entry(subject, to, replaced) ||
	    judge_way(subject, from, inode_of(from)) || judge_refer(subject, from, to) ||
	    judge_coming(subject, from, to))
		return -EPERM;
	if (replaced && judge_way(subject, to, replaced))
		return -EPERM;
	note_move(subject, from, to, /* stays= */ false);
	/* What is replaced has left this name, and may have others. */
	if (replaced && (links_of(replaced) > 1 || kind_of(replaced) == S_IFLNK))
		note_move(subject, to, 0, /* stays= */ false);
	return 0;
}

SEC("lsm/inode_link")
int BPF_PROG(aegis_inode_link, struct dentry *old, struct inode *dir, struct dentry *new, int ret)
{
	struct subject subject = current_subject();
	u64 from = number_of(old), to = number_of(new);

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	if (judge_entry(subject, from, inode_of(from)) || judge_entry(subject, to, 0) ||
	    judge_refer(subject, from, to) || judge_coming(subject, from, to))
		return -EPERM;
	note_move(subject, from, to, /* stays= */ true);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(aegis_inode_unlink, struct inode *dir, struct dentry *dentry, int ret)
{
	struct subject subject = current_subject();
	u64 place = number_of(dentry), inode;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	inode = inode_of(place);
	if (judge_entry(subject, place, inode) || judge_way(subject, place, inode))
		return -EPERM;
	if (links_of(inode) > 1 || kind_of(inode) == S_IFLNK)
		note_move(subject, place, 0, /* stays= */ false);
	return 0;
}

SEC("lsm/inode_rmdir")
int BPF_PROG(aegis_inode_rmdir, struct inode *dir, struct dentry *dentry, int ret)
{
	struct subject subject = current_subject();
	u64 place = number_of(dentry), inode;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	inode = inode_of(place);
	if (judge_entry(subject, place, inode) || judge_way(subject, place, inode))
		return -EPERM;
	return 0;
}

SEC("lsm/inode_create")
int BPF_PROG(aegis_inode_create, struct inode *dir, struct dentry *dentry, int mode, int ret)
{
	return ret ? ret : judge_entry(current_subject(), number_of(dentry), 0);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(aegis_inode_mkdir, struct inode *dir, struct dentry *dentry, int mode, int ret)
{
	return ret ? ret : judge_entry(current_subject(), number_of(dentry), 0);
}

SEC("lsm/inode_mknod")
int BPF_PROG(aegis_inode_mknod, struct inode *dir, struct dentry *dentry, int mode, u32 device,
	     int ret)
{
	return ret ? ret : judge_entry(current_subject(), number_of(dentry), 0);
}

SEC("lsm/inode_symlink")
int BPF_PROG(aegis_inode_symlink, struct inode *dir, struct dentry *dentry, const char *target,
	     int ret)
{
	struct subject subject = current_subject();
	u64 place = number_of(dentry);

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	if (judge_entry(subject, place, 0) || judge_way(subject, place, 0))
		return -EPERM;
	for (u32 slot = 1; slot < AEGIS_SLOTS; slot++)
		link_changes(slot, place);
	return 0;
}

/*
 * Attributes, extended ones, and ACLs. What a mount maps users to was put before the dentry, at
 * different times for each hook.
 */
const volatile struct aegis_arguments arguments SEC(".rodata.arguments");

static __always_inline int judge_attribute(u64 first, u64 second, u32 at)
{
	u64 place = at ? second : first;

	return judge_entry(current_subject(), place, inode_of(place));
}

SEC("lsm/inode_setattr")
int aegis_inode_setattr(unsigned long long *ctx)
{
	return judge_attribute(number_of((void *)ctx[0]), number_of((void *)ctx[1]),
			       arguments.setattr_dentry);
}

SEC("lsm/inode_setxattr")
int aegis_inode_setxattr(unsigned long long *ctx)
{
	return judge_attribute(number_of((void *)ctx[0]), number_of((void *)ctx[1]),
			       arguments.setxattr_dentry);
}

SEC("lsm/inode_removexattr")
int aegis_inode_removexattr(unsigned long long *ctx)
{
	return judge_attribute(number_of((void *)ctx[0]), number_of((void *)ctx[1]),
			       arguments.removexattr_dentry);
}

/* Since 6.2; before, ACLs are extended attributes. */
SEC("?lsm/inode_set_acl")
int BPF_PROG(aegis_inode_set_acl, void *idmap, struct dentry *dentry)
{
	return judge_attribute(0, number_of(dentry), 1);
}

SEC("?lsm/inode_remove_acl")
int BPF_PROG(aegis_inode_remove_acl, void *idmap, struct dentry *dentry)
{
	return judge_attribute(0, number_of(dentry), 1);
}

/*
 * A filesystem goes, and its number may be given to the next: unless its rows are to hold for the
 * same one when it comes again.
 */
__noinline u32 filesystem_goes(u32 slot, u32 dev, u32 for_good)
{
	struct aegis_filesystem_row *row = filesystem_row(slot, dev);

	if (row && (for_good || !row->label))
		row->label = AEGIS_UNSEEN;
	return 0;
}

/*
 * An inode goes: from the kernel's memory alone, from its disk, or with a filesystem that is known
 * by a number of the kernel's own. What it took along goes with it in the last two cases, but not
 * on btrfs, where a file of a snapshot has the same numbers.
 */
SEC("lsm/inode_free_security")
int BPF_PROG(aegis_inode_free_security, struct inode *inode)
{
	struct super_block *super = inode->i_sb;
	bool all_go = !super->s_root, for_good = !(super->s_dev >> DEVICE_MINOR_BITS);
	bool it_goes = !inode->i_nlink || (all_go && for_good);

	if (super->s_magic == BTRFS_SUPER_MAGIC)
		it_goes = false;
	for (u32 slot = 1; slot < AEGIS_SLOTS; slot++) {
		if (all_go)
			filesystem_goes(slot, super->s_dev, for_good);
		if (it_goes && has_late_rows(slot))
			forget(slot, number_of(inode));
	}
	return 0;
}

/*
 * A link by whose name something is bound that is denied for whatever it may be is not followed
 * from inside: it may have been made to lead elsewhere. Any other link is followed, as long as
 * none on the way to an object was changed.
 */
SEC("lsm/inode_follow_link")
int BPF_PROG(aegis_inode_follow_link, struct dentry *dentry, struct inode *inode, bool rcu, int ret)
{
	struct subject subject = current_subject();
	u64 place;

	/* Somebody else has refused already. */
	if (ret)
		return ret;
	/* Allowed: outside of every scope. */
	if (!subject.scope)
		return 0;
	place = number_of(dentry);
	return conclude(subject, weigh_link(subject.slot, subject.scope, place), place, 0,
			inode_of(place));
}

#endif
