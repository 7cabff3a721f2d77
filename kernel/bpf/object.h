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

/* A row in one word; 0: there is none. Each row has a label or a node. */
#define ROW_DIRECTORY (1ULL << 63)

static __always_inline u64 pack_object(const struct aegis_object_row *row)
{
	return (row->flags & AEGIS_ROW_DIRECTORY ? ROW_DIRECTORY : 0) |
	       (row->label & FOUND_LABEL) << 32 | row->node;
}

/*
 * The row of a name below a node of the tree of paths. The name is read in pieces of 23 bytes and a
 * NUL, since a whole one does not fit on the stack.
 */
__noinline u64 named(u32 slot, u32 node, u64 name)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	void *rows = bpf_map_lookup_elem(&names, &slot);
	struct aegis_name_key key = {.node = node, .kind = AEGIS_NAME};
	struct aegis_object_row *row;

	/* A slot that decides has both. */
	if (!generation || !rows || !node)
		return 0;
	key.hash = generation->seed;
	for (int i = 0; i * 23 <= AEGIS_NAME_MAX; i++) {
		u64 piece[3] = {};
		long size =
			bpf_probe_read_kernel_str(piece, sizeof(piece), (void *)(name + i * 23));

		for (int word = 0; word < 3; word++)
			key.hash = aegis_hash_word(key.hash, piece[word]);
		if (size < (long)sizeof(piece))
			break;
	}
	row = bpf_map_lookup_elem(rows, &key);
	return row ? pack_object(row) : 0;
}

/* The entry of the directory `top` on the way to `bottom` below it; 0 if `bottom` is not below. */
__noinline u64 child_towards(u64 top, u64 bottom)
{
	struct dentry *child = (void *)bottom;

	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *parent = FIELD(false, child, d_parent);

		if (number_of(parent) == top)
			return number_of(child);
		if (parent == child)
			return 0;
		child = parent;
	}
	return 0;
}

/*
 * Follows the tree of names down from `node`, along the way that leads from the directory `top` to
 * `object`: the nearest label that names alone give. Only needed where a directory on the way is
 * not the one that was there when the generation was filled, and below mount points.
 */
enum { DESCEND_MAX = 32 };

__noinline u64 descend(u32 slot, u64 object, u64 top, u32 node)
{
	found nearest = 0;

	for (int level = 0; level < DESCEND_MAX; level++) {
		struct dentry *child;
		u64 row;

		if (!node || top == object)
			return nearest;
		top = child_towards(top, object);
		if (!top)
			return nearest | FOUND_INCOMPLETE; /* too deep, or moved meanwhile */
		child = (void *)top;
		row = named(slot, node, number_of(FIELD(false, child, d_name.name)));
		if (!row)
			return nearest;
		if (row >> 32 & FOUND_LABEL && (top == object || row & ROW_DIRECTORY))
			nearest = found_one(row >> 32 & FOUND_LABEL,
					    top == object ? AEGIS_WHY_NAME : AEGIS_WHY_DIRECTORY);
		node = row;
	}
	return nearest | FOUND_INCOMPLETE; /* more levels of names than are followed */
}

/* The row of an inode. */
static __always_inline u64 row_of(const bool direct, u32 slot, struct inode *inode)
{
	void *by_inode = bpf_map_lookup_elem(&objects, &slot);
	struct super_block *super = FIELD(direct, inode, i_sb);
	struct aegis_inode_key key = {
		.ino = FIELD(direct, inode, i_ino),
		.dev = FIELD(direct, super, s_dev),
		.generation = FIELD(direct, inode, i_generation),
	};
	struct aegis_object_row *row = by_inode ? bpf_map_lookup_elem(by_inode, &key) : NULL;

	return row ? pack_object(row) : 0;
}

/* What an inode's own row says of it, as the object itself or as a directory above it. */
static __always_inline found own_label(u64 row, bool is_object)
{
	if (!(row >> 32 & FOUND_LABEL) || !(is_object || row & ROW_DIRECTORY))
		return 0;
	return found_one(row >> 32 & FOUND_LABEL,
			 is_object ? AEGIS_WHY_INODE : AEGIS_WHY_DIRECTORY);
}

/*
 * What is known of the entry that a walk comes from: the slot, the node of its own row, and whether
 * it is what was asked for, so that any label of its name counts and not only a directory's.
 */
#define ENTRY_IS_OBJECT (1ULL << 62)

static __always_inline u64 pack_entry(u32 slot, u32 node, u64 flags)
{
	return flags | (u64)(slot & SLOT_MASK) << 32 | node;
}

/* What a step adds to a found when the walk is at its end. */
#define FOUND_LAST (1ULL << 62)

/*
 * One step of a walk: what a directory with a row says of its entry `child`, on the way to
 * `object`, and of itself. The names of entries are compared here.
 */
