/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is touched: the labels of a file.
 *
 * From the file upwards, the nearest label that a name leads to decides:
 *
 *   1. its own, by inode;
 *   2. its name's, where names are bound in the directory that holds it;
 *   3. those of each directory above it, by inode and by name;
 *   4. across the mount point, which can only add denials.
 *
 * A thing that is known by its inode alone is not where policies name it: it was moved, or has one
 * more name. Its label counts, and so does what lies above. A directory that took the place of
 * one that policies name has no row, but its name has: names are then followed down again
 * (descend), so nobody needs to be told when something on the way is replaced or appears.
 *
 * Not covered here: what has left its name since the generation was filled.
 */
#ifndef AEGIS_OBJECT_H
#define AEGIS_OBJECT_H

/*
 * What a walk found, in one word: three labels of 13 bits, why each holds in 3 bits, and whether
 * the walk came to its end. (Global functions are verified once and not at each call; on 5.10 they
 * take and return nothing but numbers.)
 */
typedef u64 found;
#define FOUND_ONE 0xffffULL
#define FOUND_LABEL 0x1fffULL
#define FOUND_INCOMPLETE (1ULL << 63)

_Static_assert(AEGIS_LABELS_MAX - 1 <= FOUND_LABEL, "a label has 13 bits");

static __always_inline found found_one(u32 label, u32 why)
{
	return (label & FOUND_LABEL) | (u64)why << 13;
}

/* Adds a label, unless it is there; a fourth is more than a walk can tell. */
__noinline u64 found_also(u64 labels, u32 label, u32 why)
{
	for (int at = 0; at < 48; at += 16) {
		if (!(labels >> at & FOUND_ONE))
			return labels | found_one(label, why) << at;
		if ((labels >> at & FOUND_LABEL) == label)
			return labels;
	}
	return labels | FOUND_INCOMPLETE;
}

/* A whole name and its key would not fit on the stack: pieces of 31 bytes and a NUL. */
__noinline u64 name_hash(u64 name, u64 seed)
{
	u64 hash = seed;

	for (int i = 0; i * 31 <= AEGIS_NAME_MAX; i++) {
		u64 piece[4] = {};
		long size =
			bpf_probe_read_kernel_str(piece, sizeof(piece), (void *)(name + i * 31));

		for (int word = 0; word < 4; word++)
			hash = aegis_hash_word(hash, piece[word]);
		if (size < (long)sizeof(piece))
			break;
	}
	return hash;
}

/* A pointer that the verifier knows, as the number that a global function takes. */
static __always_inline u64 number_of(const void *pointer)
{
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

/* The row of a name below a node of the tree of paths; NULL if it is not bound. */
static __always_inline struct aegis_object_row *name_row(void *names, u64 seed, u32 node,
							 const unsigned char *name)
{
	struct aegis_name_key key = {
		.node = node,
		.kind = AEGIS_NAME,
		.hash = name_hash(number_of(name), seed),
	};

	return bpf_map_lookup_elem(names, &key);
}

/* The entry of the directory `top` on the way to `bottom` below it; 0 if `bottom` is not below. */
__noinline u64 child_towards(u64 top, u64 bottom)
{
	struct dentry *child = (void *)bottom;

	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *parent = BPF_CORE_READ(child, d_parent);

		if ((u64)parent == top)
			return (u64)child;
		if (parent == child)
			return 0;
		child = parent;
	}
	return 0;
}

/*
 * Follows the tree of names down from `node`, along the way that leads from the directory `top` to
 * `bottom`: the nearest label that names alone give. Only needed where a directory on the way is
 * not the one that was there when the generation was filled, and below mount points.
 */
enum { DESCEND_MAX = 32 };

__noinline u64 descend(u32 slot, u64 bottom, u64 top, u32 node)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	void *rows = bpf_map_lookup_elem(&names, &slot);
	found nearest = 0;

	if (!generation || !rows)
		return FOUND_INCOMPLETE;
	for (int level = 0; level < DESCEND_MAX; level++) {
		struct aegis_object_row *row;
		struct dentry *child;
		bool object;

		if (!node || bottom == top)
			return nearest;
		child = (void *)child_towards(top, bottom);
		if (!child)
			return nearest | FOUND_INCOMPLETE; /* too deep, or moved meanwhile */
		row = name_row(rows, generation->seed, node, BPF_CORE_READ(child, d_name.name));
		if (!row)
			return nearest;
		object = (u64)child == bottom;
		if (row->label && (object || row->flags & AEGIS_ROW_DIRECTORY))
			nearest = found_one(row->label,
					    object ? AEGIS_WHY_NAME : AEGIS_WHY_DIRECTORY);
		node = row->node;
		top = (u64)child;
	}
	return nearest | FOUND_INCOMPLETE; /* more levels of names than are followed */
}

/*
 * One field of a kernel structure. `direct`: the verifier knows the pointer, and a field is one
 * instruction; else the pointer is a number, and a field is a call.
 */
#define FIELD(direct, pointer, field) ((direct) ? (pointer)->field : BPF_CORE_READ(pointer, field))

/*
 * One filesystem's part of a walk: from an object, or from the mount point that it lies below, up
 * to the filesystem's root. Compiled twice, for both kinds of pointers (see FIELD).
 *
 * @mount_root: where the mount begins by which we came; not always the filesystem's root
 * @below, @bottom: for a mount point, the root of the mount on it and the object below; numbers
 */
