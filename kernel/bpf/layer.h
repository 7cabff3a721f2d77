/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Overlayfs copies a file from one layer to another, and what the old one is denied for the copy
 * is denied for as well.
 *
 * No hook tells which copy is made from which file (and none at all is called for a file whose
 * content follows later), but both are opened for it, by the same task, through mounts that only
 * the overlay has: one for reading, one for writing, in the order of the kernel's version. Who does
 * so may be denied nothing about either; this is for the sake of all others.
 */
#ifndef AEGIS_LAYER_H
#define AEGIS_LAYER_H

/* What is known of a copy of which one file is open already. One that failed is forgotten by age.
 */
struct copy {
	struct aegis_inode_key target;
	u64 labels[SLOT_MASK + 1]; /* of the source, by slot */
	u32 has_target;
	u32 has_more; /* the source is itself a file of an overlay, and what backs it comes next */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64); /* bpf_get_current_pid_tgid() */
	__type(value, struct copy);
} copies SEC(".maps");

/*
 * Whether a file was opened by a mount that is in no namespace: each overlay has one of its own for
 * each layer. What the kernel alone has mounted (memfd, message queues) is no layer.
 */
static __always_inline bool is_of_a_layer(struct file *file)
{
	struct mount *mount = (void *)mount_of(number_of(file->f_path.mnt));

	return FIELD(false, mount, mnt_ns) == MNT_NS_INTERNAL &&
	       !(file->f_inode->i_sb->s_flags & SB_KERNMOUNT);
}

/*
 * Since 6.1 the target is opened first. Nothing in a kernel's types tells that, but a helper came
 * with the same version.
 */
static __always_inline bool target_is_first(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id___probe,
					  BPF_FUNC_user_ringbuf_drain___probe);
}

static __always_inline bool is_of_overlay(u64 place)
{
	struct dentry *dentry = (void *)place;
	struct super_block *super = FIELD(false, dentry, d_sb);

	return FIELD(false, super, s_magic) == OVERLAYFS_SUPER_MAGIC;
}

/* What is denied for a file, wherever it may be denied, in one slot. */
static __always_inline found labels_of_layer(u32 slot, u64 place)
{
	found labels;

	/* Where no policy has an object, it may be a copy itself. */
	if (!has_objects_at(slot, place))
		return with_late_labels(slot, inode_of(place), true, 0);
	labels = found_both(own_labels(slot, inode_of(place), true), place_labels(slot, place, 0));
	/* Any rule on its filesystem. */
	if (labels & FOUND_INCOMPLETE)
		return found_one(label_of_filesystem_at(slot, place), AEGIS_WHY_LATE);
	return found_less(labels, 0);
}

/* What is known of the present task's copy, from now on. (Alone, for the sake of its stack.) */
__noinline u32 begin_copy(u64 target_number)
{
	u64 task = bpf_get_current_pid_tgid();
	struct copy copy = {.has_target = target_number != 0};

	if (target_number)
		copy.target = key_of(/* direct= */ false, (struct inode *)target_number);
	return !bpf_map_update_elem(&copies, &task, &copy, BPF_ANY);
}

/* What one slot denies for the source of a copy: for the copy as well, once that is known. */
__noinline u32 source_layer(u32 slot, u64 place)
{
	found labels = labels_of_layer(slot, place);
	u64 task = bpf_get_current_pid_tgid();
	struct copy *copy = bpf_map_lookup_elem(&copies, &task);

	if (!labels)
		return 0;
	if (!copy) /* no room to know of it: as good as lost */
		__sync_fetch_and_add(&marks[slot & SLOT_MASK].lost, 1);
	else if (copy->has_target)
		remember_by_key(slot, &copy->target, labels, 0, 0);
	else
		copy->labels[slot & SLOT_MASK] = found_both(copy->labels[slot & SLOT_MASK], labels);
	return 1;
}

/* The source of a copy is open, or what backs it where that is a file of an overlay. */
__noinline u32 copy_reads(u64 place)
{
	u64 task = bpf_get_current_pid_tgid();
	struct copy *copy = bpf_map_lookup_elem(&copies, &task);
	u32 any = 0;

	if (target_is_first() && !(copy && copy->has_target))
		return 0; /* no copy */
	if (!target_is_first() && !(copy && copy->has_more))
		begin_copy(0);
	else
		any = copy && copy->has_more;
	for (u32 slot = 1; slot < AEGIS_SLOTS; slot++)
		any |= source_layer(slot, place);
	copy = bpf_map_lookup_elem(&copies, &task);
	if (!copy)
		return 0;
	copy->has_more = is_of_overlay(place);
	if (!copy->has_more && (copy->has_target || !any))
		bpf_map_delete_elem(&copies, &task);
	return 0;
}

/* The copy itself is open. */
__noinline u32 copy_writes(u64 inode)
{
	u64 task = bpf_get_current_pid_tgid();
	struct copy *copy;

	if (target_is_first())
		return begin_copy(inode);
	copy = bpf_map_lookup_elem(&copies, &task);
	if (!copy)
		return 0; /* of what nobody is denied */
	for (u32 slot = 1; slot < AEGIS_SLOTS; slot++)
		if (copy->labels[slot])
			remember(slot, inode, copy->labels[slot], 0, 0);
	bpf_map_delete_elem(&copies, &task);
	return 0;
}

/* Whether what backs the source of the present task's copy comes next. */
__noinline u32 more_comes(void)
{
	u64 task = bpf_get_current_pid_tgid();
	struct copy *copy = bpf_map_lookup_elem(&copies, &task);

	return copy && copy->has_more;
}

/* A file was opened. */
static __always_inline void note_layer(struct file *file)
{
	u64 dentry, inode;

	if (!is_of_a_layer(file))
		return;
	dentry = number_of(file->f_path.dentry);
	inode = number_of(file->f_inode);
	/* What backs the source; up to 6.4 it has the path of the source itself. */
	if (!(file->f_mode & FMODE_WRITE) && more_comes()) {
		copy_reads(inode == inode_of(dentry) ? dentry : alias_of(inode));
		return;
	}
	/*
	 * What the task itself opens through the overlay is no copy: it has the overlay's path up
	 * to 6.4, and is not counted later. Neither is a copy since 6.1, but that has no name yet.
	 */
	if (inode != inode_of(dentry) || kind_of(inode) != S_IFREG ||
	    (file->f_mode & FMODE_NOACCOUNT && links_of(inode)))
		return;
	if (file->f_mode & FMODE_WRITE)
		copy_writes(inode);
	else
		copy_reads(dentry);
}

#endif
