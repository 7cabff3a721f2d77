/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT */
/*
 * The contract between the programs in the kernel (C) and user space (Rust).
 *
 * Every structure, number and limit that crosses between the two stands here and
 * nowhere else. `abi/src/generated.rs` is made from this file (`cargo xtask abi`)
 * and both sides assert the sizes. Plain C integers only, so that it compiles for
 * BPF, natively, and through bindgen.
 *
 * How the words fit together:
 *
 *   who asks        cgroup id ──▶ scope        (by the tree of cgroup names)
 *   what is asked   inode key ──▶ label        (by inode, name, and directory)
 *   the answer      verdicts[scope][label] ──▶ rule, for each access and action
 */
#ifndef AEGIS_H
#define AEGIS_H

typedef unsigned char aegis_u8;
typedef unsigned short aegis_u16;
typedef unsigned int aegis_u32;
typedef unsigned long long aegis_u64;

/* First word of the control map. A binary that does not know it touches nothing. */
#define AEGIS_ABI_VERSION 4

enum aegis_limit {
	/* Slot 0 is "no generation"; 1 to 4 are active, previous, candidate, spare. */
	AEGIS_SLOTS = 5,
	/* Directories that a walk climbs before it gives up as incomplete. */
	AEGIS_WALK_MAX = 128,
	/* Mounts that a walk crosses before it gives up as incomplete. */
	AEGIS_MOUNTS_MAX = 24,
	/* Components of the longest cgroup name in a policy. */
	AEGIS_CGROUP_DEPTH_MAX = 16,
	/* Bytes of one name (NAME_MAX). */
	AEGIS_NAME_MAX = 255,
	/* Scopes and labels of one generation. */
	AEGIS_SCOPES_MAX = 4096,
	AEGIS_LABELS_MAX = 8192,
	/* Words of the table of cgroups known to be in no scope; a power of two. */
	AEGIS_BYSTANDERS = 1024,
	/* Rows of the cache cgroup id -> scope. */
	AEGIS_CGROUP_CACHE = 16384,
	/* Late rows of one generation. */
	AEGIS_LATE_ROWS = 16384,
	/* Bytes of the paths in an event, and room for one name more. */
	AEGIS_EVENT_PATH = 1024,
	AEGIS_EVENT_EXE = 256,
	/* Bytes of the ring of events. */
	AEGIS_EVENT_RING = 2097152,
	/* Toggles of the emergency switch that are remembered, and bytes of a reason or a path. */
	AEGIS_TOGGLES = 8,
	AEGIS_REASON_MAX = 256,
};

/* What a task wants to do with an object. */
enum aegis_access {
	AEGIS_READ = 0,
	AEGIS_WRITE = 1,
	AEGIS_EXEC = 2,
	AEGIS_ACCESSES = 3,
};

/* What a rule does; the smaller number wins. */
enum aegis_action {
	AEGIS_DENY = 0,	      /* refused with EPERM */
	AEGIS_WOULD_DENY = 1, /* a deny rule of a policy in mode audit: allowed, reported */
	AEGIS_AUDIT = 2,      /* allowed, reported */
	AEGIS_ACTIONS = 3,
};

/* An inode as the kernel itself sees it: stat(2) shows other numbers on btrfs and overlayfs. */
struct aegis_inode_key {
	aegis_u64 ino;	      /* inode.i_ino */
	aegis_u32 dev;	      /* super_block.s_dev, in the kernel's encoding */
	aegis_u32 generation; /* inode.i_generation: a number used again is another inode */
};

enum aegis_row_flag {
	/* The label holds for everything beneath as well. */
	AEGIS_ROW_DIRECTORY = 1,
	/* An `except` ends here: whoever may, puts things here so that they are free. */
	AEGIS_ROW_EXCEPT = 2,
	/* A symbolic link stood here: this name's row holds for what takes the link's place. */
	AEGIS_ROW_LINK = 4,
	/* An `except` ends somewhere beneath: what comes here may come to be free. */
	AEGIS_ROW_FREES = 8,
};

/* The label of no rules, as where an `except` frees of all. It goes along with nothing. */
#define AEGIS_LABEL_FREE 1

/* The rule of an answer when the programs themselves could not tell: always a denial. */
#define AEGIS_RULE_UNKNOWN 0xffffffffU

/* What is known of an inode, or of a name in a directory. */
struct aegis_object_row {
	aegis_u32 label;   /* 0: none of its own */
	aegis_u32 node;	   /* its place in the tree of paths, if names are bound below it; or 0 */
	aegis_u32 flags;   /* enum aegis_row_flag */
	aegis_u32 beneath; /* label of all rules with an object here or anywhere beneath; or 0 */
};

/*
 * What an inode took along from a place that it left, added by the hooks. It counts beside
 * whatever its new place says.
 */
