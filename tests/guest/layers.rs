// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Overlayfs with its layers on one filesystem: the merged file and the real one behind it are two, and both are asked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aegis_tests::machine::Mounted;

/// Layers on /xfs: kernels refuse those on a filesystem that might ignore case, as the disk of the other cases is.
struct Layers {
    top: PathBuf,
    mounted: Option<Mounted>,
}

impl Layers {
    fn new() -> Self {
        let top = Path::new("/xfs").join(format!("T{}", std::process::id()));
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        Self { top, mounted: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "content").unwrap();
        path
    }

    fn mount(&mut self, more: &str) {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| self.path(name));
        let [lower, upper, work] = [&lower, &upper, &work].map(|path| path.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{more}");
        self.mounted = Some(Mounted::new("overlay", "overlay", self.path("merged"), &options));
    }

    /// One more overlay, with what is mounted as its lower layer.
    fn above(&self) -> Mounted {
        for name in ["upper", "work", "merged"] {
            fs::create_dir_all(self.path("above").join(name)).unwrap();
        }
        let lower = self.path("merged");
        let [upper, work, merged] =
            ["upper", "work", "merged"].map(|name| self.path("above").join(name));
        let [lower, upper, work] = [&lower, &upper, &work].map(|path| path.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Mounted::new("overlay", "overlay", merged, &options)
    }
}

/// Somebody in no scope writes: a file that is not there yet is copied to the upper layer.
fn append(path: &Path) {
    let mut opened = fs::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut opened, b"more").unwrap();
}

/// Who names the merged path learns what that is worth.
#[test]
fn apply_says_what_a_rule_on_a_merged_path_is_worth() {
    let case = aegis_tests::Case::new();
    let mut layers = Layers::new();
    layers.file("lower/secret");
    layers.mount("");
    let merged = layers.path("merged/secret");
    let report = case.enforce(aegis_tests::Rule::deny("r").file(&merged));
    let weaker = &report["objects"]["weaker"];
    assert_eq!(weaker[0]["object"], merged.to_str().unwrap(), "{report}");
    assert!(weaker[0]["reasons"].to_string().contains("layers beneath"), "{report}");
}

mod denial {
    use std::{fs, os::unix::fs::symlink};

    use aegis_tests::{Case, Process, Rule, machine::Mounted, operation::*, policy::newer_version};
    use rustix::fs::OFlags;

    use super::{Layers, append};

