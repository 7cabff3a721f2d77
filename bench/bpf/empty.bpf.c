// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nothing, on file_open: what any program there costs before it does anything.
 */
__attribute__((section("lsm/file_open"), used)) int aegis_cost_empty(void *context)
{
	return 0;
}

char LICENSE[] __attribute__((section("license"), used)) = "GPL";