struct aegis_late_row {
	/* Up to three, of 16 bits each: label, and enum aegis_why << 13. */
	aegis_u64 labels;  /* of itself */
	aegis_u64 beneath; /* of what lies beneath it, as it does in a directory */
	aegis_u32 node;	   /* its place in the tree of paths, if names are bound below it; or 0 */
	aegis_u32 uid;	   /* whose process had the row made; ~0: nobody knows */
};

/*
 * What has happened to a generation since it was filled, by slot; counted by the hooks. All zero:
 * nothing that its rows do not say.
 */
struct aegis_marks {
	/* Late rows as they were added: decisions made across one are made again. */
	aegis_u32 epoch;
	aegis_u32 late; /* late rows that are there */
	aegis_u32 lost; /* late rows for which there was no room */
	/* Directories of policies that came to places of policies: walks go all the way up. */
	aegis_u32 directories;
	/* Mounts that came or went on, beneath or on the way to an object. */
	aegis_u32 mounts;
	/* Symbolic links on the way to an object that were replaced, or came. */
	aegis_u32 links;
	/* Times that a directory below which names are bound went where it has another name. */
	aegis_u32 strays;
	aegis_u32 reserved;
};

enum aegis_name_kind {
	AEGIS_NAME = 0, /* the whole name */
	AEGIS_PREFIX =
		1, /* hash of what a pattern has before its `*`; the row's value is a class */
	AEGIS_SUFFIX = 2, /* hash of the reversed rest of a pattern; the row's value is a class */
	AEGIS_CLASS = 3,  /* hash is prefix class << 32 | suffix class */
};

/* A name below a node of one of the two trees (paths, cgroups). */
struct aegis_name_key {
	aegis_u32 node;
	aegis_u32 kind; /* enum aegis_name_kind; AEGIS_NAME alone in the tree of paths */
	aegis_u64 hash; /* aegis_hash_name() for paths, aegis_hash_byte() for cgroups */
};

/* A cgroup that policies name, or a class of names (then only `node` counts). */
struct aegis_cgroup_row {
	aegis_u32 scope; /* of this cgroup and, where nothing more is named, all below */
	aegis_u32 node; /* its place in the tree of cgroup names if policies name any below; or 0 */
	aegis_u32 flags; /* enum aegis_cgroup_flag, of `node` */
};

enum aegis_cgroup_flag {
	/* Names below this node are also compared with patterns. */
	AEGIS_CGROUP_PATTERNS = 1,
};

/* The label of a filesystem that was not there when objects were bound. */
#define AEGIS_UNSEEN 0xffffffffU

/* Row of a filesystem that was there when objects were bound, by s_dev. */
struct aegis_filesystem_row {
	aegis_u32 label; /* the union of all rules with an object here, for walks that cannot
			    finish; 0: no object is here; AEGIS_UNSEEN: it is gone, and its number
			    may be another's */
};

/* The answer for one (scope, label): the rule that speaks, or 0, by action and access. */
struct aegis_verdict {
	aegis_u32 rule[AEGIS_ACTIONS][AEGIS_ACCESSES];
};

/* Hits are counted by the rule that an answer names and the scope that asked. */
struct aegis_count_key {
	aegis_u32 rule;
	aegis_u32 scope;
};

struct aegis_count {
	aegis_u64 hits[AEGIS_ACTIONS];
	aegis_u64 drops; /* events of these hits that found the ring full */
};

/* One compiled set of policies in the kernel. Written while its slot is idle. */
struct aegis_generation {
	aegis_u64 number; /* 0: this slot is empty or half filled */
	aegis_u64 seed;	  /* of every hash in this generation; random, so names cannot be forged */
	aegis_u64 exempt_cgroup; /* the one cgroup that rules on "*" leave alone; or 0 */
	aegis_u64 filled_at;	 /* seconds since 1970 */
	aegis_u32 labels;	 /* columns of the verdicts: labels are 1 .. labels - 1 */
	aegis_u32 scopes;	 /* rows of the verdicts: scopes are 1 .. scopes - 1 */
	aegis_u32 root_scope;	 /* of a cgroup that no policy names: "*" alone, or 0 */
	aegis_u32 root_flags;	 /* enum aegis_cgroup_flag, of node 1, the root cgroup */
	aegis_u32 unknown_scope; /* every workload at once: for a cgroup that cannot be told */
	aegis_u32 unknown_label; /* every rule at once: for an object that cannot be told */
	aegis_u32 policies;	 /* how many policies it was compiled from */
	aegis_u32 accesses; /* one bit for each that any rule speaks of (1 << enum aegis_access) */
	aegis_u32 revision; /* how often the same policies were bound anew under this number */
	aegis_u32 reserved;
	aegis_u8 set_digest[32]; /* SHA-256 of the set of policies */
};

