// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Points at which a test kills a command, has a step of it fail, or has it wait.
//!
//! Without the feature `armed` nothing of this is in the program: every function here is an empty one.
//! With it, the environment says where something goes wrong:
//!
//! ```text
//!   AEGIS_FAULT=NAME:kill     the process kills itself at this point
//!   AEGIS_FAULT=NAME:fail     that step fails with an error of input or output
//!   AEGIS_FAULT=NAME:wait     the process stops, as with SIGSTOP, until SIGCONT comes
//!   AEGIS_FAULT=NAME:kill:3   the third time that it comes there
//!   AEGIS_FAULT=list          says the names, one a line
//!   AEGIS_BUILD=NUMBER        its programs pass for those of another build
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "armed")]
mod armed;

#[cfg(feature = "armed")]
pub use armed::{begin, build, passed, step};

/// A step that can fail is done. It fails here instead if the environment says so.
///
/// # Errors
/// An error of input or output, if that is what was asked for.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn step(_: Point) -> std::io::Result<()> {
    Ok(())
}

/// A step after which nothing can fail is done.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn passed(_: Point) {}

/// Reads the environment; the names of all points, if it asks for them.
///
/// # Errors
/// What is wrong with it, in words.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn begin() -> Result<Option<String>, String> {
    Ok(None)
}

/// What tells the programs of this build from those of another, beside what they are made of.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn build() -> u64 {
    0
}

/// The list: each point with its name.
macro_rules! points {
    ($($(#[$what:meta])* $point:ident = $name:literal,)*) => {
        /// Where a command can be cut off. Each is named for what is done by then.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$what])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// What the environment calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A change has the lock.
    Locked = "locked",
    /// The texts are rules.
    Compiled = "compiled",
    /// Programs are attached and pinned below the place where nothing looks for them.
    HalfInstalled = "half-installed",
    /// All is in its place, and nothing decides yet.
    Installed = "installed",
    /// Our cgroups are there.
    CgroupsMade = "cgroups-made",
    /// Every object was looked at.
    Resolved = "resolved",
    /// A slot has its rows, and no number.
    HalfFilled = "half-filled",
    /// A slot is filled.
    Filled = "filled",
    /// Every object was looked at again.
    ResolvedAgain = "resolved-again",
    /// The texts are on disk.
    Stored = "stored",
    /// The slot decides for the scratch cgroup.
    TrialBegun = "trial-begun",
    /// The slot has denied there, and decides nothing any more.
    TrialEnded = "trial-ended",
    /// It is on disk which versions are about to be accepted.
    FloorsNoted = "floors-noted",
    /// The log says what is about to happen.
    LogBegun = "log-begun",
    /// The slot decides.
    Flipped = "flipped",
    /// It has denied again.
    ProvedAgain = "proved-again",
    /// It was looked what decides, and is about to be noted for the next boot.
    Noting = "noting",
    /// It is on disk which versions were accepted.
    Accepted = "accepted",
    /// What is in force is written down.
    Recorded = "recorded",
    /// What nothing leads to is gone.
    Tidied = "tidied",
    /// The log says that it happened.
    LogDone = "log-done",
    /// Programs are attached beside those of another build, and decide nothing yet.
    Beside = "beside",
    /// They decide as well, and have denied.
    BesideProved = "beside-proved",
    /// Nothing leads back any more in the others.
    Sealed = "sealed",
    /// What is cut off from here on is finished, and not undone.
    Decided = "decided",
    /// The others have lost the name of the pins.
    NameFree = "name-free",
    /// Ours have it.
    NameTaken = "name-taken",
    /// The others decide nothing any more.
    OthersSilent = "others-silent",
    /// They are gone.
    OthersGone = "others-gone",
    /// The log says that everything is about to be taken out.
    DetachBegun = "detach-begun",
    /// Nothing decides any more.
    Undecided = "undecided",
    /// No program is attached.
    LinksGone = "links-gone",
    /// Nothing is pinned.
    PinsGone = "pins-gone",
    /// Our cgroups are gone.
    CgroupsGone = "cgroups-gone",
    /// A file is about to be written.
    WriteBegun = "write-begun",
    /// Its new content is on disk, under another name.
    WriteSynced = "write-synced",
    /// It has its name, which may not be on disk.
    WriteRenamed = "write-renamed",
    /// The kernel knows which line of the log is about to be written.
    LineAnnounced = "line-announced",
    /// It is on disk.
    LineWritten = "line-written",
    /// The kernel knows that.
    LineConfirmed = "line-confirmed",
    /// A trust root is on disk, and binds nobody.
    RootKept = "root-kept",
    /// So is what was accepted under it.
    RootFloorsKept = "root-floors-kept",
    /// It binds this node.
    RootInstalled = "root-installed",
}
