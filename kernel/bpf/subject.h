/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who asks: the scope of the current task.
 *
 * A cgroup's scope is a function of the names on the way down to it, and of nothing else. So it is
 * computed from those names when a cgroup first asks, and remembered. No hook has to see a
 * cgroup being made, no row can be late, lost or left over: a service that restarts, a cgroup made
 * by a task inside of a scope, and one that a policy named long before it existed are all alike.
 */
#ifndef AEGIS_SUBJECT_H
#define AEGIS_SUBJECT_H

struct subject {
	u32 slot;
	u32 scope; /* 0: nothing is decided for this task */
};

/* A cgroup row in one word, since a global function returns no more than that. */
typedef u64 packed_row;
#define ROW_FOUND (1ULL << 63)
#define ROW_PATTERNS (1ULL << 62)

static __always_inline packed_row pack_row(const struct aegis_cgroup_row *row)
{
	return ROW_FOUND | (row->flags & AEGIS_CGROUP_PATTERNS ? ROW_PATTERNS : 0) |
	       (u64)(row->scope & 0xffff) << 32 | row->node;
}

/* One byte of a name. Byte by byte is slow, but a whole name does not fit on the stack. */
static __always_inline u8 byte_at(u64 address)
{
	u8 byte = 0;

	bpf_probe_read_kernel(&byte, sizeof(byte), (void *)address);
	return byte;
}

__noinline u32 name_size(u64 name)
{
	for (u32 i = 0; i < AEGIS_NAME_MAX; i++)
		if (!byte_at(name + i))
			return i;
	return AEGIS_NAME_MAX;
}

__noinline u64 cgroup_name_hash(u64 name, u64 seed)
{
	u64 hash = seed;

	for (u32 i = 0; i < AEGIS_NAME_MAX; i++) {
		u8 byte = byte_at(name + i);

		if (!byte)
			break;
		hash = aegis_hash_byte(hash, byte);
	}
	return hash;
}

/* The class of one beginning or end of a name, if the patterns of a node know it; else `class`. */
__noinline u32 affix_or(u32 slot, u32 node, u32 kind, u64 hash, u32 class)
{
	struct aegis_name_key affix = {.node = node, .kind = kind, .hash = hash};
	void *rows = bpf_map_lookup_elem(&cgroups, &slot);
	const struct aegis_cgroup_row *row = rows ? bpf_map_lookup_elem(rows, &affix) : NULL;

	return row ? row->node : class;
}

/*
 * The class of the longest beginning (or end, for AEGIS_SUFFIX) of a name that the patterns of a
 * node know; 0 if they know none.
 */
__noinline u32 affix_class(u32 slot, u32 node, u32 kind, u64 name)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	u32 size = name_size(name), class = 0;
	/* From the first byte on, or from the last one back. */
	u64 at = kind == AEGIS_SUFFIX ? name + size - 1 : name;
	u64 step = kind == AEGIS_SUFFIX ? -1 : 1, hash;

	if (!generation)
		return 0;
	hash = generation->seed;
	for (u32 i = 0; i <= AEGIS_NAME_MAX; i++) {
		class = affix_or(slot, node, kind, hash, class);
		if (i >= size)
			break;
		hash = aegis_hash_byte(hash, byte_at(at));
		at += step;
	}
	return class;
}

/*
 * What policies say of the child of a node with this name. A name of its own wins; else, if the
 * node has patterns, the longest beginning and the longest end that they know select a class of
 * names, for which the compiler has united all patterns that match.
 */
__noinline u64 cgroup_row(u32 slot, u32 node, u64 name, u32 patterns)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	struct aegis_name_key key = {.node = node, .kind = AEGIS_NAME};
	void *rows = bpf_map_lookup_elem(&cgroups, &slot);
	const struct aegis_cgroup_row *row;

	if (!rows || !generation)
		return 0;
	key.hash = cgroup_name_hash(name, generation->seed);
	row = bpf_map_lookup_elem(rows, &key);
	if (!row && patterns) {
		u32 prefix = affix_class(slot, node, AEGIS_PREFIX, name);
		u32 suffix = affix_class(slot, node, AEGIS_SUFFIX, name);

		key.kind = AEGIS_CLASS;
		key.hash = (u64)prefix << 32 | suffix;
		row = bpf_map_lookup_elem(rows, &key);
	}
	return row ? pack_row(row) : 0;
}

/*
 * The cgroup at `level` on the way to `cgroup`, which is `steps` levels further down; 0 if that
 * cannot be told. Before 6.1 ancestors are not listed by level, and have to be climbed to.
 */
