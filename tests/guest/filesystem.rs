// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Filesystems where a rule is worth as much as on ext4, and those of which apply says that it is not.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
};

use aegis_tests::{
    Case, Rule, aegisbpf,
    machine::{Mounted, kernel_is_at_least, run_tool},
};
use rustix::{
    fs::{IFlags, ioctl_setflags},
    io::Errno,
};

/// A directory of the test's own on one of the disks, or what stands for one.
pub(crate) struct Place {
    top: PathBuf,
}

impl Place {
    pub(crate) fn new(disk: &str) -> Self {
        let top = Path::new(disk).join(format!("T{}-place", std::process::id()));
        fs::create_dir_all(&top).unwrap();
        Self { top }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "content").unwrap();
        path
    }

    /// Makes a directory in which names that differ in case only are the same, as `chattr +F` does.
    fn ignore_case(&self, name: &str) -> Result<(), Errno> {
        let directory = File::open(self.directory(name)).unwrap();
        ioctl_setflags(&directory, IFlags::from_bits_retain(FS_CASEFOLD_FL))
    }
}

const FS_CASEFOLD_FL: u32 = 0x4000_0000;

/// Each kind with the words of the documents, and `--strict` takes none of them.
#[test]
fn apply_says_on_which_filesystems_a_rule_is_worth_less_and_why() {
    let case = Case::new();
    let [ramfs, vfat, bpf] = ["ramfs", "vfat", "bpf"].map(|name| case.directory(name));
    let _ramfs = Mounted::new("ramfs", "ramfs", &ramfs, "");
    let _bpf = Mounted::new("bpf", "bpf", &bpf, "");
    let image = case.path("image");
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    run_tool("mkdosfs", &[&image]);
    let device = run_tool("losetup", &[Path::new("-f")]);
    run_tool("losetup", &[Path::new(&device), &image]);
    let vfat_mount = Mounted::new("vfat", &device, &vfat, "");
    case.file("ramfs/file");
    case.file("vfat/file");
    let lines = [
        ("ramfs/file", case.path("ramfs/file"), "not tested"),
        ("bpf/", bpf, "not tested"),
        ("vfat/", vfat.clone(), "names that differ only in case are the same"),
        ("proc", "/proc/kmsg".into(), "its inodes come and go with processes"),
        ("sysfs", "/sys/kernel/notes".into(), "its inodes come and go with devices"),
        ("cgroup", "/sys/fs/cgroup/cgroup.procs".into(), "its inodes come and go with cgroups"),
        ("device", "/dev/null".into(), "a device, socket or pipe"),
        ("terminal", "/dev/pts/ptmx".into(), "a device can be opened through any node"),
    ];
    let mut rule = Rule::audit("r").file(case.file("plain"));
    for (kind, path, _) in &lines {
        rule = if kind.ends_with('/') { rule.beneath(path) } else { rule.file(path) };
    }
    let policy = case.policy().rule(rule);
    let report = case.apply(&policy);
    let weaker = report["objects"]["weaker"].as_array().unwrap();
    assert_eq!(weaker.len(), lines.len(), "{report}");
    for (_, path, why) in &lines {
        let path = path.to_str().unwrap();
        let told = weaker.iter().find(|weaker| {
            weaker["object"].as_str().is_some_and(|object| object.trim_end_matches('/') == path)
        });
        let told = told.unwrap_or_else(|| panic!("{path} is not called weaker: {report}"));
        assert!(told["reasons"].to_string().contains(why), "{told}");
    }
    let file = case.write_policy(&policy);
    let strict = aegisbpf(&["apply", &file, "--allow-unsigned", "--strict"]);
    strict.refused("STRICT", &["/proc/kmsg", "hint: "]);
    vfat_mount.unmount();
    run_tool("losetup", &[Path::new("-d"), Path::new(&device)]);
}

