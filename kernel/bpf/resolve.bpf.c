// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel itself calls an inode.
 *
 * stat(2) tells other numbers: on btrfs st_dev is not s_dev, a file merged by overlayfs is
 * another one, and no i_generation is told at all. So whoever fills a generation attaches
 * this program while it resolves names, for its own thread alone, and asks with statx(2).
 *
 * An object of its own, since it lives only as long as one command.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "aegis.h"

/* Who asks, and the answer. User space maps it. */
struct aegis_asking asking SEC(".bss.asking");

SEC("lsm/inode_getattr")
int BPF_PROG(aegis_inode_getattr, const struct path *path, int ret)
{
	struct inode *inode;

	/* Somebody else has refused: then statx fails, and that is the answer. */
	if (ret)
		return ret;
	if ((u32)bpf_get_current_pid_tgid() != asking.thread)
		return 0;
	/* Overlayfs asks the layers below in turn: the first call is about the file itself. */
	if (asking.answer.calls++)
		return 0;
	inode = path->dentry->d_inode;
	if (!inode)
		return 0;
	asking.answer.key.ino = inode->i_ino;
	asking.answer.key.dev = inode->i_sb->s_dev;
	asking.answer.key.generation = inode->i_generation;
	asking.answer.magic = inode->i_sb->s_magic;
	asking.answer.mode = inode->i_mode;
	asking.answer.links = inode->i_nlink;
	asking.answer.i_flags = inode->i_flags;
	bpf_core_read((void *)asking.answer.uuid, sizeof(asking.answer.uuid), &inode->i_sb->s_uuid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
