// SPDX-License-Identifier: GPL-2.0-only
/*
 * AegisBPF in the kernel: which files the tasks of selected cgroups may open, run and change.
 *
 *   hook                       its job
 *   file_open                  decides every open for reading, writing and running
 *   mmap_file, file_mprotect   decide what a mapping of a file may be used for
 *   inode_rename, _link,       decide writing; refuse what would be denied less elsewhere; then
 *     _unlink, _rmdir,           remember what leaves its place, for every slot
 *     _symlink
 *   inode_create, _mkdir,      decide writing
 *     _mknod, _setattr,
 *     _setxattr, _removexattr,
 *     _set_acl, _remove_acl
 *   inode_follow_link          keeps tasks from links on the way that may lead elsewhere
 *   inode_free_security        forgets what is gone for good
 *   sb_mount, move_mount,      mark the slots for which names now mean something else
 *     sb_umount, sb_pivotroot
 *
 * A decision reads as this file's list of chapters: the subject's scope, the object's labels, the
 * verdict for the two, a report. Nothing outside of a scope is ever denied. Inside of one, what
 * cannot be told (a walk that does not end, a row that is not there) is denied if any rule
 * with an object there denies it, and says so.
 *
 * Not covered by these programs: descriptors that were open before or come from elsewhere, unless
 * they are mapped; memory of other processes, leaving the cgroup, devices below a filesystem, and
 * host root switching us off. GUARANTEES.md lists them as PLANNED.
 *
 * BPF LSM programs must carry a licence that is compatible with the GPL, since the helpers that
 * they need are exported for such programs only.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "aegis.h"

#include "read.h"
#include "maps.h"
#include "decide.h"
#include "subject.h"
#include "late.h"
#include "object.h"
#include "request.h"
#include "report.h"
#include "move.h"
#include "layer.h"
#include "backing.h"
#include "file.h"
#include "entry.h"
#include "mount.h"

char LICENSE[] SEC("license") = "GPL";