enum { CGROUP_CLIMB_MAX = 256 };

__noinline u64 ancestor_at(u64 cgroup, u32 level, u32 steps)
{
	if (bpf_core_field_exists(((struct cgroup___ancestors *)0)->ancestors)) {
		u64 list = cgroup + bpf_core_field_offset(struct cgroup___ancestors, ancestors);
		u64 ancestor = 0;

		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), (void *)(list + level * 8ULL));
		return ancestor;
	}
	for (u32 i = 0; i < CGROUP_CLIMB_MAX; i++) {
		struct cgroup *here = (void *)cgroup;

		if (i == steps)
			return cgroup;
		cgroup = (u64)BPF_CORE_READ(here, self.parent) -
			 bpf_core_field_offset(struct cgroup, self);
	}
	return 0;
}

/* The scope of the current task's cgroup, by the tree of cgroup names. */
__noinline u32 scope_by_names(u32 slot)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	void *cache = bpf_map_lookup_elem(&scopes, &slot);
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	u64 id = BPF_CORE_READ(cgroup, kn, id);
	int own_level = BPF_CORE_READ(cgroup, level);
	u32 scope, node = 1, patterns;

	/* A slot that decides has both; a task that finds neither is outside of every scope. */
	if (!generation || !cache)
		return 0;
	scope = generation->root_scope;
	patterns = generation->root_flags & AEGIS_CGROUP_PATTERNS;

	for (int level = 1; level <= AEGIS_CGROUP_DEPTH_MAX; level++) {
		struct cgroup *ancestor;
		packed_row row;

		if (level > own_level || !node)
			break; /* nothing more is named below: the scope holds for the rest */
		ancestor = (void *)ancestor_at((u64)cgroup, level, own_level - level);
		if (!ancestor) {
			/* Too deep for this kernel to tell: it may be any workload, so be all. */
			scope = generation->unknown_scope;
			break;
		}
		row = cgroup_row(slot, node, (u64)BPF_CORE_READ(ancestor, kn, name), patterns);
		if (!(row & ROW_FOUND))
			break;
		scope = row >> 32 & 0xffff;
		node = row;
		patterns = row & ROW_PATTERNS ? 1 : 0;
	}
	if (id == generation->exempt_cgroup)
		scope = 0; /* where the operator's own tools run */

	if (!scope)
		bystanders[slot & SLOT_MASK][id * 0x9e3779b97f4a7c15ULL >> 54] = id;
	/* A full cache forgets somebody else; whoever is forgotten is computed again. */
	bpf_map_update_elem(cache, &id, &scope, BPF_ANY);
	return scope;
}

static __always_inline u64 current_cgroup(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___probe,
				       BPF_FUNC_get_current_task_btf___probe)) {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();

		return task->cgroups->dfl_cgrp->kn->id;
	}
	return bpf_get_current_cgroup_id();
}

/* Clock ticks since boot, suspended time included: what deadlines are counted in. */
static __always_inline u64 ticks_now(void)
{
	return bpf_ktime_get_boot_ns() >> AEGIS_TICK_SHIFT;
}

/*
 * Runs at every open of every process on the host. A process outside of every scope
 * pays for reading two words, and no more; the clock is asked only while a confirmation is open.
 *
 * The word that says which slot decides is read once: whatever is switched meanwhile, one
 * decision is by one generation.
 */
static __always_inline struct subject current_subject(void)
{
	struct subject nobody = {}, subject;
	u32 trial = control.trial_slot;
	u64 slots = control.slots;
	u64 id = current_cgroup();
	void *cache;
	u32 *scope;

	subject.slot = slots & AEGIS_SLOT_MASK;
	if (slots >> AEGIS_DEADLINE_AT)
		subject.slot = aegis_deciding_slot(slots, ticks_now());
	if (bystanders[subject.slot & SLOT_MASK][id * 0x9e3779b97f4a7c15ULL >> 54] == id)
		return nobody;
	/* A generation is tried out on one cgroup before it decides for anybody else. */
	if (trial && id == control.scratch_cgroup)
		subject.slot = trial;
	if (!subject.slot)
		return nobody;

	cache = bpf_map_lookup_elem(&scopes, &subject.slot);
	if (!cache)
		return nobody;
	scope = bpf_map_lookup_elem(cache, &id);
	subject.scope = scope ? *scope : scope_by_names(subject.slot);
	return subject;
}

#endif
