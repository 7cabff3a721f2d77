/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel fields that we read: our whole surface on one page.
 *
 * CO-RE finds each field in the running kernel's BTF when the programs are loaded, so a
 * field that moved is found and a field that vanished is a load error, never a wrong read.
 * Only what is read stands here; the order is ours.
 */
#ifndef AEGIS_KERNEL_H
#define AEGIS_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

/* The names that libbpf's headers use for the same. */
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef short __s16;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define EPERM 1
#define EINVAL 22

/* <linux/bpf.h> */
enum { BPF_ANY = 0, BPF_F_INNER_MAP = 1 << 12 };
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};

/* <linux/fs.h>, <uapi/linux/stat.h>, <uapi/asm-generic/fcntl.h> */
enum {
	FMODE_READ = 1 << 0,
	FMODE_WRITE = 1 << 1,
	FMODE_NOACCOUNT = 1 << 29, /* opened by the kernel for a file that is counted already */
	__FMODE_EXEC = 1 << 5,	   /* in f_flags: this open is for execve or an interpreter */
	O_TRUNC = 00001000,
	S_CASEFOLD = 1 << 15, /* in i_flags: names in this directory ignore case */
	S_IFMT = 0170000,
	S_IFDIR = 0040000,
	S_IFLNK = 0120000,
	S_IFREG = 0100000,
};

/* <linux/mount.h>; the last is unbindable, private, slave and shared. */
#define MS_REMOUNT (1UL << 5)
#define MS_BIND (1UL << 12)
#define MS_PROPAGATION (0xfUL << 17)

/* fs/mount.h: the namespace of a mount that is in none, but belongs to the kernel itself. */
#define MNT_NS_INTERNAL ((void *)-EINVAL)

/* In s_flags: nobody mounted it but the kernel itself (pipes, sockets, memfd). */
#define SB_KERNMOUNT (1UL << 22)
#define SB_NOUSER (1UL << 31)

/* <linux/magic.h>: the kernel makes up what these hold, so nobody moves anything there. */
enum {
	PROC_SUPER_MAGIC = 0x9fa0,
	SYSFS_MAGIC = 0x62656572,
	CGROUP_SUPER_MAGIC = 0x27e0eb,
	CGROUP2_SUPER_MAGIC = 0x63677270,
	DEVPTS_SUPER_MAGIC = 0x1cd1,
};

/* The one whose files are two, and the one whose snapshots have the same numbers. */
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define BTRFS_SUPER_MAGIC 0x9123683e

/* <linux/kdev_t.h> */
enum { DEVICE_MINOR_BITS = 20 };

/* <uapi/asm-generic/mman-common.h>, <linux/mm.h> */
enum {
	PROT_READ = 1,
	PROT_WRITE = 2,
	PROT_EXEC = 4,
	MAP_TYPE = 0xf,
	MAP_SHARED = 1,
	MAP_SHARED_VALIDATE = 3,
	VM_SHARED = 8,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

typedef struct {
	unsigned char b[16];
} uuid_t;

struct super_block {
	u32 s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
	struct dentry *s_root;
	uuid_t s_uuid;
};

struct inode {
	u16 i_mode;
	unsigned int i_flags;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	u32 i_generation;
	struct hlist_head i_dentry; /* the names that are known of it */
};

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent; /* itself, at the root of a filesystem */
	struct qstr d_name;
	struct inode *d_inode; /* NULL: a name without a file */
	struct super_block *d_sb;
};

/* dentry.d_u.d_alias up to 7.2, dentry.d_alias later: where an inode's list goes through. */
struct dentry___nested {
	union {
		struct hlist_node d_alias;
	} d_u;
};

struct dentry___flat {
	struct hlist_node d_alias;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent; /* itself, at the root of a mount namespace */
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct address_space {
	struct inode *host;
};

struct file {
	struct path f_path;
	struct inode *f_inode; /* behind f_path, or below it where filesystems are stacked */
	struct address_space *f_mapping;
	void *private_data;
	unsigned int f_flags;
	unsigned int f_mode;
};

/* Since 6.8, what a file that backs another one is the beginning of. */
struct backing_file {
	struct path user_path; /* by which the other one was opened */
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self; /* a cgroup is found from its `self` and back */
	int level;			 /* 0: the root cgroup */
	struct kernfs_node *kn;
};

/* Since 6.1: every cgroup on the way, by level. Before, only their ids. */
struct cgroup___ancestors {
	struct cgroup *ancestors[0];
};

struct css_set {
	struct cgroup *dfl_cgrp; /* in the cgroup2 hierarchy */
};

struct mm_struct {
	struct file *exe_file;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file; /* NULL: of no file */
};

struct user_namespace {
	int level; /* 0: the initial one */
};

struct mnt_namespace {
	struct user_namespace *user_ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct task_struct {
	struct css_set *cgroups;
	struct mm_struct *mm;	 /* NULL: a kernel thread */
	struct nsproxy *nsproxy; /* NULL: it is exiting */
};

#pragma clang attribute pop

/* Helpers are probed by name in the kernel's own BTF; 5.10 lacks these. */
enum bpf_func_id___probe {
	BPF_FUNC_get_current_task_btf___probe = 158,
	BPF_FUNC_user_ringbuf_drain___probe = 209, /* since 6.1 */
};

#endif
