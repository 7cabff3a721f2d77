// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which distribution this is and how it boots, so that a fix names the file to edit and the command to
//! run.

use std::{fs, path::Path};

use serde::Serialize;

/// What `os-release` and the files of boot loaders tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Distribution {
    /// `ID` of os-release, or empty.
    pub(crate) id: String,
    /// `PRETTY_NAME`, or empty.
    pub(crate) name: String,
    /// How words come to the kernel's command line.
    pub(crate) boot: Boot,
}

/// How words come to the kernel's command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Boot {
    /// An image that is replaced as a whole: Fedora CoreOS, Silverblue.
    RpmOstree,
    /// Fedora, RHEL and what comes from them.
    Grubby,
    /// Debian, Ubuntu and what comes from them.
    UpdateGrub,
    /// openSUSE and SLES.
    Grub2,
    /// Arch and others with plain GRUB.
    Grub,
    /// systemd-boot, with its words in /etc/kernel/cmdline.
    LoaderEntries,
    #[default]
    Unknown,
}

impl Distribution {
    /// Looks at this host.
    pub(crate) fn of_this_host() -> Self {
        let text = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        Self::from(&text, |path| Path::new(path).exists())
    }

    /// The same of a text and of what exists.
    fn from(os_release: &str, exists: impl Fn(&str) -> bool) -> Self {
        let field = |name: &str| {
            let value =
                os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let (id, like) = (field("ID"), field("ID_LIKE"));
        let is = |names: &[&str]| {
            names.iter().any(|name| id == *name || like.split(' ').any(|like| like == *name))
        };
        let boot = if exists("/run/ostree-booted") {
            Boot::RpmOstree
        } else if exists("/etc/kernel/cmdline") && !exists("/etc/default/grub") {
            Boot::LoaderEntries
        } else if is(&["fedora", "rhel", "centos"]) {
            Boot::Grubby
        } else if is(&["debian", "ubuntu"]) {
            Boot::UpdateGrub
        } else if is(&["suse", "opensuse", "sles"]) {
            Boot::Grub2
        } else if exists("/etc/default/grub") {
            Boot::Grub
        } else {
            Boot::Unknown
        };
        Self { name: field("PRETTY_NAME"), id, boot }
    }

    /// How to boot with these words on the kernel's command line.
    pub(crate) fn boot_with(&self, words: &str) -> String {
        let grub = |command: &str| {
            format!(
                "add `{words}` to GRUB_CMDLINE_LINUX in /etc/default/grub, run `{command}`, and boot again"
            )
        };
        match self.boot {
            Boot::RpmOstree => {
                format!("run `rpm-ostree kargs --append-if-missing='{words}'` and boot again")
            }
            Boot::Grubby => {
                format!("run `grubby --update-kernel=ALL --args='{words}'` and boot again")
            }
            Boot::UpdateGrub => grub("update-grub"),
            Boot::Grub2 => grub("grub2-mkconfig -o /boot/grub2/grub.cfg"),
            Boot::Grub => grub("grub-mkconfig -o /boot/grub/grub.cfg"),
            Boot::LoaderEntries => format!(
                "add `{words}` to /etc/kernel/cmdline, run `kernel-install add-all` (or make your \
                 unified kernel image anew), and boot again"
            ),
            Boot::Unknown => {
                format!(
                    "add `{words}` to the kernel's command line in your boot loader, and boot again"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(os_release: &str, files: &[&str]) -> Boot {
        Distribution::from(os_release, |path| files.contains(&path)).boot
    }

    #[test]
    fn each_distribution_is_told_its_own_way() {
        let grub = ["/etc/default/grub"];
        assert_eq!(boot("ID=debian\n", &grub), Boot::UpdateGrub);
        assert_eq!(boot("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", &grub), Boot::UpdateGrub);
        assert_eq!(boot("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &grub), Boot::Grubby);
        assert_eq!(boot("ID=fedora\n", &["/run/ostree-booted"]), Boot::RpmOstree);
        assert_eq!(boot("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", &grub), Boot::Grub2);
        assert_eq!(boot("ID=arch\n", &grub), Boot::Grub);
        assert_eq!(boot("ID=arch\n", &["/etc/kernel/cmdline"]), Boot::LoaderEntries);
        assert_eq!(boot("", &[]), Boot::Unknown);
    }

    #[test]
    fn every_way_names_the_words_and_the_boot() {
        for boot in [
            Boot::RpmOstree,
            Boot::Grubby,
            Boot::UpdateGrub,
            Boot::Grub2,
            Boot::Grub,
            Boot::LoaderEntries,
            Boot::Unknown,
        ] {
            let fix = Distribution { boot, ..Distribution::default() }.boot_with("lsm=a,bpf");
            assert!(fix.contains("lsm=a,bpf") && fix.contains("boot again"), "{fix}");
        }
    }
}