/// One of its many names would be no promise.
#[test]
fn an_exact_file_in_a_directory_that_ignores_case_is_refused() {
    let case = Case::new();
    let place = Place::new("/data");
    let folded = place.ignore_case("folded");
    let file = place.file("folded/file");
    let answer = case.try_apply(&case.policy().rule(Rule::deny("r").file(&file)));
    if kernel_is_at_least(5, 11) {
        folded.unwrap();
        answer.refused("OBJECTS", &[file.to_str().unwrap(), "hint: "]);
        // A directory there has one spelling of its own, and everything below.
        let report = case.enforce(Rule::deny("r").beneath(place.directory("folded/Vault")));
        assert_eq!(report["objects"]["bound"], 1, "{report}");
    } else {
        // Debian's 5.10 has no tables of letters.
        assert_eq!(folded, Err(Errno::OPNOTSUPP));
        answer.yes();
    }
}

/// What is mounted there.
pub(crate) fn device_of(top: &str) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(&format!(" {top} "))).unwrap();
    line.split(' ').next().unwrap().to_owned()
}

/// The third field of mountinfo: the number that the kernel itself uses.
pub(crate) fn number_of(mount: &str) -> String {
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = info.lines().find(|line| line.contains(&format!(" / {mount} "))).unwrap();
    line.split(' ').nth(2).unwrap().to_owned()
}

mod denial {
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

