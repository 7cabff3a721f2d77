/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One request: who asks for what, and the answer as far as it is known. Labels that a walk found
 * become verdicts here; this is all that stands between the maps and decide.h.
 */
#ifndef AEGIS_REQUEST_H
#define AEGIS_REQUEST_H

/* An answer in one word, since a global function takes and returns no more than that. */
typedef u64 packed_answer;

static __always_inline packed_answer pack_answer(const struct aegis_answer *answer)
{
	return (u64)answer->rule | (u64)(answer->action & 0xff) << 32 |
	       (u64)(answer->access & 0xff) << 40 | (u64)(answer->why & 0xff) << 48 |
	       (u64)(answer->spared & 0xff) << 56;
}

static __always_inline struct aegis_answer unpack_answer(packed_answer packed)
{
	struct aegis_answer answer = {
		.rule = packed,
		.action = packed >> 32 & 0xff,
		.access = packed >> 40 & 0xff,
		.why = packed >> 48 & 0xff,
		.spared = packed >> 56,
	};

	return answer;
}

static __always_inline bool is_denied(packed_answer packed)
{
	struct aegis_answer answer = unpack_answer(packed);

	return aegis_is_denied(&answer);
}

/*
 * What comes of an answer now: each hook passes its answer through this before it reports it and
 * acts on it. The scratch cgroup knows no emergency, so that a proof still shows what there will be
 * when it is over.
 *
 * @is_guard: whether what denies protects the enforcement itself, rather than an object
 */
static __always_inline packed_answer take_emergency(packed_answer packed, bool is_guard)
{
	u64 emergency = control.emergency;
	struct aegis_answer answer;

	if (!emergency || current_cgroup() == control.scratch_cgroup)
		return packed;
	answer = unpack_answer(packed);
	aegis_spare(&answer, emergency, ticks_now(), is_guard);
	return pack_answer(&answer);
}

/* Who asks for what, in one word: the scope, and one bit for each access. */
static __always_inline u64 question(u32 scope, u32 wanted)
{
	return (u64)scope << 32 | wanted;
}

static __always_inline u64 anything(u32 scope)
{
	return question(scope, (1U << AEGIS_ACCESSES) - 1);
}

/*
 * Adds to an answer what the verdict for a label says.
 *
 * @label: one label of a walk, and why it holds
 * @weakest: see aegis_weigh()
 */
__noinline u64 weigh_label(u32 slot, u64 asked, u32 label, u32 weakest, u64 packed)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	void *of_slot = bpf_map_lookup_elem(&verdicts, &slot);
	struct aegis_answer answer = unpack_answer(packed);
	const struct aegis_verdict *verdict = NULL;

	if (generation && of_slot) {
		u32 index = (asked >> 32) * generation->labels + (label & FOUND_LABEL);

		verdict = bpf_map_lookup_elem(of_slot, &index);
	}
	if (verdict) {
		aegis_weigh(&answer, verdict, asked, weakest, label >> 13);
	} else {
		/* No such scope or label: it cannot be told, and inside of a scope that is a no. */
		answer.rule = AEGIS_RULE_UNKNOWN;
		answer.action = AEGIS_DENY;
		answer.access = 0;
		answer.why = AEGIS_WHY_INCOMPLETE;
	}
	return pack_answer(&answer);
}

/* Adds what a walk found; the label `strictest` holds where it could not finish. */
__noinline u64 weigh_found(u32 slot, u64 asked, u64 labels, u32 strictest, u64 answer)
{
	for (int at = 0; at < 48; at += 16)
		if (labels >> at & FOUND_LABEL)
			answer = weigh_label(slot, asked, labels >> at & FOUND_ONE, AEGIS_AUDIT,
					     answer);
	/* What might have been found is a reason to deny, and none to report an allowed access. */
	if (labels & FOUND_INCOMPLETE)
		answer = weigh_label(slot, asked, found_one(strictest, AEGIS_WHY_INCOMPLETE),
				     AEGIS_WOULD_DENY, answer);
	return answer;
}

/*
 * The label of everything on a filesystem at once; 0 if no policy has an object there, and
 * AEGIS_UNSEEN if it was not there when objects were bound.
 */
static __always_inline struct aegis_filesystem_row *filesystem_row(u32 slot, u32 dev)
{
	void *by_dev = bpf_map_lookup_elem(&filesystems, &slot);

	return by_dev ? bpf_map_lookup_elem(by_dev, &dev) : NULL;
}

