/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What things take along from places that they have left.
 *
 * Whoever gives a thing another place is seen by a hook (move.h), before it happens. If the new
 * place does not say what the old one said, the thing's inode gets a late row with the old labels;
 * a directory's has its node as well, so that names go on being bound below it. Most slots have no
 * late row, and then none is looked for.
 *
 * A decision looks at late rows and at names one after the other, so a thing might slip through in
 * between, while it leaves. The epoch of a slot counts late rows as they are added: a decision
 * that allows across a change of it is made again (file.h).
 */
#ifndef AEGIS_LATE_H
#define AEGIS_LATE_H

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
static __always_inline found found_also(found labels, u32 label, u32 why)
{
	for (int at = 0; at < 48; at += 16) {
		if (!(labels >> at & FOUND_ONE))
			return labels | found_one(label, why) << at;
		if ((labels >> at & FOUND_LABEL) == label)
			return labels;
	}
	return labels | FOUND_INCOMPLETE;
}

/* Everything that either has found. */
__noinline u64 found_both(u64 labels, u64 more)
{
	for (int at = 0; at < 48; at += 16)
		if (more >> at & FOUND_LABEL)
			labels =
				found_also(labels, more >> at & FOUND_LABEL, more >> (at + 13) & 7);
	return labels | (more & FOUND_INCOMPLETE);
}

/* The labels of `labels` that `others` lack, but for that of no rules. */
__noinline u64 found_less(u64 labels, u64 others)
{
	found rest = labels & FOUND_INCOMPLETE;

	for (int at = 0; at < 48; at += 16) {
		u32 label = labels >> at & FOUND_LABEL;

		if (label && label != AEGIS_LABEL_FREE && label != (others & FOUND_LABEL) &&
		    label != (others >> 16 & FOUND_LABEL) && label != (others >> 32 & FOUND_LABEL))
			rest = found_also(rest, label, labels >> (at + 13) & 7);
	}
	return rest;
}

static __always_inline bool has_late_rows(u32 slot)
{
	return marks[slot & SLOT_MASK].late;
}

static __always_inline struct aegis_inode_key key_of(const bool direct, struct inode *inode)
{
	struct super_block *super = FIELD(direct, inode, i_sb);
	struct aegis_inode_key key = {
		.ino = FIELD(direct, inode, i_ino),
		.dev = FIELD(direct, super, s_dev),
		.generation = FIELD(direct, inode, i_generation),
	};

	return key;
}

static __always_inline struct aegis_late_row *late_row(u32 slot, u64 inode_number)
{
	struct aegis_inode_key key = key_of(/* direct= */ false, (struct inode *)inode_number);
	void *rows = bpf_map_lookup_elem(&late, &slot);

	return rows ? bpf_map_lookup_elem(rows, &key) : NULL;
}

/* Adds what an inode took along, as the object itself or as a directory above it. */
__noinline u64 with_late_labels(u32 slot, u64 inode_number, u64 is_object, u64 labels)
{
	struct aegis_late_row *row;

	if (!has_late_rows(slot))
		return labels;
	row = late_row(slot, inode_number);
	if (!row)
		return labels;
	return found_both(labels, is_object ? row->labels : row->beneath);
}

/* The label that holds where nothing can be told: any rule that there is. */
static __always_inline u32 unknown_label(u32 slot)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);

	return generation ? generation->unknown_label : FOUND_LABEL;
}

/* What a late row says of both: any rule that there is, if that is more than it has room for. */
__noinline u64 late_labels(u32 slot, u64 labels, u64 before)
{
	for (int at = 0; at < 48; at += 16)
		if (labels >> at & FOUND_LABEL)
			before = found_also(before, labels >> at & FOUND_LABEL, AEGIS_WHY_LATE);
	if ((labels | before) & FOUND_INCOMPLETE)
		return found_one(unknown_label(slot), AEGIS_WHY_LATE);
	return before;
}

/*
 * Adds to what an inode takes along, in one slot: see struct aegis_late_row.
 */
static __always_inline u32 remember_by_key(u32 slot, const struct aegis_inode_key *key, u64 labels,
					   u64 beneath, u32 node)
{
	struct aegis_late_row row = {.node = node, .uid = bpf_get_current_uid_gid()};
	volatile struct aegis_marks *mark = &marks[slot & SLOT_MASK];
	void *rows = bpf_map_lookup_elem(&late, &slot);
	struct aegis_late_row *present;

	if (!rows)
		return 0; /* a slot without any generation */
	present = bpf_map_lookup_elem(rows, key);
	row.labels = late_labels(slot, labels, present ? present->labels : 0);
	row.beneath = late_labels(slot, beneath, present ? present->beneath : 0);
	if (present) {
		row.uid = present->uid;
		if (!row.node)
			row.node = present->node;
	}
	if (bpf_map_update_elem(rows, key, &row, BPF_ANY)) {
		__sync_fetch_and_add(&mark->lost, 1);
		return 0;
	}
	if (!present)
		__sync_fetch_and_add(&mark->late, 1);
	/* Only now: whoever read the epoch before may have missed the row, and looks again. */
	__sync_fetch_and_add(&mark->epoch, 1);
	return 1;
}

__noinline u32 remember(u32 slot, u64 inode_number, u64 labels, u64 beneath, u32 node)
{
	struct aegis_inode_key key = key_of(/* direct= */ false, (struct inode *)inode_number);

	return remember_by_key(slot, &key, labels, beneath, node);
}

/* An inode is gone for good, and its number is free. */
__noinline u32 forget(u32 slot, u64 inode_number)
{
	struct aegis_inode_key key = key_of(/* direct= */ false, (struct inode *)inode_number);
	void *rows = bpf_map_lookup_elem(&late, &slot);

	if (rows && !bpf_map_delete_elem(rows, &key))
		__sync_fetch_and_add(&marks[slot & SLOT_MASK].late, -1);
	return 0;
}

#endif
