// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filesystems where a rule is worth as much as on ext4.

mod denial {
    use std::{fs, path::Path};

    use aegis_tests::{Case, Rule, operation::*};

    /// On btrfs, what stat calls a device is not what the kernel calls it.
    #[test]
    fn xfs_btrfs_and_tmpfs_are_as_good_as_ext4() {
        let case = Case::new();
        let mut rule = Rule::deny("r");
        let mut tries = Vec::new();
        for top in ["/xfs", "/btrfs", "/dev/shm"] {
            let top = Path::new(top).join(format!("T{}", std::process::id()));
            for directory in ["inode", "name", "directory/deep"] {
                fs::create_dir_all(top.join(directory)).unwrap();
            }
            let [inode, name, below] =
                ["inode/file", "name/file", "directory/deep/file"].map(|name| top.join(name));
            for path in [&inode, &name, &below] {
                fs::write(path, "content").unwrap();
            }
            rule = rule.file(&inode).file(&name).beneath(top.join("directory"));
            tries.push((top, inode, name, below));
        }
        let mut inside = case.inside();
        for (_, inode, name, below) in &tries {
            case.control(&mut inside, &[read(inode), read(name), read(below)]);
        }
        let report = case.enforce(rule);
        assert_eq!(report["objects"]["weaker"].as_array().map(Vec::len), Some(0), "{report}");
        for (top, inode, name, below) in &tries {
            let link = top.join("link");
            fs::hard_link(inode, &link).unwrap();
            case.denied(&mut inside, "r", &read(&link));
            let new = top.join("new");
            fs::write(&new, "content").unwrap();
            fs::rename(&new, name).unwrap();
            case.denied(&mut inside, "r", &read(name));
            case.denied(&mut inside, "r", &read(below));
            case.allowed(&mut inside, &list(top));
            fs::remove_dir_all(top).unwrap();
        }
        case.settle();
    }

    #[test]
    fn a_filesystem_mounted_beneath_a_directory_is_beneath_it() {
        let case = Case::new();
        let mount = case.directory("d/mount");
        let mut inside = case.inside();
        case.control(&mut inside, &[list(&mount)]);
        case.enforce(Rule::deny("r").beneath(case.path("d")));
        rustix::mount::mount("tmpfs", &mount, "tmpfs", rustix::mount::MountFlags::empty(), None)
            .unwrap();
        let file = case.file("d/mount/a/file");
        case.denied(&mut inside, "r", &read(&file));
        rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
        case.settle();
    }
}
