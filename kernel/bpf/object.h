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
 * What has left its name since the generation was filled has a late row, which counts like one by
 * inode (late.h). Where directories that policies name came to places that policies name, names
 * alone do not end a walk any more: all labels on the way up are united until policies are bound
 * afresh.
 */
#ifndef AEGIS_OBJECT_H
#define AEGIS_OBJECT_H

/* A row in one word; 0: there is none. Each row has a label or a node. */
#define ROW_DIRECTORY (1ULL << 63)
#define ROW_EXCEPT (1ULL << 62)
#define ROW_LINK (1ULL << 61)
#define ROW_FREES (1ULL << 59)
#define ROW_CAME (1ULL << 60) /* its node, or that of its directory, was taken along */

static __always_inline u64 pack_object(const struct aegis_object_row *row)
{
	return (row->flags & AEGIS_ROW_DIRECTORY ? ROW_DIRECTORY : 0) |
	       (row->flags & AEGIS_ROW_EXCEPT ? ROW_EXCEPT : 0) |
	       (row->flags & AEGIS_ROW_LINK ? ROW_LINK : 0) |
	       (row->flags & AEGIS_ROW_FREES ? ROW_FREES : 0) | (row->beneath & FOUND_LABEL) << 45 |
	       (row->label & FOUND_LABEL) << 32 | row->node;
}

static __always_inline u32 row_label(u64 row)
{
	return row >> 32 & FOUND_LABEL;
}

static __always_inline u32 row_beneath(u64 row)
{
	return row >> 45 & FOUND_LABEL;
}

/* What a row says of a thing, as the object itself or as a directory above it. */
static __always_inline found said_by(u64 row, bool is_object, u32 why)
{
	if (!row_label(row) || !(is_object || row & ROW_DIRECTORY))
		return 0;
	if (!is_object)
		why = AEGIS_WHY_DIRECTORY;
	return found_one(row_label(row), row & ROW_EXCEPT ? AEGIS_WHY_EXCEPT : why);
}

/*
 * What is known of the entry that a walk comes from: the slot, the node of its own row, and what
 * the walk is about.
 */

/* The object itself: any label of its name counts. Else what lies beneath: only a directory's. */
#define ENTRY_IS_OBJECT (1ULL << 62)
/* Directories have moved: no label is the last. */
#define ENTRY_UNITES (1ULL << 61)
/* As it will be once policies are bound afresh: whatever has moved, the nearest is the last. */
#define ENTRY_AFRESH (1ULL << 60)

static __always_inline u64 pack_entry(u32 slot, u32 node, u64 flags)
{
	return flags | (u64)(slot & SLOT_MASK) << 32 | node;
}

/*
 * The row of a name below a node of the tree of paths. The name is read in pieces of 23 bytes and a
 * NUL, since a whole one does not fit on the stack.
 *
 * @entry: see pack_entry(); only its slot matters
 */