    use aegis_tests::{
        Case, Rule,
        machine::{Mounted, drop_caches, kernel_is_at_least, make_subvolume, snapshot},
        operation::*,
    };
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::{Place, device_of, number_of};

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
    fn what_moves_on_xfs_btrfs_and_tmpfs_keeps_its_denial() {
        let case = Case::new();
        let tops = ["/xfs", "/btrfs", "/dev/shm"].map(Place::new);
        let mut rule = Rule::deny("r").access(&["read"]);
        let mut inside = case.inside();
        for top in &tops {
            let secret = top.file("vault/secret");
            for name in ["vault/rotated", "vault/linked", "vault/sub/deep/secret", "open/file"] {
                top.file(name);
            }
            case.control(&mut inside, &[read(&secret), rename(&secret, top.path("open/new"))]);
            rule = rule.beneath(top.path("vault"));
        }
        case.enforce(rule);
        for top in &tops {
            let [secret, new, free] =
                ["vault/secret", "open/new", "open/file"].map(|name| top.path(name));
            for change in [
                rename(&secret, &new),
                rename(top.path("vault/sub"), &new),
                link(&secret, &new),
                exchange(&secret, &free),
            ] {
                case.denied_to_all(&mut inside, "r", &change.denied_for("read"));
            }
            case.allowed(&mut inside, &rename(&secret, top.path("vault/within")));
            fs::rename(top.path("vault/rotated"), &new).unwrap();
            fs::hard_link(top.path("vault/linked"), top.path("open/linked")).unwrap();
            fs::rename(top.path("vault/sub"), top.path("open/sub")).unwrap();
            renameat_with(CWD, top.path("vault/within"), CWD, &free, RenameFlags::EXCHANGE)
                .unwrap();
            drop_caches();
            for path in [&new, &free, &top.path("open/linked"), &top.path("open/sub/deep/secret")] {
                case.denied(&mut inside, "r", &read(path));
            }
            case.denied(&mut inside, "r", &read(top.path("vault/within")));
            fs::remove_dir_all(&top.top).unwrap();
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

    #[test]
    fn on_xfs_a_number_used_again_is_another_file() {
        let case = Case::new();
        let top = Place::new("/xfs");
        let (secret, kept) = (top.file("secret"), top.file("kept"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&kept)]);
        case.enforce(Rule::deny("r").file(&secret).file(&kept));
        case.denied(&mut inside, "r", &read(&kept));
        let number = fs::metadata(&secret).unwrap().ino();
        fs::remove_file(&secret).unwrap();
        drop_caches();
        let innocent = (0..1000)
            .map(|count| top.file(&count.to_string()))
            .find(|path| fs::metadata(path).unwrap().ino() == number)
            .expect("xfs gives the number away again");
        case.allowed(&mut inside, &read(&innocent));
        case.settle();
    }

    /// Neither is what a rule binds in memory only.
    #[test]
    fn forgotten_names_and_inodes_are_denied_when_they_come_back() {
        let case = Case::new();
        let tops = ["/data", "/xfs", "/btrfs"].map(Place::new);
        let mut rule = Rule::deny("r");
        let mut files = Vec::new();
        for top in &tops {
            let (exact, below) = (top.file("exact"), top.file("vault/deep/secret"));
            rule = rule.file(&exact).beneath(top.path("vault"));
            files.extend([exact, below]);
        }
        let neighbours = tops.each_ref().map(|top| top.file("neighbour"));
        let mut inside = case.inside();
        case.control(&mut inside, &files.iter().map(read).collect::<Vec<_>>());
        case.enforce(rule);
        for _ in 0..2 {
            drop_caches();
            for file in &files {
                case.denied(&mut inside, "r", &read(file));
            }
            for neighbour in &neighbours {
                case.allowed(&mut inside, &read(neighbour));
            }
        }
        case.settle();
    }

    /// The kernel gives anonymous device numbers away again: the filesystem comes back under another.
    #[test]
    fn a_filesystem_that_comes_back_with_another_device_number_is_denied_by_its_paths() {
        let case = Case::new();
        let top = Place::new("/btrfs");
        let (secret, below) = (top.file("exact"), top.file("vault/deep/secret"));
        let taken = case.directory("taken");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&below)]);
        let rule = || Rule::deny("r").file(&secret).beneath(top.path("vault"));
        case.enforce(rule());
        case.denied(&mut inside, "r", &read(&secret));
        let device = device_of("/btrfs");
        let before = number_of("/btrfs");
        rustix::mount::unmount("/btrfs", rustix::mount::UnmountFlags::empty()).unwrap();
        let _taken = Mounted::tmpfs(&taken);
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(&device, "/btrfs", "btrfs", flags, None).unwrap();
        assert_ne!(number_of("/btrfs"), before, "its device number is another one");
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &read(&below));
        let later = top.file("vault/later");
        case.denied(&mut inside, "r", &read(&later));
        let neighbour = top.file("neighbour");
        // What was not there when objects were bound may be any of them, until they are bound afresh.
        case.denied(&mut inside, "r", &read(&neighbour));
        case.enforce(rule());
        case.allowed(&mut inside, &read(&neighbour));
        case.denied(&mut inside, "r", &read(&later));
        case.settle();
    }

    #[test]
    fn a_btrfs_subvolume_is_denied_by_its_path_and_what_is_in_it_by_inode() {
        let case = Case::new();
        let top = Place::new("/btrfs");
        let volume = top.path("volume");
        make_subvolume(&volume);
        let (exact, below) = (top.file("volume/exact"), top.file("volume/vault/deep/secret"));
        let whole = top.path("whole");
        make_subvolume(&whole);
        let inner = top.file("whole/a/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&exact), read(&below), read(&inner)]);
        case.enforce(
            Rule::deny("r").file(&exact).beneath(top.path("volume/vault")).beneath(&whole),
        );
        for path in [&exact, &below, &inner] {
            case.denied(&mut inside, "r", &read(path));
        }
        let linked = top.path("volume/linked");
        fs::hard_link(&exact, &linked).unwrap();
        case.denied(&mut inside, "r", &read(&linked));
        fs::rename(top.file("volume/new"), &exact).unwrap();
        case.denied(&mut inside, "r", &read(&exact));
        let later = top.file("whole/later");
        case.denied(&mut inside, "r", &read(&later));
        let neighbour = top.file("volume/neighbour");
        case.allowed(&mut inside, &read(&neighbour));
        case.settle();
    }

    /// An outsider's snapshot is full of second copies of what is denied.
    #[test]
    fn a_snapshot_of_a_btrfs_subvolume_is_as_denied_as_its_origin() {
        let case = Case::new();
        let top = Place::new("/btrfs");
        let (volume, copy) = (top.path("volume"), top.path("copy"));
        make_subvolume(&volume);
        let exact = top.file("volume/exact");
        top.file("volume/vault/deep/secret");
        let neighbour = top.file("volume/neighbour");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&exact), read(&neighbour)]);
        case.enforce(Rule::deny("r").file(&exact).beneath(top.path("volume/vault")));
        snapshot(&volume, &copy);
        case.denied(&mut inside, "r", &read(copy.join("exact")));
        case.denied(&mut inside, "r", &read(copy.join("vault/deep/secret")));
        case.allowed(&mut inside, &read(copy.join("neighbour")));
        case.settle();
    }

    /// A file of a snapshot has the numbers of its origin's.
    #[test]
    fn what_left_stays_denied_when_its_copy_in_a_snapshot_goes() {
        let case = Case::new();
        let top = Place::new("/btrfs");
        let (volume, copy) = (top.path("volume"), top.path("copy"));
        make_subvolume(&volume);
        // Of one transaction, files of several subvolumes have the same numbers from the beginning.
        rustix::fs::sync();
        let secret = top.file("volume/vault/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").beneath(top.path("volume/vault")));
        case.allowed(&mut inside, &list(&volume));
        let left = volume.join("left");
        fs::rename(&secret, &left).unwrap();
        snapshot(&volume, &copy);
        fs::remove_file(copy.join("left")).unwrap();
        case.denied(&mut inside, "r", &read(&left));
        case.settle();
    }

    /// One that took the place of one that was known, by whose names alone rules hold.
    #[test]
    fn a_directory_that_ignores_case_frees_nothing_where_it_comes() {
        let case = Case::new();
        let top = Place::new("/data");
        let secret = top.file("way/app/secret");
        let folds = top.ignore_case("new").is_ok();
        top.file("new/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        fs::rename(top.path("way/app"), top.path("old")).unwrap();
        fs::rename(top.path("new"), top.path("way/app")).unwrap();
        drop_caches();
        if folds {
            case.denied(&mut inside, "r", &read(top.path("way/app/SECRET")));
        }
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn what_lies_in_a_directory_that_ignores_case_is_denied_by_every_spelling() {
        let case = Case::new();
        let mut tops = Vec::new();
        if kernel_is_at_least(5, 11) {
            tops.push((Place::new("/data"), None));
        }
        if kernel_is_at_least(6, 13) {
            let on = case.directory("shm");
            let mounted = Mounted::new("tmpfs", "tmpfs", &on, "casefold");
            tops.push((Place { top: on }, Some(mounted)));
        }
        // Without tables of letters the kernel has no such directories; names stay as they are typed.
        if tops.is_empty() {
            let plain = Place::new("/data");
            assert_eq!(plain.ignore_case("folded"), Err(rustix::io::Errno::OPNOTSUPP));
            tops.push((plain, None));
        }
        let mut rule = Rule::deny("r");
        let mut inside = case.inside();
        for (top, _) in &tops {
            let folded = top.ignore_case("folded").is_ok();
            let secret = top.file("folded/Vault/Secret");
            case.control(&mut inside, &[read(&secret)]);
            if folded {
                case.control(&mut inside, &[read(top.path("folded/VAULT/secret"))]);
            }
            rule = rule.beneath(top.path("folded/Vault"));
        }
        case.enforce(rule);
        for (top, _) in &tops {
            case.denied(&mut inside, "r", &read(top.path("folded/Vault/Secret")));
            if top.path("folded/VAULT").exists() {
                case.denied(&mut inside, "r", &read(top.path("folded/VAULT/secret")));
                fs::rename(top.path("folded/vault"), top.path("old")).unwrap();
                top.file("folded/vAULT/secret");
                for spelling in ["folded/vAULT/secret", "folded/Vault/Secret"] {
                    case.denied(&mut inside, "r", &read(top.path(spelling)));
                }
            }
            let neighbour = top.file("neighbour");
            case.allowed(&mut inside, &read(&neighbour));
        }
        case.settle();
    }
}
