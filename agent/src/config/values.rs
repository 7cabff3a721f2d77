// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a key may hold. Each kind of value says itself what it takes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use regex_lite::Regex;

/// A value of the configuration.
pub(crate) trait Setting: Sized {
    /// What may stand there, for a person.
    const TAKES: &'static str;
    /// What a file or a flag says.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    fn parse(text: &str) -> Result<Self, String>;
    /// As it would be written there.
    fn written(&self) -> String;
}

/// What becomes of a command to enforce where the host cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateMode {
    /// It is refused.
    FailClosed,
    /// It goes on without denying, and the node says so.
    AuditFallback,
}

impl Setting for GateMode {
    const TAKES: &'static str = "`\"fail-closed\"` or `\"audit-fallback\"`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "fail-closed" => Ok(Self::FailClosed),
            "audit-fallback" => Ok(Self::AuditFallback),
            _ => Err("it is fail-closed or audit-fallback".to_owned()),
        }
    }

    fn written(&self) -> String {
        self.name().to_owned()
    }
}

impl GateMode {
    /// As flags and answers have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FailClosed => "fail-closed",
            Self::AuditFallback => "audit-fallback",
        }
    }
}

/// How policies come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollout {
    /// At once, and for good.
    Direct,
    /// Until somebody confirms it.
    Confirm,
}

impl Setting for Rollout {
    const TAKES: &'static str = "`\"direct\"` or `\"confirm\"`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "direct" => Ok(Self::Direct),
            "confirm" => Ok(Self::Confirm),
            _ => Err("it is direct or confirm".to_owned()),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Direct => "direct",
            Self::Confirm => "confirm",
        }
        .to_owned()
    }
}

/// When policies that nobody signed may be applied, by those who ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowUnsigned {
    /// Until a trust root is installed.
    UntilRoot,
    /// Afterwards as well.
    Always,
    /// Not even before.
    Never,
}

impl Setting for AllowUnsigned {
    const TAKES: &'static str = "`\"until-root\"`, `\"always\"` or `\"never\"`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "until-root" => Ok(Self::UntilRoot),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("it is until-root, always or never".to_owned()),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::UntilRoot => "until-root",
            Self::Always => "always",
            Self::Never => "never",
        }
        .to_owned()
    }
}

/// An address that only this host can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loopback(pub(crate) Option<SocketAddr>);

impl Setting for Loopback {
    const TAKES: &'static str = "a loopback address with a port, as `\"127.0.0.1:9464\"`; or empty";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address: SocketAddr =
            text.parse().map_err(|wrong| format!("it is as 127.0.0.1:9464: {wrong}"))?;
        if address.ip().is_loopback() {
            Ok(Self(Some(address)))
        } else {
            Err("only this host may reach it: 127.0.0.1 or [::1], behind a collector of its own"
                .to_owned())
        }
    }

    fn written(&self) -> String {
        self.0.map_or_else(String::new, |address| address.to_string())
    }
}

/// A regular expression for a whole text; without one, every text will do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pattern(Option<(String, Regex)>);

impl Pattern {
    /// Whether a text is one of those, from its beginning to its end.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.as_ref().is_none_or(|(_, regex)| regex.is_match(text))
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_ref().map_or("", |(text, _)| text))
    }
}

impl Setting for Pattern {
    const TAKES: &'static str = "a regular expression, as `\"INC-[0-9]+: .+\"`; or empty";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // By itself first, so that nothing in it ends the group around it.
        let regex = Regex::new(text).and_then(|_| Regex::new(&format!(r"\A(?:{text})\z")));
        match regex {
            Ok(regex) => Ok(Self(Some((text.to_owned(), regex)))),
            Err(wrong) => Err(format!("it is no regular expression: {wrong}")),
        }
    }

    fn written(&self) -> String {
        self.to_string()
    }
}

/// An absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(Option<PathBuf>);

impl Place {
    pub(crate) fn new(path: &str) -> Self {
        Self(Some(PathBuf::from(path)))
    }

    /// The path, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// The same below a root.
    pub(crate) fn below(&self, root: &Path) -> PathBuf {
        let path = self.0.as_deref().unwrap_or_else(|| Path::new("/"));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Setting for Place {
    const TAKES: &'static str = "an absolute path";

    fn parse(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let normal = path.components().all(|part| {
            matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
        });
        if path.is_absolute() && normal && !text.contains('\0') && text != "/" {
            Ok(Self(Some(path.to_owned())))
        } else {
            Err("it is an absolute path without `..`".to_owned())
        }
    }

    fn written(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }
}

/// How the agent writes what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// The journal if systemd started us, else text.
    Auto,
    Text,
    Json,
    Journald,
}

impl Setting for LogFormat {
    const TAKES: &'static str = "`\"auto\"`, `\"text\"`, `\"json\"` or `\"journald\"`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journald" => Ok(Self::Journald),
            _ => Err("it is auto, text, json or journald".to_owned()),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_for_this_host_alone() {
        assert!(Loopback::parse("127.0.0.1:9464").is_ok());
        assert!(Loopback::parse("[::1]:9464").is_ok());
        for text in ["0.0.0.0:9464", "192.0.2.1:1", "[::]:1", "localhost:9464", "9464"] {
            assert!(Loopback::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_is_for_the_whole_text() {
        let pattern = Pattern::parse("INC-[0-9]+|drill").unwrap();
        assert!(pattern.matches("INC-12") && pattern.matches("drill"));
        for text in ["INC-", "INC-12 and more", "a drill", "drills", "drill\n", ""] {
            assert!(!pattern.matches(text), "{text:?}");
        }
        assert!(Pattern::parse("a|ab").unwrap().matches("ab"), "not the first that matches a part");
        assert!(Pattern::parse("").unwrap().matches("anything"));
        for text in ["(", "a)|(b", "[z-a]", "*"] {
            let wrong = Pattern::parse(text).unwrap_err();
            assert!(wrong.starts_with("it is no regular expression: "), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_path_is_where_it_says_and_below_a_root() {
        let place = Place::parse("/var/lib/x").unwrap();
        assert_eq!(place.below(Path::new("/")), Path::new("/var/lib/x"));
        assert_eq!(place.below(Path::new("/r")), Path::new("/r/var/lib/x"));
        for text in ["x", "/a/../b", "", "/"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
