// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether this machine can do the job at all: if not, nothing below says anything.

use std::{fs, path::Path};

use aegis_tests::program::aegisbpf_for_people;
use rustix::fs::statfs;

#[test]
fn this_machine_can_do_the_job() {
    assert!(rustix::process::geteuid().is_root(), "this is not root");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let series =
        std::env::var("AEGIS_KERNEL").expect("AEGIS_KERNEL says which kernel this should be");
    assert!(release.starts_with(&format!("{series}.")), "{release} is not of {series}");
    for (path, magic) in [
        ("/sys/fs/cgroup", 0x6367_7270),
        ("/sys/fs/bpf", 0xcafe_4a11),
        ("/data", 0xef53),
        ("/xfs", 0x5846_5342),
        ("/btrfs", 0x9123_683e),
    ] {
        assert_eq!(statfs(path).unwrap().f_type, magic, "{path} is another filesystem");
    }
    assert!(Path::new("/sys/kernel/btf/vmlinux").exists(), "no BTF");
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap();
    assert!(lsm.split(',').any(|name| name == "bpf"), "bpf is not in {lsm}");
    let (status, stdout, _) = aegisbpf_for_people(&["--version"]);
    assert!(status == 0 && stdout.starts_with("aegisbpf "), "{status} {stdout}");
}
