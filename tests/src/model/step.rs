// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A story: what is there, which rules hold, who then does what. As text, so that it can be told again.
//!
//! ```text
//! dir a
//! file a/b
//! rule 0 rw a/ c/b except a/c
//! outside rename a/b b
//! scope-1 link b c
//! ```

use std::{fmt, str::FromStr};

use super::rules::{ACCESSES, ACTORS, Actor, Bound, Rule, WORKLOADS, letters};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A new file.
    Create(String),
    /// A new directory.
    Mkdir(String),
    /// A file's name is taken away.
    Unlink(String),
    /// An empty directory is.
    Rmdir(String),
    /// Something gets another name, and whatever had that loses it.
    Rename(String, String),
    /// Two things change places.
    Exchange(String, String),
    /// A file gets one more name.
    Link(String, String),
    /// The same as renaming, and a whiteout takes the old name, as overlayfs does it.
    Whiteout(String, String),
    /// A symbolic link to a path, which need not lead anywhere.
    Symlink(String, String),
    /// An empty tmpfs covers a directory.
    Tmpfs(String),
    /// A directory is to be seen in the place of another as well.
    Bind(String, String),
    /// And is no more.
    Umount(String),
}

/// Who does what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who.
    pub actor: Actor,
    /// What.
    pub act: Act,
}

/// Something that is there before the rules hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory(String),
    /// A file.
    File(String),
    /// One more name of a file.
    Link(String, String),
    /// A symbolic link to a path.
    Symlink(String, String),
}

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Before the rules hold.
    pub entries: Vec<Entry>,
    /// What holds.
    pub rules: Vec<Rule>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Entry {
    /// How it comes about.
    pub fn act(&self) -> Act {
        match self {
            Self::Directory(path) => Act::Mkdir(path.clone()),
            Self::File(path) => Act::Create(path.clone()),
            Self::Link(from, to) => Act::Link(from.clone(), to.clone()),
            Self::Symlink(target, path) => Act::Symlink(target.clone(), path.clone()),
        }
    }
}

impl Act {
    /// Its name, and its paths.
    pub fn words(&self) -> (&'static str, Vec<&str>) {
        match self {
            Self::Create(path) => ("create", vec![path]),
            Self::Mkdir(path) => ("mkdir", vec![path]),
            Self::Unlink(path) => ("unlink", vec![path]),
            Self::Rmdir(path) => ("rmdir", vec![path]),
            Self::Rename(from, to) => ("rename", vec![from, to]),
            Self::Exchange(one, other) => ("exchange", vec![one, other]),
            Self::Link(from, to) => ("link", vec![from, to]),
            Self::Whiteout(from, to) => ("whiteout", vec![from, to]),
            Self::Symlink(target, path) => ("symlink", vec![target, path]),
            Self::Tmpfs(path) => ("tmpfs", vec![path]),
            Self::Bind(from, to) => ("bind", vec![from, to]),
            Self::Umount(path) => ("umount", vec![path]),
        }
    }

    fn of(words: &[&str]) -> Option<Self> {
        let own = |path: &&str| (*path).to_owned();
        Some(match words {
            ["create", path] => Self::Create(own(path)),
            ["mkdir", path] => Self::Mkdir(own(path)),
            ["unlink", path] => Self::Unlink(own(path)),
            ["rmdir", path] => Self::Rmdir(own(path)),
            ["rename", from, to] => Self::Rename(own(from), own(to)),
            ["exchange", one, other] => Self::Exchange(own(one), own(other)),
            ["link", from, to] => Self::Link(own(from), own(to)),
            ["whiteout", from, to] => Self::Whiteout(own(from), own(to)),
            ["symlink", target, path] => Self::Symlink(own(target), own(path)),
            ["tmpfs", path] => Self::Tmpfs(own(path)),
            ["bind", from, to] => Self::Bind(own(from), own(to)),
            ["umount", path] => Self::Umount(own(path)),
            _ => return None,
        })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, paths) = self.words();
        write!(f, "{name} {}", paths.join(" "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.actor, self.act)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir {path}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Link(from, to) => write!(f, "hard {from} {to}"),
            Self::Symlink(target, path) => write!(f, "soft {target} {path}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} {}", self.workload, letters(self.access))?;
        for object in &self.objects {
            write!(f, " {object}")?;
        }
        if !self.excepts.is_empty() {
            f.write_str(" except")?;
        }
        for except in &self.excepts {
            write!(f, " {except}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

impl FromStr for Story {
    type Err = String;

    /// Lines may also be parted by semicolons.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut story = Self::default();
        for line in text.split(['\n', ';']).map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let bad = || format!("nobody understands {line:?}");
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["dir", path] => story.entries.push(Entry::Directory((*path).to_owned())),
                ["file", path] => story.entries.push(Entry::File((*path).to_owned())),
                ["hard", from, to] => {
                    story.entries.push(Entry::Link((*from).to_owned(), (*to).to_owned()));
                }
                ["soft", target, path] => {
                    story.entries.push(Entry::Symlink((*target).to_owned(), (*path).to_owned()));
                }
                ["rule", rest @ ..] => story.rules.push(rule(rest).ok_or_else(bad)?),
                [who, rest @ ..] => {
                    let actor = ACTORS.into_iter().find(|actor| actor.to_string() == *who);
                    let act = Act::of(rest).ok_or_else(bad)?;
                    story.steps.push(Step { actor: actor.ok_or_else(bad)?, act });
                }
            }
        }
        Ok(story)
    }
}

fn rule(words: &[&str]) -> Option<Rule> {
    let [workload, access, paths @ ..] = words else { return None };
    let of_letter =
        |letter| ACCESSES.iter().find(|(_, own, _)| *own == letter).map(|(access, ..)| access);
    let access = access.chars().map(of_letter).try_fold(0, |all, one| Some(all | one?))?;
    let workload = workload.parse().ok().filter(|number| *number < WORKLOADS)?;
    let mut parts = paths.split(|word| *word == "except");
    let mut bounds = || parts.next().unwrap_or_default().iter().map(|text| Bound::new(text));
    let (objects, excepts) = (bounds().collect(), bounds().collect());
    Some(Rule { workload, access, objects, excepts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_its_text() {
        let text = "dir a\nfile a/b\nhard a/b c\nsoft a/c b\nrule 0 rw a/ c/b except a/c\nrule 2 x b\n\
                    outside rename a/b b\nscope-1 link b a/a\nscope-3 exchange a b\n\
                    outside bind a b\noutside umount b\n\
                    outside whiteout a b\nscope-1 symlink c/a b\noutside tmpfs a\n";
        let story: Story = text.parse().expect("a story");
        assert_eq!(story.to_string(), text);
        assert_eq!((story.entries.len(), story.rules.len(), story.steps.len()), (4, 2, 8));
        assert!("outside dance a".parse::<Story>().is_err());
        assert!("rule 9 r a".parse::<Story>().is_err());
    }
}