    #[test]
    fn a_rule_on_a_lower_file_holds_through_the_overlay() {
        let case = Case::new();
        let mut layers = Layers::new();
        let exact = layers.file("lower/exact");
        layers.file("lower/vault/deep/secret");
        layers.mount("");
        let merged = layers.path("merged/exact");
        let below = layers.path("merged/vault/deep/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&exact), read(&merged), read(&below)]);
        case.enforce(Rule::deny("r").file(&exact).beneath(layers.path("lower/vault")));
        case.denied(&mut inside, "r", &read(&exact));
        case.denied(&mut inside, "r", &read(&merged));
        case.denied(&mut inside, "r", &read(&below));
        // Opening for both: the copy up that it asks for would read the file below.
        let both = open(&merged, OFlags::RDWR | OFlags::APPEND);
        case.denied_to_all(&mut inside, "r", &both);
        case.settle();
    }

    #[test]
    fn a_rule_on_an_upper_file_holds_through_the_overlay() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.mount("");
        let merged = layers.file("merged/dir/secret");
        let upper = layers.path("upper/dir/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&merged), read(&upper)]);
        case.enforce(Rule::deny("r").file(&upper));
        case.denied(&mut inside, "r", &read(&upper));
        case.denied(&mut inside, "r", &read(&merged));
        case.denied(&mut inside, "r", &write(&merged));
        case.settle();
    }

    #[test]
    fn a_rule_on_a_merged_path_holds_for_what_is_there_and_what_comes() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/vault/secret");
        layers.file("lower/exact");
        layers.mount("");
        let [secret, exact, later] =
            ["merged/vault/secret", "merged/exact", "merged/vault/a/later"]
                .map(|name| layers.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&exact)]);
        case.enforce(Rule::deny("r").file(&exact).beneath(layers.path("merged/vault")));
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &read(&exact));
        layers.file("merged/vault/a/later");
        case.denied(&mut inside, "r", &read(&later));
        // A copy up is another file behind the same name.
        fs::write(&secret, "changed").unwrap();
        fs::write(&exact, "changed").unwrap();
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &read(&exact));
        case.settle();
    }

    /// The insider's write makes the overlay read what he may not read.
    #[test]
    fn a_copy_up_by_an_insider_is_a_read_of_the_file_below() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/vault/secret");
        layers.mount("");
        let merged = layers.path("merged/vault/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&merged)]);
        case.enforce(Rule::deny("r").beneath(layers.path("lower/vault")).access(&["read"]));
        let written = inside.perform(&write(&merged));
        if written == Tried::Allowed {
            panic!("NOT DENIED: {}", write(&merged));
        }
        assert_eq!(written, Tried::Refused(1));
        assert!(!layers.path("upper/vault/secret").exists(), "nothing was copied");
        case.denied(&mut inside, "r", &read(&merged));
        case.forget();
    }

    /// What is mapped is the file below, and it is asked for by the one above.
    #[test]
    fn a_rule_on_running_a_lower_file_holds_for_what_is_mapped_through_the_overlay() {
        let case = Case::new();
        let mut layers = Layers::new();
        let below = layers.file("lower/program");
        layers.mount("");
        let merged = layers.path("merged/program");
        let mut inside = case.inside();
        let maps = [map(&merged, Mapping::Exec), map(&merged, Mapping::LateExec)];
        case.control(&mut inside, &maps);
        case.enforce(Rule::deny("r").file(&below).access(&["exec"]));
        for map in &maps {
            case.denied(&mut inside, "r", map);
        }
        case.allowed(&mut inside, &map(&merged, Mapping::Read));
        case.settle();
    }

    #[test]
    fn a_rule_on_running_a_merged_file_holds_for_what_is_mapped_of_the_layer() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/program");
        layers.file("lower/vault/program");
        layers.mount("");
        let merged = ["merged/program", "merged/vault/program"].map(|name| layers.path(name));
        let mut inside = case.inside();
        let kinds = [Mapping::Exec, Mapping::LateExec];
        for path in &merged {
            case.control(&mut inside, &kinds.map(|kind| map(path, kind)));
        }
        let rule = Rule::deny("r").file(&merged[0]).beneath(layers.path("merged/vault"));
        case.enforce(rule.access(&["exec"]));
        for path in &merged {
            for kind in kinds {
                case.denied(&mut inside, "r", &map(path, kind));
            }
            case.allowed(&mut inside, &map(path, Mapping::Read));
        }
        case.settle();
    }

    /// A descriptor from before is no way to what the layer below is denied for.
    #[test]
    fn what_was_opened_before_is_not_mapped_where_the_file_below_is_denied() {
        let case = Case::new();
        let mut layers = Layers::new();
        let below = layers.file("lower/secret");
        layers.mount("");
        let merged = layers.path("merged/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[hold(&merged, OFlags::RDONLY), map(&merged, Mapping::Read)]);
        case.enforce(Rule::deny("r").file(&below));
        case.denied(&mut inside, "r", &map(&merged, Mapping::Read));
        case.settle();
    }

    /// Attributes went up first; with the content comes what it is denied for.
    #[test]
    fn content_that_follows_its_attributes_up_takes_the_denial_along() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/vault/secret");
        let exact = layers.file("lower/exact");
        layers.mount(",metacopy=on");
        let merged = ["merged/vault/secret", "merged/exact"].map(|name| layers.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &merged.each_ref().map(read));
        case.enforce(Rule::deny("r").file(&exact).beneath(layers.path("lower/vault")));
        for path in &merged {
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
            append(path);
            case.denied(&mut inside, "r", &read(path));
        }
        for name in ["upper/vault/secret", "upper/exact"] {
            assert_eq!(fs::read_to_string(layers.path(name)).unwrap(), "contentmore");
            case.denied(&mut inside, "r", &read(layers.path(name)));
        }
        case.settle();
    }

    /// With metacopy, attributes go up and the content stays below.
    #[test]
    fn a_copy_of_attributes_alone_leaves_the_content_denied() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/vault/secret");
        layers.mount(",metacopy=on");
        let merged = layers.path("merged/vault/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&merged)]);
        case.enforce(Rule::deny("r").beneath(layers.path("lower/vault")));
        std::os::unix::fs::chown(&merged, Some(65534), None).unwrap();
        assert!(layers.path("upper/vault/secret").exists(), "attributes went up");
        case.denied(&mut inside, "r", &read(&merged));
        case.settle();
    }

    /// Content that an outsider's write took to the layer above is what it was below.
    #[test]
    fn a_copy_up_by_an_outsider_takes_the_denial_along() {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/vault/secret");
        let exact = layers.file("lower/exact");
        layers.mount("");
        let [below, merged] = ["merged/vault/secret", "merged/exact"].map(|name| layers.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&below), read(&merged)]);
        case.enforce(Rule::deny("r").file(&exact).beneath(layers.path("lower/vault")));
        for path in [&below, &merged] {
            append(path);
            case.denied(&mut inside, "r", &read(path));
        }
        for name in ["upper/vault/secret", "upper/exact"] {
            case.denied(&mut inside, "r", &read(layers.path(name)));
        }
        case.settle();
    }

    #[test]
    fn a_copy_up_to_a_filesystem_without_objects_takes_the_denial_along() {
        copy_up_to_another(true);
    }

    #[test]
    fn a_copy_up_to_a_filesystem_from_after_apply_takes_the_denial_along() {
        copy_up_to_another(false);
    }

    /// Its upper layer is on a filesystem that was there when objects were bound, or was not.
    fn copy_up_to_another(is_there: bool) {
        let case = Case::new();
        let mut layers = Layers::new();
        layers.file("lower/vault/secret");
        let [exact, _] = ["lower/exact", "lower/free"].map(|name| layers.file(name));
        let top = layers.path("top");
        fs::create_dir(&top).unwrap();
        let early = is_there.then(|| Mounted::tmpfs(&top));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&exact)]);
        let rule = Rule::deny("r").access(&["read", "write"]);
        let policy = case.policy().rule(rule.file(&exact).beneath(layers.path("lower/vault")));
        case.apply(&policy);
        let _upper = early.unwrap_or_else(|| Mounted::tmpfs(&top));
        for name in ["upper", "work"] {
            fs::create_dir(top.join(name)).unwrap();
            fs::remove_dir(layers.path(name)).unwrap();
            symlink(top.join(name), layers.path(name)).unwrap();
        }
        layers.mount("");
        let merged = ["vault/secret", "exact", "free"].map(|name| layers.path("merged").join(name));
        merged.iter().for_each(|path| append(path));
        // The second time that filesystem was there when objects were bound, and then it has some.
        for _ in 0..2 {
            for name in ["vault/secret", "exact"] {
                let upper = top.join("upper").join(name);
                case.denied(&mut inside, "r", &read(layers.path("merged").join(name)));
                case.denied(&mut inside, "r", &read(&upper));
                case.denied(&mut inside, "r", &chmod(&upper));
            }
            case.allowed(&mut inside, &read(top.join("upper/free")));
            case.allowed(&mut inside, &chmod(top.join("upper/free")));
            case.apply(&policy.clone().version(newer_version()));
        }
        case.settle();
    }

    /// Of two workloads one is denied it, and the other writes.
    #[test]
    fn a_copy_up_by_whom_nothing_is_denied_is_denied_to_others() {
        let case = Case::new();
        let mut layers = Layers::new();
        let exact = layers.file("lower/exact");
        layers.mount("");
        let merged = layers.path("merged/exact");
        let other = format!("{}-other", case.workload());
        let mut writing = Process::inside(&case.make_cgroup(&other));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&merged)]);
        let nothing = layers.path("nothing");
        let policy = case.policy().rule(Rule::deny("r").file(&exact)).workload("other", &[&other]);
        case.apply(&policy.rule(Rule::deny("n").of("other").file(nothing)));
        case.allowed(&mut writing, &open(&merged, OFlags::WRONLY | OFlags::APPEND));
        assert!(layers.path("upper/exact").exists(), "it went up");
        case.denied(&mut inside, "r", &read(&merged));
        case.denied(&mut inside, "r", &read(layers.path("upper/exact")));
        case.settle();
    }

    /// By one thread, as a program that changes a whole tree.
    #[test]
    fn a_copy_up_is_its_own_files_whatever_was_copied_before() {
        let case = Case::new();
        let mut layers = Layers::new();
        let names = ["free", "secret", "open", "hidden"];
        let [_, secret, _, hidden] = names.map(|name| layers.file(&format!("lower/{name}")));
        layers.mount("");
        let merged = names.map(|name| layers.path("merged").join(name));
        let mut inside = case.inside();
        case.control(&mut inside, &merged.each_ref().map(read));
        case.enforce(Rule::deny("r").file(&secret).file(&hidden));
        for path in &merged {
            append(path);
        }
        for name in names {
            let copy = read(layers.path("upper").join(name));
            match name {
                "free" | "open" => case.allowed(&mut inside, &copy),
                _ => case.denied(&mut inside, "r", &copy),
            }
        }
        case.settle();
    }

    /// The one above knows the file below as one of the other overlay.
    #[test]
    fn an_overlay_on_an_overlay_is_no_way_around() {
        let case = Case::new();
        let mut layers = Layers::new();
        let [read_only, copied] = ["lower/read", "lower/copied"].map(|name| layers.file(name));
        layers.mount("");
        let above = layers.above();
        let mut inside = case.inside();
        let merged = ["read", "copied"].map(|name| layers.path("above/merged").join(name));
        case.control(&mut inside, &merged.each_ref().map(read));
        case.enforce(Rule::deny("r").file(&read_only).file(&copied));
        for path in &merged {
            case.denied(&mut inside, "r", &read(path));
        }
        append(&merged[1]);
        case.denied(&mut inside, "r", &read(&merged[1]));
        case.denied(&mut inside, "r", &read(layers.path("above/upper/copied")));
        drop(above);
        case.settle();
    }

    /// More rules than a walk can tell apart are all of them for the copy as well.
    #[test]
    fn a_copy_of_what_left_three_places_is_denied_by_the_rules_of_all_four() {
        let case = Case::new();
        let mut layers = Layers::new();
        let places = ["one", "two", "three", "lower/four"];
        let mut policy = case.policy();
        let mut processes = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let name = format!("w{number}");
            let cgroup = format!("{}-{name}", case.workload());
            processes.push(Process::inside(&case.make_cgroup(&cgroup)));
            let directory = layers.path(place);
            fs::create_dir_all(&directory).unwrap();
            policy = policy
                .workload(&name, &[&cgroup])
                .rule(Rule::deny(&name).of(&name).beneath(&directory));
        }
        let mut at = layers.file("one/file");
        for process in &mut processes {
            case.control(process, &[read(&at)]);
        }
        case.apply(&policy);
        for place in &places[1..] {
            let to = layers.path(place).join("file");
            fs::rename(&at, &to).unwrap();
            at = to;
        }
        layers.mount("");
        append(&layers.path("merged/four/file"));
        for (number, process) in processes.iter_mut().enumerate() {
            let rule = format!("w{number}");
            case.denied(process, &rule, &read(layers.path("upper/four/file")));
        }
        case.settle();
    }
}
