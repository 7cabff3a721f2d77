/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where generations live.
 *
 * A generation is one inner map of each kind, made by user space at the size that its policies
 * need, filled, compared and frozen before any program looks at it. The outer arrays hold them
 * by slot. Slot 0 is "no generation": its inner maps are the empty templates below.
 */
#ifndef AEGIS_MAPS_H
#define AEGIS_MAPS_H

/*
 * One word of this map says which slot decides, another whether there is an emergency. User space
 * maps it and stores to it.
 */
volatile struct aegis_control control SEC(".data.control") = {
	.abi_version = AEGIS_ABI_VERSION,
	.size = sizeof(struct aegis_control),
};

/*
 * Cgroups known to be in no scope, by slot: one word, read by every open on the host. A word is
 * the whole cgroup id, so a hit is exact; cleared by user space while the slot is idle.
 * Slots are padded to a power of two, so that an index cannot leave the table.
 */
enum { SLOT_MASK = 7 };
u64 bystanders[SLOT_MASK + 1][AEGIS_BYSTANDERS] SEC(".bss.bystanders");

/*
 * What has happened to each slot since it was filled. User space clears a slot's while it is idle,
 * and reads them; the hooks write them.
 */
volatile struct aegis_marks marks[SLOT_MASK + 1] SEC(".bss.marks");

/* Starts what a loop carries: a constant would make the verifier follow each value by itself. */
volatile u64 unknown_zero;

struct objects {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct aegis_inode_key);
	__type(value, struct aegis_object_row);
};

struct names {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct aegis_name_key);
	__type(value, struct aegis_object_row);
};

/* The one kind of row that hooks add. Nothing is evicted: a full map is marked. */
struct late {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, AEGIS_LATE_ROWS);
	__type(key, struct aegis_inode_key);
	__type(value, struct aegis_late_row);
};

struct filesystems {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct aegis_filesystem_row);
};

struct cgroups {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct aegis_name_key);
	__type(value, struct aegis_cgroup_row);
};

/* What the tree of names said of a cgroup id. A cache: whatever it forgets is computed again. */
struct scopes {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, AEGIS_CGROUP_CACHE);
	__type(key, u64);
	__type(value, u32);
};

struct verdicts {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP); /* sizes differ from slot to slot */
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct aegis_verdict);
};

struct counts {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct aegis_count_key);
	__type(value, struct aegis_count);
};

#define BY_SLOT(kind, template)                                                                    \
	struct kind template SEC(".maps");                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__uint(max_entries, AEGIS_SLOTS);                                                  \
		__type(key, u32);                                                                  \
		__array(values, struct kind);                                                      \
	} kind SEC(".maps") = {.values = {[0] = &template}}

BY_SLOT(objects, no_objects);
BY_SLOT(names, no_names);
BY_SLOT(late, no_late);
BY_SLOT(filesystems, no_filesystems);
BY_SLOT(cgroups, no_cgroups);
BY_SLOT(scopes, no_scopes);
BY_SLOT(verdicts, no_verdicts);
BY_SLOT(counts, no_counts);

/* What is in each slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, AEGIS_SLOTS);
	__type(key, u32);
	__type(value, struct aegis_generation);
} generations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, AEGIS_EVENT_RING);
} events SEC(".maps");

#endif
