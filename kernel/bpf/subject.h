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

/*
 * What policies say of the child `name` of a node. A name of its own wins; else, if the node has
 * patterns, the longest beginning and the longest end that patterns know select a class of
 * names, for which the compiler has united all patterns that match.
 */
__noinline u64 cgroup_row(u32 slot, u32 node, u64 name_address, u32 patterns)
{
	void *rows = bpf_map_lookup_elem(&cgroups, &slot);
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	struct aegis_name_key key = {.node = node, .kind = AEGIS_NAME};
	struct aegis_name_key affix = {.node = node};
	const struct aegis_cgroup_row *row;
	u32 prefix = 0, suffix = 0;
	u8 name[AEGIS_NAME_MAX + 1];
	long size;

	if (!rows || !generation)
		return 0;
	size = bpf_probe_read_kernel_str(name, sizeof(name), (void *)name_address);
	if (size <= 0)
		return 0;
	size--; /* without the NUL */

	key.hash = generation->seed;
	affix.kind = AEGIS_PREFIX;
	for (u32 i = 0; i <= AEGIS_NAME_MAX; i++) {
		if (patterns) {
			affix.hash = key.hash;
			row = bpf_map_lookup_elem(rows, &affix);
			if (row)
				prefix = row->node;
		}
		if (i >= size)
			break;
		key.hash = aegis_hash_byte(key.hash, name[i]);
	}
	row = bpf_map_lookup_elem(rows, &key);
	if (row)
		return pack_row(row);
	if (!patterns)
		return 0;

	affix.kind = AEGIS_SUFFIX;
	affix.hash = generation->seed;
	for (u32 i = 0; i <= AEGIS_NAME_MAX; i++) {
		row = bpf_map_lookup_elem(rows, &affix);
		if (row)
			suffix = row->node;
		if (i >= size)
			break;
		affix.hash = aegis_hash_byte(affix.hash, name[(size - 1 - i) & AEGIS_NAME_MAX]);
	}
	key.kind = AEGIS_CLASS;
	key.hash = (u64)prefix << 32 | suffix;
	row = bpf_map_lookup_elem(rows, &key);
	return row ? pack_row(row) : 0;
}

/* Climbs, where ancestors are not listed by level (before 6.1), give up after so many steps. */
enum { CGROUP_CLIMB_MAX = 256 };

/* The cgroup on the way to `cgroup` at `level`, or NULL if that cannot be told. */
static __noinline struct cgroup *ancestor_at(struct cgroup *cgroup, int own_level, int level)
{
	if (bpf_core_field_exists(((struct cgroup___ancestors *)0)->ancestors)) {
		struct cgroup *ancestor = NULL;
		u64 at = (u64)cgroup + bpf_core_field_offset(struct cgroup___ancestors, ancestors);

		bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
				      (void *)at + level * sizeof(ancestor));
		return ancestor;
	}
	for (int i = 0; i < CGROUP_CLIMB_MAX; i++) {
		if (own_level - i <= level)
			return cgroup;
		cgroup = (void *)BPF_CORE_READ(cgroup, self.parent) -
			 bpf_core_field_offset(struct cgroup, self);
	}
	return NULL;
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
		ancestor = ancestor_at(cgroup, own_level, level);
		if (!ancestor) {
			/* Too deep for this kernel to tell. It may be any workload: be all of them.
			 */
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

/*
 * Runs at every open of every process on the host. A process outside of every scope
 * pays for reading two words, and no more.
 */
static __always_inline struct subject current_subject(void)
{
	struct subject nobody = {}, subject;
	u64 id = current_cgroup();
	void *cache;
	u32 *scope;

	subject.slot = control.active;
	if (bystanders[subject.slot & SLOT_MASK][id * 0x9e3779b97f4a7c15ULL >> 54] == id)
		return nobody;
	/* A generation is tried out on one cgroup before it decides for anybody else. */
	if (control.trial_slot && id == control.trial_cgroup)
		subject.slot = control.trial_slot;
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
