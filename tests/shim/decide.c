// SPDX-License-Identifier: GPL-2.0-only
/* The decision and the hashes as functions that can be linked to: nothing is added. */
#include "aegis.h"
#include "decide.h"

void shim_weigh(struct aegis_answer *answer, const struct aegis_verdict *verdict, aegis_u32 wanted,
		aegis_u32 weakest, aegis_u32 why);
int shim_is_denied(const struct aegis_answer *answer);
aegis_u32 shim_accesses_of_open(int reads, int writes, int executes, int truncates);
aegis_u32 shim_deciding_slot(aegis_u64 slots, aegis_u64 now);
void shim_spare(struct aegis_answer *answer, aegis_u64 emergency, aegis_u64 now, int is_guard);
aegis_u64 shim_hash_word(aegis_u64 hash, aegis_u64 word);
aegis_u64 shim_hash_byte(aegis_u64 hash, aegis_u8 byte);

void shim_weigh(struct aegis_answer *answer, const struct aegis_verdict *verdict, aegis_u32 wanted,
		aegis_u32 weakest, aegis_u32 why)
{
	aegis_weigh(answer, verdict, wanted, weakest, why);
}

int shim_is_denied(const struct aegis_answer *answer)
{
	return aegis_is_denied(answer);
}

aegis_u32 shim_accesses_of_open(int reads, int writes, int executes, int truncates)
{
	return aegis_accesses_of_open(reads, writes, executes, truncates);
}

aegis_u32 shim_deciding_slot(aegis_u64 slots, aegis_u64 now)
{
	return aegis_deciding_slot(slots, now);
}

void shim_spare(struct aegis_answer *answer, aegis_u64 emergency, aegis_u64 now, int is_guard)
{
	aegis_spare(answer, emergency, now, is_guard);
}

aegis_u64 shim_hash_word(aegis_u64 hash, aegis_u64 word)
{
	return aegis_hash_word(hash, word);
}

aegis_u64 shim_hash_byte(aegis_u64 hash, aegis_u8 byte)
{
	return aegis_hash_byte(hash, byte);
}