__noinline u64 named(u64 entry, u32 node, u64 name)
{
	u32 slot = entry >> 32 & SLOT_MASK;
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

/* Whether the names in a directory are as somebody typed them, so that they tell nothing. */
__noinline u32 ignores_case(u64 place)
{
	struct dentry *directory = (void *)place;
	struct inode *inode = FIELD(false, directory, d_inode);

	return !inode || FIELD(false, inode, i_flags) & S_CASEFOLD;
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
 * Follows the tree of names down from the row of `top`, along the way that leads from there to
 * `object`: the nearest label that names alone give. Only needed where a directory on the way is
 * not the one that was there when the generation was filled, and below mount points.
 *
 * @entry: see pack_entry(); its node is without meaning
 * @last: the row of the object's own name, if names lead that far
 */
enum { DESCEND_MAX = 32 };

static __always_inline found follow_names(u64 entry, u64 object, u64 top, u64 row, u64 *last)
{
	found nearest = said_by(row, false, AEGIS_WHY_DIRECTORY);

	for (int level = 0; level < DESCEND_MAX; level++) {
		struct dentry *child;
		found said;

		if (!(u32)row || top == object)
			return nearest;
		if (ignores_case(top))
			return nearest | FOUND_INCOMPLETE;
		top = child_towards(top, object);
		if (!top)
			return nearest | FOUND_INCOMPLETE; /* too deep, or moved meanwhile */
		child = (void *)top;
		row = named(entry, row, number_of(FIELD(false, child, d_name.name)));
		/* Its flag is asked for anew each time: kept, it is too much for the stack. */
		barrier_var(entry);
		said = said_by(row, top == object && entry & ENTRY_IS_OBJECT, AEGIS_WHY_NAME);
		if (said)
			nearest = said;
		if (top == object)
			*last = row;
	}
	return nearest | FOUND_INCOMPLETE; /* more levels of names than are followed */
}

__noinline u64 descend(u64 entry, u64 object, u64 top, u64 row)
{
	u64 last = 0;

	return follow_names(entry, object, top, row, &last);
}

__noinline u64 descend_to_row(u32 slot, u64 object, u64 top, u64 row)
{
	u64 last = 0;

	follow_names(pack_entry(slot, 0, 0), object, top, row, &last);
	return last;
}

/* The row of an inode. */
static __always_inline u64 row_of(const bool direct, u32 slot, struct inode *inode)
{
	void *by_inode = bpf_map_lookup_elem(&objects, &slot);
	struct aegis_inode_key key = key_of(direct, inode);
	struct aegis_object_row *row = by_inode ? bpf_map_lookup_elem(by_inode, &key) : NULL;

	return row ? pack_object(row) : 0;
}

/*
 * The row of an inode, with the node that a directory took along if it has none of its own. (What
 * a loop calls is verified once; what it does itself, as often as it turns.)
 */
__noinline u64 known_row(u32 slot, u64 inode_number)
{
	u64 row = row_of(/* direct= */ false, slot, (struct inode *)inode_number);
	struct aegis_late_row *late;

	if ((u32)row || !has_late_rows(slot))
		return row;
	late = late_row(slot, inode_number);
	return late && late->node ? row | ROW_CAME | late->node : row;
}

/* What an inode's own rows say, as the object itself or as a directory above it. */
__noinline u64 own_labels(u32 slot, u64 inode_number, u64 is_object)
{
	u64 row = row_of(/* direct= */ false, slot, (struct inode *)inode_number);

	return with_late_labels(slot, inode_number, is_object,
				said_by(row, is_object, AEGIS_WHY_INODE));
}

/* What a step adds to a found: the walk is at its end, or names have to be followed down first. */
#define FOUND_LAST (1ULL << 62)
#define FOUND_DESCEND (1ULL << 61)

/* Whether what a name below a directory says is not the last: it may be where others are named. */
static __always_inline bool unites(u64 entry, u64 directory)
{
	return entry & ENTRY_UNITES || directory & ROW_CAME;
}

/*
 * One step of a walk: what a directory with a row says of its entry `child`, on the way to
 * `object`, and of itself. The names of entries are compared here.
 */
__noinline u64 step(u64 directory, u64 entry, u64 child_number, u64 object, u64 labels)
{
	struct dentry *child = (void *)child_number;
	bool is_object = child_number == object && entry & ENTRY_IS_OBJECT;
	u64 name = 0;
	found said;

	if ((u32)directory) {
		if (ignores_case(number_of(FIELD(false, child, d_parent))))
			return labels | FOUND_INCOMPLETE | FOUND_LAST;
		name = named(entry, directory, number_of(FIELD(false, child, d_name.name)));
	}
	/* Not the directory that was resolved: below it, names alone tell. */
	if ((u32)name && (u32)name != (u32)entry && child_number != object)
		return labels | FOUND_DESCEND;
	/* A name led to this label, so the thing is where policies name it: the nearest decides. */
	said = said_by(name, is_object, AEGIS_WHY_NAME);
	if (said) {
		labels = found_both(labels, said);
		if (!unites(entry, directory))
			return labels | FOUND_LAST;
	}
	/* The directory itself; its own name is compared in the next step. */
	return found_both(labels, said_by(directory, false, AEGIS_WHY_DIRECTORY));
}

/*
 * One step, with the names below an entry that took the place of what was resolved: these come
 * before what the directory says of it.
 */
static __always_inline found whole_step(u64 directory, u64 entry, u64 child_number, u64 object,
					found labels)
{
	struct dentry *child = (void *)child_number;
	found below;

	labels = step(directory, entry, child_number, object, labels);
	if (!(labels & FOUND_DESCEND))
		return labels;
	labels &= ~FOUND_DESCEND;
	below = descend(entry, object, child_number,
			named(entry, directory, number_of(FIELD(false, child, d_name.name))));
	if (below && !unites(entry, directory))
		return found_both(labels, below) | FOUND_LAST;
	return found_both(found_both(labels, below),
			  said_by(directory, false, AEGIS_WHY_DIRECTORY));
}

/* Where walks end well: at the root of the filesystem, or of a mount of it by which we came. */
static __always_inline found at_the_top(bool is_root, found labels)
{
	/*
	 * Of some filesystems a directory is mounted that is the root of nothing else. A handle
	 * that is not connected to its tree has a root as well, which is none.
	 */
	return is_root ? labels : labels | FOUND_INCOMPLETE;
}

/*
 * One filesystem's part of a walk, from an object that was just opened up to the root, where
 * nothing has moved. Most directories have no row, so this loop is all that most opens inside of a
 * scope cost; its pointers are known to the verifier (see read.h). Its stack is not its caller's as
 * well: a function.
 *
 * @mount_root: where the mount begins by which we came; not always the filesystem's root
 */
static __noinline found walk_object(u32 slot, struct dentry *dentry, struct inode *inode,
				    struct dentry *mount_root)
{
	void *by_inode = bpf_map_lookup_elem(&objects, &slot);
	struct super_block *super = inode->i_sb;
	struct aegis_inode_key key = {.dev = super->s_dev};
	u64 row = row_of(/* direct= */ true, slot, inode);
	u64 entry = pack_entry(slot, row, ENTRY_IS_OBJECT);
	found labels = said_by(row, true, AEGIS_WHY_INODE);
	struct dentry *child = dentry;

	if (!by_inode)
		return FOUND_INCOMPLETE;
	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *parent = child->d_parent;
		struct aegis_object_row *found_row;

		if (parent == child)
			return at_the_top(child == super->s_root || (i && child == mount_root),
					  labels);
		inode = parent->d_inode;
		if (!inode)
			return labels | FOUND_INCOMPLETE; /* taken apart under our hands */
		key.ino = inode->i_ino;
		key.generation = inode->i_generation;
		found_row = bpf_map_lookup_elem(by_inode, &key);
		row = found_row ? pack_object(found_row) : unknown_zero;
		if (row) {
			labels =
				whole_step(row, entry, number_of(child), number_of(dentry), labels);
			if (labels & FOUND_LAST)
				return labels & ~FOUND_LAST;
		}
		entry = pack_entry(slot, row, ENTRY_IS_OBJECT);
		child = parent;
	}
	return labels | FOUND_INCOMPLETE; /* deeper than we climb */
}

/* One step of a walk that also looks for what has moved. */
__noinline u64 careful_step(u64 directory, u64 entry, u64 child_number, u64 object, u64 labels)
{
	struct dentry *child = (void *)child_number, *parent = FIELD(false, child, d_parent);
	struct inode *inode = FIELD(false, parent, d_inode);
	u32 slot = entry >> 32 & SLOT_MASK;

	if (!inode)
		return labels | FOUND_INCOMPLETE | FOUND_LAST; /* taken apart under our hands */
	labels = with_late_labels(slot, number_of(inode), false, labels);
	if (marks[slot & SLOT_MASK].directories && !(entry & ENTRY_AFRESH))
		entry |= ENTRY_UNITES;
	return directory ? whole_step(directory, entry, child_number, object, labels) : labels;
}

__noinline u64 parent_of(u64 place)
{
	struct dentry *dentry = (void *)place;

	return number_of(FIELD(false, dentry, d_parent));
}

__noinline u64 inode_of(u64 place)
{
	struct dentry *dentry = (void *)place;

	return number_of(FIELD(false, dentry, d_inode));
}

__noinline u32 is_filesystem_root(u64 place)
{
	struct dentry *dentry = (void *)place;
	struct super_block *super = FIELD(false, dentry, d_sb);

	return dentry == FIELD(false, super, s_root);
}

/*
 * The same from anywhere, and with whatever has moved.
 *
 * @labels: what is known of `place` already
 * @entry: see pack_entry(); the node is that of the first step
 */
__noinline u64 walk_from(u64 place, u64 mount_root, u64 labels, u64 entry)
{
	u64 here = place;

	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		u64 above = parent_of(here), directory;

		if (above == here)
			return at_the_top(is_filesystem_root(here) || (i && here == mount_root),
					  labels);
		directory = known_row(entry >> 32 & SLOT_MASK, inode_of(above));
		labels = careful_step(directory, entry, here, place, labels);
		if (labels & FOUND_LAST)
			return labels & ~FOUND_LAST;
		entry = pack_entry(entry >> 32, directory,
				   entry & (ENTRY_IS_OBJECT | ENTRY_UNITES | ENTRY_AFRESH));
		here = above;
	}
	return labels | FOUND_INCOMPLETE; /* deeper than we climb */
}

