// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `trust init` and `trust propose`: from flags to a root that its keys can sign.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aegis_trust::{Key, KeyId, Kind, NAMES, Names, PublicKey, Role, Root};

use super::super::sign::publish;
use crate::{
    cli::{Init, Propose},
    context::Context,
    failure::Refusal,
    output::Answer,
    provenance::Log,
    trust::{TrustStore, clock, from_now, keys, malformed},
};

pub(super) fn init(args: &Init) -> anyhow::Result<Answer> {
    let secrets = args.key.iter().map(|path| keys::secret(path)).collect::<Result<Vec<_>, _>>()?;
    let mut known = Known::default();
    let mut root_keys = BTreeSet::new();
    for (path, key) in args.key.iter().zip(&secrets) {
        root_keys.insert(known.add(key.public(), path));
    }
    let role = Role { threshold: args.threshold, keys: root_keys };
    let mut delegations = BTreeMap::new();
    for text in &args.delegate {
        let (names, role) = delegation(text, &mut known)?;
        delegations.insert(names, role);
    }
    if let Some(everything) = Names::read("*").filter(|_| args.delegate.is_empty()) {
        delegations.insert(everything, role.clone());
    }
    let now = clock();
    let root = Root {
        version: 1,
        issued: now,
        expires: from_now("--expires", &args.expires, now)?,
        keys: known.0,
        root: role,
        delegations,
        minimums: BTreeMap::new(),
        resets: BTreeMap::new(),
        revoked: BTreeSet::new(),
    };
    let mut envelope = root.envelope().map_err(|error| malformed("this root", &error))?;
    for key in &secrets {
        envelope.sign(key)?;
    }
    publish(&envelope, &args.out, None, "trust root version 1; its digest is its fingerprint")
}

pub(super) fn propose(context: &Context, args: &Propose) -> anyhow::Result<Answer> {
    let mut root = match &args.document {
        Some(path) => Root::claimed(&keys::envelope(Kind::Root, path)?)
            .map_err(|error| malformed(path.display(), &error))?,
        None => TrustStore::new(context).installed(&Log::new(context))?.root()?.root().clone(),
    };
    let before = root.version;
    let now = clock();
    root.version =
        before.checked_add(1).ok_or_else(|| bad("the root before is the last one".to_owned()))?;
    root.issued = now;
    root.expires = from_now("--expires", &args.expires, now)?;
    root.resets = BTreeMap::new();
    let mut known = Known(std::mem::take(&mut root.keys));
    for text in &args.revoke {
        let id = known.find(text)?;
        root.revoked.insert(id);
        root.root.keys.remove(&id);
        for role in root.delegations.values_mut() {
            role.keys.remove(&id);
        }
    }
    for text in &args.drop_root_key {
        root.root.keys.remove(&known.find(text)?);
    }
    for text in &args.add_root_key {
        root.root.keys.insert(known.find(text)?);
    }
    root.root.threshold = args.threshold.unwrap_or(root.root.threshold);
    for text in &args.undelegate {
        let names = names(text)?;
        if root.delegations.remove(&names).is_none() {
            return Err(bad(format!("there is no delegation of {text}")).into());
        }
    }
    for text in &args.delegate {
        let (names, role) = delegation(text, &mut known)?;
        root.delegations.insert(names, role);
    }
    for text in &args.minimum {
        match version(text)? {
            (name, 0) => root.minimums.remove(&name),
            (name, version) => root.minimums.insert(name, version),
        };
    }
    for text in &args.reset {
        let (name, version) = version(text)?;
        root.resets.insert(name, version);
    }
    // A key that signs nothing is not listed.
    let roles = root.delegations.values().chain([&root.root]);
    let used: BTreeSet<KeyId> = roles.flat_map(|role| role.keys.iter().copied()).collect();
    known.0.retain(|id, _| used.contains(id));
    root.keys = known.0;
    let envelope = root.envelope().map_err(|error| {
        malformed("the root that would follow", &error)
            .hint("give a role other keys (--delegate, --add-root-key) or another threshold")
    })?;
    let what = format!("trust root version {}, which nobody signed yet", root.version);
    let mut answer = publish(&envelope, &args.out, None, &what)?;
    answer.text.push_str(&format!(
        "\n  next      `aegisbpf trust sign {} --key K` by those who may sign after version {before}, \
         and by those whom it names",
        args.out.display()
    ));
    Ok(answer)
}

/// Keys by id.
#[derive(Default)]
struct Known(BTreeMap<KeyId, Key>);

impl Known {
    /// Adds a key; its owner is called as its file is.
    fn add(&mut self, public: PublicKey, path: &Path) -> KeyId {
        let id = public.id();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let owner = name.as_deref().and_then(|name| name.split('.').next()).map(str::to_owned);
        let owner = owner.filter(|owner| {
            !owner.is_empty() && owner.len() <= 255 && !owner.chars().any(char::is_control)
        });
        self.0.entry(id).or_insert(Key { public, owner });
        id
    }

    /// The key that is meant: a file, or the beginning of an id that is known.
    fn find(&mut self, text: &str) -> anyhow::Result<KeyId> {
        let path = Path::new(text);
        if path.exists() {
            return Ok(self.add(keys::public(path)?, path));
        }
        let begins = |id: &&KeyId| text.len() >= 8 && id.to_string().starts_with(text);
        let mut found = self.0.keys().filter(begins);
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(*id),
            _ => Err(bad(format!("{text} is neither a file nor the id of one key"))
                .hint(
                    "name the file of a public key, or at least 8 digits of an id of `trust show`",
                )
                .into()),
        }
    }
}

/// `NAME=KEY[,KEY…][:N]`
fn delegation(text: &str, known: &mut Known) -> anyhow::Result<(Names, Role)> {
    let (name, rest) = text.split_once('=').ok_or_else(|| {
        bad(format!("--delegate {text} names no key")).hint("write NAME=KEY[,KEY…][:N]")
    })?;
    let (listed, threshold) = match rest.rsplit_once(':') {
        Some((listed, count)) if count.bytes().all(|byte| byte.is_ascii_digit()) => {
            let threshold = count.parse();
            (listed, threshold.map_err(|error| bad(format!("--delegate {text}: {error}")))?)
        }
        _ => (rest, 1),
    };
    let keys = listed.split(',').map(|text| known.find(text)).collect::<Result<_, _>>()?;
    Ok((names(name)?, Role { threshold, keys }))
}

fn names(text: &str) -> anyhow::Result<Names> {
    Names::read(text).ok_or_else(|| bad(format!("{text} is not {NAMES}")).into())
}

/// `NAME=VERSION`
fn version(text: &str) -> anyhow::Result<(String, u32)> {
    let pair = text.split_once('=').and_then(|(name, version)| Some((name, version.parse().ok()?)));
    let (name, version) =
        pair.ok_or_else(|| bad(format!("{text} is not NAME=VERSION")).hint("such as web=12"))?;
    Ok((name.to_owned(), version))
}

fn bad(message: String) -> Refusal {
    Refusal::new("BAD_USAGE", message)
}
