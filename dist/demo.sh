#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The main job of AegisBPF, done for real on the kernel that runs this script: `cargo xtask demo`.
#
# Each step says what is about to happen and what is expected, does it with ordinary commands, and
# shows what came of it. The script fails if anything comes out otherwise. It leaves nothing behind.
set -eu

place=$(mktemp -d /tmp/aegisbpf-demo.XXXXXX)
cgroups=$(while read -r _ where kind _; do
	[ "$kind" = cgroup2 ] && echo "$where" && break
done </proc/mounts)
backup=$cgroups/demo.slice/backup.service
wrong=0

step() {
	printf '\n%s\n' "── $*"
}

show() {
	printf '   $ %s\n' "$*"
}

# in_backup COMMAND…: as a process of the workload; its first act is to join the cgroup.
in_backup() {
	sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$backup" "$@" 2>&1
}

# expect allowed|denied COMMAND…
expect() {
	want=$1
	shift
	if answer=$("$@" 2>&1); then got=allowed; else got=denied; fi
	printf '     %-8s %s\n' "$got" "$answer"
	if [ "$got" != "$want" ]; then
		printf '     WRONG: this should have been %s\n' "$want"
		wrong=$((wrong + 1))
	fi
}

clean() {
	aegisbpf detach --reason "end of the demonstration" >/dev/null 2>&1 || true
	rmdir "$backup" "$cgroups/demo.slice" 2>/dev/null || true
	rm -rf "$place"
}
trap clean EXIT

printf 'AegisBPF on Linux %s\n' "$(uname -r)"

step "A workload: the cgroup of a backup service. A secret: a key that lies where backups can reach it."
mkdir -p "$backup" "$place/keys"
echo "the private key" >"$place/keys/server.key"
echo "the certificate" >"$place/server.crt"
show "cat keys/server.key      (by the backup service, no policy yet)"
expect allowed in_backup cat "$place/keys/server.key"

step "A policy: the backup service may not open what is in keys/."
cat >"$place/backup.toml" <<POLICY
schema  = 1
name    = "backup-host"
version = 1

[workloads.backup]
cgroups = ["/demo.slice/backup.service"]

[[rules]]
id        = "keys-are-not-backed-up"
workloads = ["backup"]
action    = "deny"
objects   = ["$place/keys/"]
reason    = "private keys live in the vault, not in backups"
POLICY
sed 's/^/   | /' "$place/backup.toml"

step "It is applied. Before it says ENFORCE, AegisBPF provokes a denial of its own and sees it happen."
show "aegisbpf apply backup.toml --allow-unsigned"
aegisbpf apply "$place/backup.toml" --allow-unsigned 2>&1 | sed 's/^/     /'
show "aegisbpf status"
aegisbpf status 2>&1 | sed 's/^/     /'

step "The same read again: the workload is denied, a shell outside of it is not, and other files are free."
show "cat keys/server.key      (by the backup service)"
expect denied in_backup cat "$place/keys/server.key"
show "cat keys/server.key      (by this shell)"
expect allowed cat "$place/keys/server.key"
show "cat server.crt           (by the backup service)"
expect allowed in_backup cat "$place/server.crt"

step "The key is replaced, as an editor or a rotation does it: another inode under the same name."
echo "tomorrow's key" >"$place/keys/.new"
mv "$place/keys/.new" "$place/keys/server.key"
show "mv keys/.new keys/server.key; cat keys/server.key   (by the backup service)"
expect denied in_backup cat "$place/keys/server.key"

step "A new file appears in the protected directory."
echo "another key" >"$place/keys/client.key"
show "cat keys/client.key      (by the backup service)"
expect denied in_backup cat "$place/keys/client.key"

step "The service restarts: its cgroup is removed and made again, with another id."
rmdir "$backup" && mkdir "$backup"
show "cat keys/server.key      (by the restarted backup service)"
expect denied in_backup cat "$place/keys/server.key"

step "What the operator sees."
show "aegisbpf why"
aegisbpf why 2>&1 | sed 's/^/     /'
show "aegisbpf events --json | tail -n 1"
aegisbpf events --json 2>&1 | tail -n 1 | sed 's/^/     /'

step "The policy is taken away again."
show "aegisbpf remove backup-host --reason \"end of the demonstration\""
aegisbpf remove backup-host --reason "end of the demonstration" 2>&1 | sed 's/^/     /'
show "cat keys/server.key      (by the backup service)"
expect allowed in_backup cat "$place/keys/server.key"

if [ "$wrong" -ne 0 ]; then
	printf '\n%s step(s) came out otherwise than they should.\n' "$wrong"
	exit 1
fi
printf '\nEverything came out as it should. Nothing of AegisBPF is left in this kernel.\n'