/* Whether anything has moved that the faster walk does not look for. */
static __always_inline bool has_moved(u32 slot)
{
	volatile struct aegis_marks *mark = &marks[slot & SLOT_MASK];

	return mark->late | mark->directories;
}

/*
 * What a place says of whatever stands there, or will: names and directories above, and no inode's
 * own rows. Places are entries of directories, known as numbers.
 */
__noinline u64 place_labels(u32 slot, u64 place, u64 mount_root)
{
	return walk_from(place, mount_root, 0, pack_entry(slot, 0, ENTRY_IS_OBJECT));
}

/*
 * The row of the name that an entry has, as the tree of names gives it, whatever inode stands
 * there; 0 if policies do not name it. A directory that has a node and stands where names give
 * another may know nothing of an entry that those further up do know.
 */
__noinline u64 bound_name(u32 slot, u64 place)
{
	u64 here = place;

	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *child = (void *)here;
		u64 above = parent_of(here), node, name;

		if (above == here)
			return 0;
		node = known_row(slot, inode_of(above));
		if ((u32)node) {
			name = named(pack_entry(slot, 0, 0), node,
				     number_of(FIELD(false, child, d_name.name)));
			if (name && here != place)
				name = descend_to_row(slot, place, here, name);
			if (name)
				return name | (node & ROW_CAME);
		}
		here = above;
	}
	return 0;
}