/*
 * Which slot decides, in one aligned 64-bit word: one store switches all of it, and no reader sees
 * half of a switch.
 *
 *   bits 0 to 2   active: the slot that decides; 0 is none
 *   bits 3 to 5   previous: the slot that decided before; 0 is none
 *   bits 6 to 8   kept: what is previous again once the kernel has fallen back; 0 is none
 *   bits 9 to 63  deadline: 0, or the tick from which on previous decides, if nobody has confirmed
 */
enum aegis_slots_word {
	AEGIS_SLOT_MASK = 7,
	AEGIS_PREVIOUS_AT = 3,
	AEGIS_KEPT_AT = 6,
	AEGIS_DEADLINE_AT = 9,
	/* A tick is 1,024 ns of CLOCK_BOOTTIME: 55 bits of them last longer than any machine. */
	AEGIS_TICK_SHIFT = 10,
};

/*
 * The emergency, in one aligned 64-bit word; 0 is none. What it is for stands in its toggle, which
 * is written before.
 *
 *   bits 0 to 2   the place of its toggle
 *   bit 3         whether guards are off as well, and not only rules
 *   bits 8 to 63  the tick at which it ends by itself
 */
enum aegis_emergency_word {
	AEGIS_TOGGLE_MASK = 7,
	AEGIS_GUARDS_TOO = 8,
	AEGIS_UNTIL_AT = 8,
};

/* Somebody began an emergency, or ended it. */
struct aegis_toggle {
	aegis_u64
		number; /* from 1, never again on this host as long as pins stay; 0: half written */
	aegis_u64 time; /* seconds since 1970 */
	aegis_u64 until; /* seconds since 1970 at which it was to end; 0: this one ended it */
	aegis_u32 uid;
	aegis_u32 login_uid; /* who logged in, whatever they became; 0xffffffff if nobody did */
	aegis_u32 pid;
	aegis_u32 guards_too;
	aegis_u8 reason[AEGIS_REASON_MAX]; /* UTF-8, filled up with NUL */
};

/*
 * A line of the provenance log, as the kernel's memory witnesses it. Whoever writes a line
 * announces it here, waits until it is on disk, and then says that it is; so a kill at any point is
 * told apart from a line that somebody took away. Programs never read this.
 */
struct aegis_log_head {
	aegis_u64 sequence; /* 0: none, or half written */
	aegis_u64 written;  /* 1: the line is on disk */
	aegis_u8 hash[32];  /* SHA-256 of the line */
};

/*
 * Who put in force what decides: the programs never read it. It is for the one who finds pins whose
 * policies are not in his own state directory.
 */
struct aegis_owner {
	aegis_u8 instance[32];		  /* of its provenance log, in hex; NUL: nobody yet */
	aegis_u8 state[AEGIS_REASON_MAX]; /* its state directory; cut off, NUL at the end */
};

/* The switches. One mapping is shared by the programs and every command. */
struct aegis_control {
	aegis_u32 abi_version;	  /* AEGIS_ABI_VERSION */
	aegis_u32 size;		  /* sizeof(struct aegis_control) */
	aegis_u64 slots;	  /* enum aegis_slots_word */
	aegis_u64 emergency;	  /* enum aegis_emergency_word */
	aegis_u32 trial_slot;	  /* decides for the scratch cgroup alone, before a flip; or 0 */
	aegis_u32 trust_root;	  /* 1: one was installed; programs never read this */
	aegis_u64 scratch_cgroup; /* id: where proofs are made, for which there is no emergency */
	aegis_u64 last_number;	  /* the number of the newest generation ever filled */
	aegis_u64 event_sequence; /* of the last event taken out of the ring */
	aegis_u64 programs;	  /* hash of the object that the attached programs are from */
	aegis_u64 toggles;	  /* how many there were; number N is at (N - 1) % AEGIS_TOGGLES */
	struct aegis_toggle toggle[AEGIS_TOGGLES];
	struct aegis_log_head log_heads[2]; /* the newest line, and the one before */
	aegis_u64 log_unlogged; /* what acted and could not be logged, and is not in the log yet */
	struct aegis_owner owner;
};

/*
 * Where the dentry stands among the arguments of hooks to which the kernel has added one over time.
 * User space looks into BTF when it loads the programs.
 */
struct aegis_arguments {
	aegis_u32 setattr_dentry;
	aegis_u32 setxattr_dentry;
	aegis_u32 removexattr_dentry;
};

