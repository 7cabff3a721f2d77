// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flags of the verbs that make keys, signatures and trust roots.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `keygen`.
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Where the private key goes; the public one goes to K.pub
    #[arg(short, long, value_name = "K")]
    pub(crate) out: PathBuf,
}

/// Flags of `sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// A policy; or a bundle, which gets another signature
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) by: By,
    /// Until when it may be accepted: 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z
    #[arg(long, value_name = "D")]
    pub(crate) expires: Option<String>,
    /// From when on; now, without
    #[arg(long, value_name = "D")]
    pub(crate) not_before: Option<String>,
    /// The repository that the text is from
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) source: Option<String>,
    /// The commit in it
    #[arg(long, value_name = "COMMIT", requires = "source")]
    pub(crate) commit: Option<String>,
    /// Who wrote the policy
    #[arg(long, value_name = "TEXT")]
    pub(crate) author: Option<String>,
    /// What else is to be known
    #[arg(long, value_name = "TEXT")]
    pub(crate) notes: Option<String>,
    /// Where the bundle goes; without, what is signed again is replaced
    #[arg(short, long, value_name = "B")]
    pub(crate) out: Option<PathBuf>,
}

/// Who signs: keys that are here, or somebody elsewhere.
#[derive(Debug, Args)]
pub(crate) struct By {
    /// A private key; may stand several times
    #[arg(long, value_name = "K")]
    pub(crate) key: Vec<PathBuf>,
    /// Sign elsewhere: write what has to be signed to OUT.tosign
    #[arg(long, conflicts_with_all = ["key", "attach"])]
    pub(crate) prepare: bool,
    /// A signature of 64 bytes that was made elsewhere
    #[arg(long, value_name = "SIGNATURE", requires = "public_key")]
    pub(crate) attach: Option<PathBuf>,
    /// The public key that it was made with
    #[arg(long, value_name = "PUB", requires = "attach")]
    pub(crate) public_key: Option<PathBuf>,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A bundle
    pub(crate) bundle: PathBuf,
    /// By this trust root; without, by the one that is installed here
    #[arg(long, value_name = "ROOT")]
    pub(crate) trust_root: Option<PathBuf>,
    /// Only whether the owner of this key signed it; may stand several times
    #[arg(long, value_name = "PUB", conflicts_with = "trust_root")]
    pub(crate) public_key: Vec<PathBuf>,
}

/// Verbs of `trust`.
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Make the first trust root, signed by its keys
    Init(Init),
    /// Say what a trust root says: the one that is installed, or one in a file
    Show(Show),
    /// Make the next trust root from the one before, to be signed
    Propose(Propose),
    /// Add a signature to a trust root
    Sign(SignRoot),
    /// Make a trust root the one that binds this node
    Install(Install),
}

/// Flags of `trust init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A private key of whoever signs the next root; may stand several times
    #[arg(long, required = true, value_name = "K")]
    pub(crate) key: Vec<PathBuf>,
    /// How many of them have to
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threshold: u32,
    /// Until when it accepts policies: 365d, 2027-01-31
    #[arg(long, value_name = "D")]
    pub(crate) expires: String,
    /// Who signs policies of a name, or of all that begin so: NAME=PUB,PUB:N, with more keys
    /// and how many of them have to sign as needed. Without: those of
    /// --key sign all
    #[arg(long, value_name = "NAME=PUB")]
    pub(crate) delegate: Vec<String>,
    /// Where it goes
    #[arg(short, long, value_name = "ROOT")]
    pub(crate) out: PathBuf,
}

/// Flags of `trust show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A trust root; without, the one that is installed here
    #[arg(value_name = "ROOT")]
    pub(crate) document: Option<PathBuf>,
}

/// Flags of `trust propose`. Keys are files, ids of the root before, or beginnings of ids.
#[derive(Debug, Args)]
pub(crate) struct Propose {
    /// The root before; without, the one that is installed here
    #[arg(value_name = "ROOT")]
    pub(crate) document: Option<PathBuf>,
    /// A key more that signs the next root
    #[arg(long, value_name = "PUB")]
    pub(crate) add_root_key: Vec<String>,
    /// A key that signs it no more
    #[arg(long, value_name = "KEY")]
    pub(crate) drop_root_key: Vec<String>,
    /// How many of those have to sign
    #[arg(long, value_name = "N")]
    pub(crate) threshold: Option<u32>,
    /// Who signs policies of a name, or of all that begin so: NAME=KEY,KEY:N, with more keys
    /// and how many of them have to sign as needed
    #[arg(long, value_name = "NAME=KEY")]
    pub(crate) delegate: Vec<String>,
    /// A delegation to take away
    #[arg(long, value_name = "NAME")]
    pub(crate) undelegate: Vec<String>,
    /// The lowest version of a policy that is accepted anywhere; 0 takes it away
    #[arg(long, value_name = "NAME=VERSION")]
    pub(crate) minimum: Vec<String>,
    /// Lower what nodes have seen of a policy to this version, once
    #[arg(long, value_name = "NAME=VERSION")]
    pub(crate) reset: Vec<String>,
    /// A key that signs nothing any more and never comes back
    #[arg(long, value_name = "KEY")]
    pub(crate) revoke: Vec<String>,
    /// Until when it accepts policies: 365d, 2027-01-31
    #[arg(long, value_name = "D")]
    pub(crate) expires: String,
    /// Where it goes
    #[arg(short, long, value_name = "NEXT")]
    pub(crate) out: PathBuf,
}

/// Flags of `trust sign`.
#[derive(Debug, Args)]
pub(crate) struct SignRoot {
    /// The trust root
    #[arg(value_name = "ROOT")]
    pub(crate) document: PathBuf,
    #[command(flatten)]
    pub(crate) by: By,
    /// Where it goes; without, it is replaced
    #[arg(short, long, value_name = "ROOT")]
    pub(crate) out: Option<PathBuf>,
}

/// Flags of `trust install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The trust root
    #[arg(value_name = "ROOT")]
    pub(crate) document: PathBuf,
    /// What `trust show` says of it, told by whoever made it; for the first one
    #[arg(long, value_name = "SHA256")]
    pub(crate) fingerprint: Option<String>,
    /// Begin anew: the root that is installed is lost, or nobody can sign the next
    #[arg(long, requires_all = ["fingerprint", "reason"])]
    pub(crate) replace: bool,
    /// Why; goes into the log
    #[arg(long, value_name = "TEXT", value_parser = super::reason)]
    pub(crate) reason: Option<String>,
}
