/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One request: who asks for what, and the answer as far as it is known. Labels that the walk
 * found become verdicts here; everything between the maps and decide.h.
 */
#ifndef AEGIS_REQUEST_H
#define AEGIS_REQUEST_H

struct request {
	struct subject subject;
	u32 wanted; /* one bit for each access */
	const struct aegis_generation *generation;
	void *verdicts;
	struct aegis_answer answer;
};

/* Inside of a scope, what cannot be told is denied. */
static __always_inline void deny_unknown(struct request *request)
{
	request->answer.rule = AEGIS_RULE_UNKNOWN;
	request->answer.action = AEGIS_DENY;
	request->answer.access = 0;
	request->answer.why = AEGIS_WHY_INCOMPLETE;
}

static __always_inline void weigh_label(struct request *request, u32 label, u32 weakest, u32 why)
{
	u32 index = request->subject.scope * request->generation->labels + label;
	const struct aegis_verdict *verdict = bpf_map_lookup_elem(request->verdicts, &index);

	if (!verdict) {
		deny_unknown(request); /* no such label or scope in this generation */
		return;
	}
	aegis_weigh(&request->answer, verdict, request->wanted, weakest, why);
}

/* Weighs what a walk found; `strictest` holds where it could not finish. */
static __always_inline void weigh_found(struct request *request, found labels, u32 strictest)
{
	u32 first = labels & 0xffff, second = labels >> 24 & 0xffff;

	if (first)
		weigh_label(request, first, AEGIS_AUDIT, labels >> 16 & 0xff);
	if (second)
		weigh_label(request, second, AEGIS_AUDIT, labels >> 40 & 0xff);
	if (labels & FOUND_INCOMPLETE)
		weigh_label(request, strictest, AEGIS_WOULD_DENY, AEGIS_WHY_INCOMPLETE);
}

/* The label of everything on a filesystem at once; 0 if no policy has an object there. */
static __always_inline u32 filesystem_label(u32 slot, u32 dev)
{
	void *by_dev = bpf_map_lookup_elem(&filesystems, &slot);
	struct aegis_filesystem_row *row = by_dev ? bpf_map_lookup_elem(by_dev, &dev) : NULL;

	return row ? row->label : 0;
}

/*
 * Where the filesystem is mounted, and where that one is mounted. What lies above can only add
 * denials: whoever may mount could otherwise choose which names hold.
 */
static __always_inline void weigh_mounts(struct request *request, struct mount *mount, u64 bottom)
{
	for (int i = 0; i < AEGIS_MOUNTS_MAX; i++) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);
		struct dentry *place = BPF_CORE_READ(mount, mnt_mountpoint);
		u32 strictest;

		if (above == mount)
			return; /* the root of the mount namespace */
		strictest =
			filesystem_label(request->subject.slot, BPF_CORE_READ(place, d_sb, s_dev));
		if (strictest) {
			found labels = climb(request->subject.slot, (u64)place, (u64)above,
					     (u64)BPF_CORE_READ(mount, mnt.mnt_root), bottom);

			weigh_found(request, labels, strictest);
			if (aegis_is_denied(&request->answer))
				return;
		}
		bottom = (u64)place;
		mount = above;
	}
	/* More mounts than are followed: every rule that there is may hold. */
	weigh_label(request, request->generation->unknown_label, AEGIS_WOULD_DENY,
		    AEGIS_WHY_INCOMPLETE);
}

#endif