/* What the resolver learns of one inode: the kernel's own answer to a stat. */
struct aegis_resolved {
	struct aegis_inode_key key;
	aegis_u64 magic;   /* super_block.s_magic */
	aegis_u32 calls;   /* times that the hook ran for this question */
	aegis_u32 mode;	   /* inode.i_mode */
	aegis_u32 links;   /* inode.i_nlink */
	aegis_u32 i_flags; /* inode.i_flags */
	aegis_u8 uuid[16]; /* super_block.s_uuid: the same whenever and wherever it is mounted */
};

/* The question and its answer, in the memory that the resolver shares with its program. */
struct aegis_asking {
	struct aegis_resolved answer;
	aegis_u32
		thread; /* the one that asks, as the initial pid namespace numbers it; 0: nobody */
	aegis_u32 reserved;
};

enum aegis_why {
	AEGIS_WHY_INODE = 1,	  /* the object's own row */
	AEGIS_WHY_NAME = 2,	  /* the name that it has in a bound directory */
	AEGIS_WHY_DIRECTORY = 3,  /* a directory above it */
	AEGIS_WHY_MOUNT = 4,	  /* where its filesystem is mounted */
	AEGIS_WHY_INCOMPLETE = 5, /* the walk could not finish, so the strictest answer holds */
	AEGIS_WHY_EXCEPT = 6,	  /* an `except`, which leaves what other rules say */
	AEGIS_WHY_LATE = 7,	  /* a place that it has left */
	AEGIS_WHY_REFER = 8,	  /* it would be denied less at the place where it is to go */
	AEGIS_WHY_WAY = 9,	  /* it is on the way to an object */
};

/* Why AEGIS_WOULD_DENY is not AEGIS_DENY, if it is not the mode of the policy. */
enum aegis_spared {
	AEGIS_SPARED_BY_NOTHING = 0,
	AEGIS_SPARED_BY_EMERGENCY = 1,
};

/* One denial, or one allowed access that a rule reports. */
struct aegis_event {
	aegis_u64 time; /* nanoseconds since boot, with suspend where the kernel has it */
	aegis_u64 generation;
	aegis_u64 cgroup; /* id */
	struct aegis_inode_key inode;
	aegis_u32 rule;
	aegis_u32 scope;
	aegis_u32 action; /* enum aegis_action */
	aegis_u32 access; /* enum aegis_access: the one that the rule speaks about */
	aegis_u32 why;	  /* enum aegis_why */
	aegis_u32 pid;	  /* process, as the initial pid namespace numbers it */
	aegis_u32 tid;
	aegis_u32 uid;
	aegis_u8 comm[16];
	aegis_u32 path_size; /* bytes used in path */
	aegis_u32 exe_size;  /* bytes used in exe */
	aegis_u32 truncated; /* bit 0: path, bit 1: exe: components above are missing */
	aegis_u32 spared;    /* enum aegis_spared */
	aegis_u8 path[AEGIS_EVENT_PATH + AEGIS_NAME_MAX +
		      1]; /* components, innermost first, NUL after each */
	aegis_u8 exe[AEGIS_EVENT_EXE + AEGIS_NAME_MAX + 1]; /* the same of the process's program */
};

/*
 * Hashes of names. A generation's random seed starts them, so that nobody can make a
 * name that collides; two names that collide all the same share the stricter fate
 * of a bound name, never a freedom that the walk would not have granted.
 */
static inline aegis_u64 aegis_hash_word(aegis_u64 hash, aegis_u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 29);
}

/* Cgroup names, byte by byte: prefixes and suffixes of patterns are looked up as well. */
static inline aegis_u64 aegis_hash_byte(aegis_u64 hash, aegis_u8 byte)
{
	return aegis_hash_word(hash, byte);
}

#ifndef __cplusplus
_Static_assert(sizeof(struct aegis_inode_key) == 16, "no holes");
_Static_assert(sizeof(struct aegis_object_row) == 16, "no holes");
_Static_assert(sizeof(struct aegis_late_row) == 24, "no holes");
_Static_assert(sizeof(struct aegis_marks) == 32, "no holes");
_Static_assert(sizeof(struct aegis_name_key) == 16, "no holes");
_Static_assert(sizeof(struct aegis_cgroup_row) == 12, "no holes");
_Static_assert(sizeof(struct aegis_verdict) == 36, "no holes");
_Static_assert(sizeof(struct aegis_count) == 32, "no holes");
_Static_assert(sizeof(struct aegis_generation) == 104, "no holes");
_Static_assert(sizeof(struct aegis_toggle) == 296, "no holes");
_Static_assert(sizeof(struct aegis_log_head) == 48, "no holes");
_Static_assert(sizeof(struct aegis_owner) == 288, "no holes");
_Static_assert(sizeof(struct aegis_control) == 464 + AEGIS_TOGGLES * 296, "no holes");
_Static_assert(sizeof(struct aegis_resolved) == 56, "no holes");
_Static_assert(sizeof(struct aegis_event) == 1896, "no holes");
#endif

#endif
