/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How fields of kernel structures are read.
 *
 * A pointer whose type the verifier knows is read directly: one instruction a field. Any other is a
 * number to it, and a field is a call. From 6.2 on a number can be given a type (bpf_rdonly_cast
 * costs nothing when it runs), so that only older kernels pay for the calls.
 */
#ifndef AEGIS_READ_H
#define AEGIS_READ_H

extern void *bpf_rdonly_cast(const void *pointer, u32 type) __ksym __weak;

/* `direct`: the verifier knows the pointer on every kernel. */
#define FIELD(direct, pointer, field)                                                              \
	((direct) ? (pointer)->field                                                               \
	 : bpf_ksym_exists(bpf_rdonly_cast)                                                        \
		 ? ((typeof(pointer))bpf_rdonly_cast((pointer),                                    \
						     bpf_core_type_id_kernel(typeof(*(pointer))))) \
			   ->field                                                                 \
		 : BPF_CORE_READ(pointer, field))

/*
 * A pointer as the number that a global function takes. The difference of two pointers is a number,
 * and one of these is zero; older kernels have it written to the stack and read back.
 */
static __always_inline u64 number_of(const void *pointer)
{
	u64 number = 0;

	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		u32 type = bpf_core_type_id_kernel(struct inode);

		return (u64)bpf_rdonly_cast(pointer, type) - (u64)bpf_rdonly_cast(NULL, type);
	}
	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

/* The mount that a path's vfsmount is part of; both as numbers. */
static __always_inline u64 mount_of(u64 vfsmount)
{
	return vfsmount - bpf_core_field_offset(struct mount, mnt);
}

#endif