static __always_inline found walk(const bool direct, u32 slot, struct dentry *dentry,
				  struct inode *inode, struct dentry *mount_root, u64 below,
				  u64 bottom)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	void *by_inode = bpf_map_lookup_elem(&objects, &slot);
	void *by_name = bpf_map_lookup_elem(&names, &slot);
	bool is_object = direct || below == bottom;
	/* What a label needs to count here: for the object itself nothing, above it to be a
	 * directory's. */
	u32 counts = is_object ? AEGIS_ROW_DIRECTORY : 0;
	struct aegis_inode_key key = {};
	struct super_block *super;
	struct dentry *child = dentry;
	struct aegis_object_row *row, *name;
	found labels = unknown_zero;
	u32 child_node = unknown_zero;

	if (!generation || !by_inode || !by_name)
		return FOUND_INCOMPLETE;

	/* The object itself, or what stands in its place on this side of the mount. */
	key.ino = FIELD(direct, inode, i_ino);
	super = FIELD(direct, inode, i_sb);
	key.dev = FIELD(direct, super, s_dev);
	key.generation = FIELD(direct, inode, i_generation);
	row = bpf_map_lookup_elem(by_inode, &key);
	if (row) {
		child_node = row->node;
		/* Whatever is mounted here still has the names that are bound below this place. */
		if (!is_object && child_node)
			labels = descend(slot, bottom, below, child_node);
		if (labels)
			return labels;
		if (row->label && (row->flags | counts) & AEGIS_ROW_DIRECTORY)
			labels = found_one(row->label,
					   is_object ? AEGIS_WHY_INODE : AEGIS_WHY_DIRECTORY);
	}

	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *parent = FIELD(direct, child, d_parent);

		if (parent == child) {
			/* The root; but that of a handle that is not connected is none. */
			if (child != mount_root && child != FIELD(direct, super, s_root))
				labels |= FOUND_INCOMPLETE;
			return labels;
		}
		inode = FIELD(direct, parent, d_inode);
		if (!inode)
			return labels | FOUND_INCOMPLETE; /* taken apart under our hands */
		key.ino = FIELD(direct, inode, i_ino);
		key.generation = FIELD(direct, inode, i_generation);
		row = bpf_map_lookup_elem(by_inode, &key);
		if (!row)
			goto next;

		/* The name of what we came from. */
		if (row->node) {
			/* Where case is ignored names are as somebody typed them: they tell
			 * nothing. */
			if (FIELD(direct, inode, i_flags) & S_CASEFOLD)
				return labels | FOUND_INCOMPLETE;
			name = name_row(by_name, generation->seed, row->node,
					FIELD(direct, child, d_name.name));
			/* Not the directory that was resolved: below it, names alone tell. */
			if (name && i && name->node && name->node != child_node) {
				found deeper = descend(slot, number_of(dentry), number_of(child),
						       name->node);

				if (deeper)
					return found_also(labels, deeper & FOUND_LABEL,
							  deeper >> 13 & 7) |
					       (deeper & FOUND_INCOMPLETE);
			}
			if (name && name->label && (name->flags | counts) & AEGIS_ROW_DIRECTORY)
				return found_also(labels, name->label,
						  i ? AEGIS_WHY_DIRECTORY : AEGIS_WHY_NAME);
		}
		/* The directory itself; its own name is compared in the next round. */
		if (row->label && row->flags & AEGIS_ROW_DIRECTORY)
			labels = found_also(labels, row->label, AEGIS_WHY_DIRECTORY);
	next:
		child_node = row ? row->node : 0;
		counts = 0;
		child = parent;
	}
	return labels | FOUND_INCOMPLETE; /* deeper than we climb */
}

/* From an object that was just opened. A function, so that its stack is not its caller's as well.
 */
static __noinline found walk_object(u32 slot, struct dentry *dentry, struct inode *inode,
				    struct dentry *mount_root)
{
	return walk(/* direct= */ true, slot, dentry, inode, mount_root, 0, 0);
}

/* The same from a place that is only known as a number: a mount point, or another name. */
__noinline u64 climb(u32 slot, u64 place, u64 mount_number, u64 below, u64 bottom)
{
	struct dentry *dentry = (void *)place;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct mount *mount = (void *)mount_number;

	if (!inode)
		return FOUND_INCOMPLETE;
	return walk(/* direct= */ false, slot, dentry, inode, BPF_CORE_READ(mount, mnt.mnt_root),
		    below, bottom);
}

/*
 * Overlayfs up to 6.4 opens the file below with its own path on it: then the names of the
 * inode are what its filesystem knows of it. Usually that is one.
 */
enum { ALIASES_MAX = 4 };

__noinline u64 climb_aliases(u32 slot, u64 inode_number)
{
	struct inode *inode = (void *)inode_number;
	struct hlist_node *alias = BPF_CORE_READ(inode, i_dentry.first);
	found nearest = 0;
	u64 offset;

	if (bpf_core_field_exists(((struct dentry___nested *)0)->d_u.d_alias))
		offset = bpf_core_field_offset(struct dentry___nested, d_u.d_alias);
	else
		offset = bpf_core_field_offset(struct dentry___flat, d_alias);

	for (int i = 0; i < ALIASES_MAX; i++) {
		found labels;

		if (!alias)
			return i ? nearest : FOUND_INCOMPLETE;
		labels = climb(slot, (u64)alias - offset, 0, 0, 0);
		/* Names that disagree: one of them is enough to be strict about. */
		if (nearest && labels && labels != nearest)
			nearest |= FOUND_INCOMPLETE;
		else if (labels)
			nearest = labels;
		alias = BPF_CORE_READ(alias, next);
	}
	return alias ? nearest | FOUND_INCOMPLETE : nearest;
}

#endif