__noinline u64 step(u64 directory, u64 entry, u64 child_number, u64 object, u64 labels)
{
	struct dentry *child = (void *)child_number, *parent = FIELD(false, child, d_parent);
	struct inode *inode = FIELD(false, parent, d_inode);
	u32 slot = entry >> 32 & SLOT_MASK;
	u64 name = 0;

	if ((u32)directory) {
		/* Where case is ignored names are as somebody typed them: they tell nothing. */
		if (!inode || FIELD(false, inode, i_flags) & S_CASEFOLD)
			return labels | FOUND_INCOMPLETE | FOUND_LAST;
		name = named(slot, directory, number_of(FIELD(false, child, d_name.name)));
	}
	/* Not the directory that was resolved: below it, names alone tell. */
	if ((u32)name && (u32)name != (u32)entry && child_number != object) {
		found deeper = descend(slot, object, child_number, name);

		if (deeper)
			return found_also(labels, deeper & FOUND_LABEL, deeper >> 13 & 7) |
			       (deeper & FOUND_INCOMPLETE) | FOUND_LAST;
	}
	/* A name led to this label, so the thing is where policies name it: the nearest decides. */
	if (name >> 32 & FOUND_LABEL && (entry & ENTRY_IS_OBJECT || name & ROW_DIRECTORY))
		return found_also(labels, name >> 32 & FOUND_LABEL,
				  entry & ENTRY_IS_OBJECT ? AEGIS_WHY_NAME : AEGIS_WHY_DIRECTORY) |
		       FOUND_LAST;
	/* The directory itself; its own name is compared in the next step. */
	if (directory >> 32 & FOUND_LABEL && directory & ROW_DIRECTORY)
		labels = found_also(labels, directory >> 32 & FOUND_LABEL, AEGIS_WHY_DIRECTORY);
	return labels;
}

/*
 * One filesystem's part of a walk, from `dentry` up to the root. Compiled twice, for both kinds of
 * pointers (see read.h). Most directories have no row, so this loop is all that most opens inside
 * of a scope cost.
 *
 * @mount_root: where the mount begins by which we came; not always the filesystem's root
 * @labels: what is known of `dentry` already
 * @entry: see pack_entry(); for the first step
 */
static __always_inline found walk(const bool direct, struct dentry *dentry, struct inode *inode,
				  struct dentry *mount_root, found labels, u64 entry)
{
	u32 slot = entry >> 32 & SLOT_MASK;
	void *by_inode = bpf_map_lookup_elem(&objects, &slot);
	struct super_block *super = FIELD(direct, inode, i_sb);
	struct aegis_inode_key key = {.dev = FIELD(direct, super, s_dev)};
	struct dentry *child = dentry;

	if (!by_inode)
		return FOUND_INCOMPLETE;
	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *parent = FIELD(direct, child, d_parent);
		struct aegis_object_row *row;

		if (parent == child) {
			/*
			 * The root of the filesystem, or of a mount of it: of some filesystems a
			 * directory that is the root of nothing else. A handle that is not
			 * connected to its tree has a root as well, which is none.
			 */
			if (child == FIELD(direct, super, s_root) || (i && child == mount_root))
				return labels;
			return labels | FOUND_INCOMPLETE;
		}
		inode = FIELD(direct, parent, d_inode);
		if (!inode)
			return labels | FOUND_INCOMPLETE; /* taken apart under our hands */
		key.ino = FIELD(direct, inode, i_ino);
		key.generation = FIELD(direct, inode, i_generation);
		row = bpf_map_lookup_elem(by_inode, &key);
		if (row) {
			labels = step(pack_object(row), entry, number_of(child), number_of(dentry),
				      labels);
			if (labels & FOUND_LAST)
				return labels & ~FOUND_LAST;
		}
		entry = pack_entry(slot, row ? row->node : (u32)unknown_zero, 0);
		child = parent;
	}
	return labels | FOUND_INCOMPLETE; /* deeper than we climb */
}

/* From an object that was just opened. Its stack is not its caller's as well: a function. */
static __noinline found walk_object(u32 slot, struct dentry *dentry, struct inode *inode,
				    struct dentry *mount_root)
{
	u64 row = row_of(/* direct= */ true, slot, inode);

	return walk(/* direct= */ true, dentry, inode, mount_root, own_label(row, true),
		    pack_entry(slot, row, ENTRY_IS_OBJECT));
}

/*
 * What names say of an object beyond a mount point: those that are bound below the inode of
 * `place`, and those below its name. `below` is where the mount begins that lies on it.
 */
__noinline u64 beyond(u32 slot, u64 place, u64 below, u64 object)
{
	struct dentry *dentry = (void *)place, *parent = FIELD(false, dentry, d_parent);
	struct inode *inode = FIELD(false, dentry, d_inode), *above = FIELD(false, parent, d_inode);
	u32 by_inode, by_name;
	found labels;

	if (!inode || !above)
		return FOUND_INCOMPLETE;
	by_inode = row_of(/* direct= */ false, slot, inode);
	labels = descend(slot, object, below, by_inode);
	if (labels)
		return labels;
	by_name = named(slot, row_of(/* direct= */ false, slot, above),
			number_of(FIELD(false, dentry, d_name.name)));
	return by_name == by_inode ? 0 : descend(slot, object, below, by_name);
}

/*
 * From a place that is only known as a number: a mount point, with `below` the root of what is
 * mounted there and `object` what lies beneath; or, with neither, another name of an object.
 */
__noinline u64 climb(u32 slot, u64 place, u64 mount_number, u64 below, u64 object)
{
	struct dentry *dentry = (void *)place;
	struct inode *inode = FIELD(false, dentry, d_inode);
	struct mount *mount = (void *)mount_number;
	bool is_object = below == object;
	u64 row;

	if (!inode)
		return FOUND_INCOMPLETE;
	if (!is_object) {
		found labels = beyond(slot, place, below, object);

		if (labels)
			return labels;
	}
	row = row_of(/* direct= */ false, slot, inode);
	return walk(/* direct= */ false, dentry, inode, FIELD(false, mount, mnt.mnt_root),
		    own_label(row, is_object),
		    pack_entry(slot, row, is_object ? ENTRY_IS_OBJECT : 0));
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