/*
 * What is bound below all names of a place but those of one node. A place has several where a
 * directory above it took its names along and stands where other names are bound.
 */
__noinline u64 bound_elsewhere(u32 slot, u64 place, u32 node)
{
	found labels = 0;
	u64 here = place;

	for (int i = 0; i < AEGIS_WALK_MAX; i++) {
		struct dentry *child = (void *)here;
		u64 above = parent_of(here), directory, name;

		if (above == here)
			return labels;
		directory = known_row(slot, inode_of(above));
		if ((u32)directory) {
			name = named(pack_entry(slot, 0, 0), directory,
				     number_of(FIELD(false, child, d_name.name)));
			if (name && here != place)
				name = descend_to_row(slot, place, here, name);
			if ((u32)name && (u32)name != node)
				labels = found_both(labels,
						    found_one(row_beneath(name), AEGIS_WHY_LATE));
		}
		here = above;
	}
	return labels | FOUND_INCOMPLETE; /* deeper than we climb */
}

/* Whether a mount point stands for the object itself: that is mounted there, and begins there. */
static __always_inline u64 is_mounted(u64 entry, u64 below, u64 object)
{
	return object == below ? entry & ENTRY_IS_OBJECT : 0;
}

/*
 * What is said of an object beyond a mount point, in the order in which a walk would come by it
 * without the mount: what the directory that is covered took along, names below it, its own row,
 * and names below its name.
 *
 * @below: where the mount begins that lies on it
 * @name: the row of its name, see bound_name()
 */
__noinline u64 beyond(u64 entry, u64 place, u64 below, u64 object, u64 name)
{
	u32 slot = entry >> 32 & SLOT_MASK;
	u64 is_object = is_mounted(entry, below, object);
	u64 inode = inode_of(place), row = known_row(slot, inode);
	u64 flags = marks[slot & SLOT_MASK].directories ? ENTRY_UNITES : 0;
	found labels = with_late_labels(slot, inode, is_object, 0);
	found said = descend(entry, object, below, (u32)row);

	if (said) {
		labels = found_both(labels, said);
		if (!unites(flags, row))
			return labels | FOUND_LAST;
	}
	labels = found_both(labels, said_by(row, is_object, AEGIS_WHY_INODE));
	if ((u32)name == (u32)row)
		return labels;
	said = descend(entry, object, below, (u32)name);
	return said ? found_both(labels, said) | (unites(flags, name) ? 0 : FOUND_LAST) : labels;
}

/*
 * From a mount point, with `below` the root of what is mounted there and `object` what lies
 * beneath: what was opened, or one more mount point on the way to that.
 */
__noinline u64 climb(u64 entry, u64 place, u64 mount_number, u64 below, u64 object)
{
	struct mount *mount = (void *)mount_number;
	u32 slot = entry >> 32 & SLOT_MASK;
	found labels;

	if (!inode_of(place))
		return FOUND_INCOMPLETE;
	labels = beyond(entry, place, below, object, bound_name(slot, place));
	if (labels & FOUND_LAST)
		return labels & ~FOUND_LAST;
	return walk_from(place, number_of(FIELD(false, mount, mnt.mnt_root)), labels,
			 pack_entry(slot, 0, is_mounted(entry, below, object)));
}

/* Where an entry has what its inode knows it by. */
static __always_inline u64 alias_offset(void)
{
	if (bpf_core_field_exists(((struct dentry___nested *)0)->d_u.d_alias))
		return bpf_core_field_offset(struct dentry___nested, d_u.d_alias);
	return bpf_core_field_offset(struct dentry___flat, d_alias);
}

/* The first name by which the kernel knows an inode; 0: it knows none. */
__noinline u64 alias_of(u64 inode_number)
{
	struct inode *inode = (void *)inode_number;
	u64 alias = number_of(BPF_CORE_READ(inode, i_dentry.first));

	return alias ? alias - alias_offset() : 0;
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
	u64 offset = alias_offset();
	found nearest = 0;

	for (int i = 0; i < ALIASES_MAX; i++) {
		found labels;

		if (!alias)
			return i ? nearest : FOUND_INCOMPLETE;
		labels = found_both(own_labels(slot, inode_number, true),
				    place_labels(slot, (u64)alias - offset, 0));
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