static __always_inline u32 filesystem_label(u32 slot, u32 dev)
{
	struct aegis_filesystem_row *row = filesystem_row(slot, dev);

	return row ? row->label : AEGIS_UNSEEN;
}

/*
 * What holds on a filesystem on which no policy has an object: what a copy took along that was made
 * there (layer.h). Nothing else, as long as it was there when objects were bound, or no mount came
 * or went where objects are; then it may be part of any.
 *
 * @label: of the filesystem; 0 or AEGIS_UNSEEN
 * @inode_number: 0: what is asked for is a name
 */
__noinline u64 weigh_elsewhere(u32 slot, u64 asked, u64 super_number, u64 inode_number, u32 label)
{
	struct super_block *super = (void *)super_number;
	u64 magic = FIELD(false, super, s_magic);
	found labels = inode_number ? with_late_labels(slot, inode_number, true, 0) : 0;
	packed_answer answer = weigh_found(slot, asked, labels, 0, 0);

	if (label != AEGIS_UNSEEN || !marks[slot & SLOT_MASK].mounts)
		return answer;
	if (FIELD(false, super, s_flags) & (SB_KERNMOUNT | SB_NOUSER) ||
	    magic == PROC_SUPER_MAGIC || magic == SYSFS_MAGIC || magic == CGROUP_SUPER_MAGIC ||
	    magic == CGROUP2_SUPER_MAGIC || magic == DEVPTS_SUPER_MAGIC)
		return answer;
	return weigh_found(slot, asked, FOUND_INCOMPLETE, unknown_label(slot), answer);
}

/*
 * Where the filesystem is mounted, and where that one is mounted, and so on. What lies above can
 * only add denials: whoever may mount could otherwise choose which names hold.
 */
__noinline u64 weigh_mounts(u32 slot, u64 asked, u64 mount_number, u64 bottom, u64 answer)
{
	u64 place_number = 0, below = 0, entry = pack_entry(slot, 0, ENTRY_IS_OBJECT);

	for (int i = 0; i < AEGIS_MOUNTS_MAX; i++) {
		struct mount *mount = (void *)mount_number;
		u64 above = number_of(FIELD(false, mount, mnt_parent));
		u64 root = number_of(FIELD(false, mount, mnt.mnt_root));
		struct dentry *place = FIELD(false, mount, mnt_mountpoint);
		struct super_block *super;
		u32 strictest;

		if (above == mount_number)
			return answer; /* the root of the mount namespace */
		/* Stacked on the root of another: what lies on the topmost goes on below both. */
		if (place_number != root) {
			/* What was opened lies deeper than this mount point: it is no object. */
			if (place_number && bottom != below)
				entry = pack_entry(slot, 0, 0);
			if (place_number)
				bottom = place_number;
			below = root;
		}
		super = FIELD(false, place, d_sb);
		strictest = filesystem_label(slot, FIELD(false, super, s_dev));
		if (strictest && strictest != AEGIS_UNSEEN) {
			found labels = climb(entry, number_of(place), above, below, bottom);

			if (labels)
				answer = weigh_found(slot, asked, labels, strictest, answer);
			if (is_denied(answer))
				return answer;
		}
		place_number = number_of(place);
		mount_number = above;
	}
	/* More mounts than are followed: any rule that there is may hold. */
	return weigh_found(slot, asked, FOUND_INCOMPLETE, unknown_label(slot), answer);
}

/*
 * What holds for something that is open on its own filesystem, from numbers alone: slower than what
 * file_open does first, and with all that has moved.
 *
 * @inode: behind the file, where filesystems are stacked; else that of the dentry
 */
__noinline u64 weigh_object(u32 slot, u64 asked, u64 place, u64 mount_root, u64 inode_number)
{
	struct dentry *dentry = (void *)place;
	struct inode *inode = (void *)inode_number;
	struct super_block *super = FIELD(false, inode, i_sb);
	u32 strictest = filesystem_label(slot, FIELD(false, super, s_dev));
	found labels;

	/* A filesystem without any object is not walked at all. */
	if (!strictest || strictest == AEGIS_UNSEEN)
		return weigh_elsewhere(slot, asked, number_of(super), inode_number, strictest);
	if (number_of(FIELD(false, dentry, d_inode)) == inode_number)
		labels = found_both(own_labels(slot, inode_number, true),
				    place_labels(slot, place, mount_root));
	else
		labels = climb_aliases(slot, inode_number);
	return weigh_found(slot, asked, labels, strictest, 0);
}

#endif
