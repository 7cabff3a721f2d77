/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The decision, pure: which rule speaks for an access, and what comes of it.
 *
 * Plain C over the contract's structures, without a map, a pointer into the kernel or a side
 * effect. It also compiles natively, and property tests hold it against the reference in Rust.
 */
#ifndef AEGIS_DECIDE_H
#define AEGIS_DECIDE_H

/* What has been found so far for one request; rule 0: nothing speaks, so it is allowed. */
struct aegis_answer {
	aegis_u32 rule;
	aegis_u32 action; /* enum aegis_action */
	aegis_u32 access; /* enum aegis_access */
	aegis_u32 why;	  /* enum aegis_why */
	aegis_u32 spared; /* enum aegis_spared */
};

/*
 * Takes one verdict into account. The strongest action over all accesses that are asked for
 * wins, then the rule that comes first, then the access that comes first. What is weighed
 * later can only make an answer stronger, so the order in which labels are found is
 * without meaning.
 *
 * @wanted: one bit for each access (1 << enum aegis_access)
 * @weakest: the weakest action that counts. A walk that could not finish is no reason to
 *           report what a rule merely watches.
 */
static inline void aegis_weigh(struct aegis_answer *answer, const struct aegis_verdict *verdict,
			       aegis_u32 wanted, aegis_u32 weakest, aegis_u32 why)
{
	for (aegis_u32 action = 0; action < AEGIS_ACTIONS; action++) {
		for (aegis_u32 access = 0; access < AEGIS_ACCESSES; access++) {
			aegis_u32 rule = verdict->rule[action][access];

			if (action > weakest || !(wanted & 1U << access) || !rule)
				continue; /* no rule speaks of this */
			if (answer->rule && answer->action < action)
				continue; /* something stronger speaks already */
			if (answer->rule && answer->action == action && answer->rule <= rule)
				continue; /* an earlier rule says the same */
			answer->rule = rule;
			answer->action = action;
			answer->access = access;
			answer->why = why;
			answer->spared = AEGIS_SPARED_BY_NOTHING;
		}
	}
}

/* Nothing that is found later can change this answer's outcome. */
static inline int aegis_is_denied(const struct aegis_answer *answer)
{
	return answer->rule && answer->action == AEGIS_DENY;
}

/*
 * The slot that decides at this moment. Past an unconfirmed deadline it is the previous one,
 * whether anybody in user space is alive to say so or not.
 *
 * @slots: enum aegis_slots_word
 * @now: ticks since boot; without meaning where there is no deadline
 */
static inline aegis_u32 aegis_deciding_slot(aegis_u64 slots, aegis_u64 now)
{
	aegis_u64 deadline = slots >> AEGIS_DEADLINE_AT;

	if (deadline && now >= deadline)
		slots >>= AEGIS_PREVIOUS_AT;
	return slots & AEGIS_SLOT_MASK;
}

/*
 * Takes an emergency into account: what is denied is then allowed and reported all the same. It
 * ends by itself, and guards (what protects the enforcement, rather than an object) stay unless it
 * says otherwise.
 *
 * @emergency: enum aegis_emergency_word
 * @now: ticks since boot
 */
static inline void aegis_spare(struct aegis_answer *answer, aegis_u64 emergency, aegis_u64 now,
			       int is_guard)
{
	if (!emergency || now >= emergency >> AEGIS_UNTIL_AT)
		return; /* there is none, or it is over */
	if (!aegis_is_denied(answer) || (is_guard && !(emergency & AEGIS_GUARDS_TOO)))
		return; /* it is not denied, or is denied in an emergency as well */
	answer->action = AEGIS_WOULD_DENY;
	answer->spared = AEGIS_SPARED_BY_EMERGENCY;
}

/* The accesses that an open asks for. */
static inline aegis_u32 aegis_accesses_of_open(int reads, int writes, int executes, int truncates)
{
	aegis_u32 wanted = 0;

	if (executes)
		return 1U << AEGIS_EXEC; /* the kernel reads it to run it, whatever its mode says */
	if (reads)
		wanted |= 1U << AEGIS_READ;
	if (writes || truncates)
		wanted |= 1U << AEGIS_WRITE;
	/* Access mode 3 opens for neither, for the sake of ioctls: ask as if for both. */
	return wanted ? wanted : 1U << AEGIS_READ | 1U << AEGIS_WRITE;
}

/* The accesses that a mapping of a file gives. A private one is written to memory alone. */
static inline aegis_u32 aegis_accesses_of_mapping(int reads, int writes, int executes, int shared)
{
	aegis_u32 wanted = 0;

	if (reads)
		wanted |= 1U << AEGIS_READ;
	if (writes && shared)
		wanted |= 1U << AEGIS_WRITE;
	if (executes)
		wanted |= 1U << AEGIS_EXEC;
	return wanted;
}

#endif
