// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Versions never go down, and time is asked once.

use aegis_trust::{Admission, Bundle, Digest, Floors, Moment, Root, TrustRoot};

use crate::world::{NOW, after, bundle, day, in_force, root, signed, told, verified, verify};

const OTHER: Digest = Digest::from_bytes([1; 32]);

struct Node {
    root: TrustRoot,
    floors: Floors,
    clock: Moment,
}

impl Node {
    fn new(root: &Root) -> Self {
        Self { root: in_force(root), floors: Floors::default(), clock: NOW }
    }

    fn admit(&self, bundle: &Bundle) -> Result<Admission, &'static str> {
        let admitted = self.floors.admit(&verified(&self.root, bundle), self.clock);
        admitted.map_err(|error| {
            assert!(!error.to_string().is_empty());
            told(error.code(), error.hint())
        })
    }

    /// Admits it, puts it in force, and is restarted.
    fn apply(&mut self, bundle: &Bundle) -> Result<Admission, &'static str> {
        let admission = self.admit(bundle)?;
        self.floors.begin([&verified(&self.root, bundle)], OTHER);
        self.floors.accept();
        self.floors = Floors::read(&self.floors.write()).unwrap();
        Ok(admission)
    }
}

/// A peer compared with "newer than before" at each start, and refused its own bundle.
#[test]
fn the_same_bundle_again_is_no_news_whatever_the_clock_says() {
    let mut node = Node::new(&root());
    let web = bundle("web", 3);
    assert_eq!(node.apply(&web), Ok(Admission::New));
    for clock in [NOW, day(29), day(30), day(5000), Moment::default()] {
        node.clock = clock;
        assert_eq!(node.apply(&web), Ok(Admission::Known), "{clock}");
    }
}

#[test]
fn a_version_never_goes_down_even_after_its_policy_is_gone() {
    let mut node = Node::new(&root());
    assert_eq!(node.apply(&bundle("web", 3)), Ok(Admission::New));
    assert_eq!(node.apply(&bundle("web", 2)), Err("VERSION_LOWER"));
    assert_eq!(node.apply(&bundle("web", 4)), Ok(Admission::New));
    assert_eq!(node.apply(&bundle("web", 3)), Err("VERSION_LOWER"), "replay");
    assert_eq!(node.apply(&bundle("base", 1)), Ok(Admission::New), "each name has its own");
    assert_eq!(node.floors.floor("web").unwrap().version, 4);
    let all: Vec<(&str, u32)> =
        node.floors.iter().map(|(name, floor)| (name, floor.version)).collect();
    assert_eq!(all, [("base", 1), ("web", 4)]);
}

#[test]
fn one_version_is_one_text() {
    let mut node = Node::new(&root());
    node.apply(&bundle("web", 3)).unwrap();
    let mut other = bundle("web", 3);
    other.text.push('x');
    assert_eq!(node.admit(&other), Err("VERSION_REUSED"));
    // The same text signed again is news: its validity is another.
    let renewed = Bundle { expires: day(60), ..bundle("web", 3) };
    assert_eq!(node.apply(&renewed), Ok(Admission::New));
    assert_eq!(node.apply(&renewed), Ok(Admission::Known));
    let lapsed = Bundle { not_before: day(-9), expires: day(-8), ..bundle("web", 3) };
    assert_eq!(node.admit(&lapsed), Err("EXPIRED"));
}

#[test]
fn versions_do_not_run_away() {
    let mut node = Node::new(&root());
    assert_eq!(node.apply(&bundle("date", 2_026_112_501)), Ok(Admission::New), "the first is free");
    node.apply(&bundle("web", 1)).unwrap();
    assert_eq!(node.admit(&bundle("web", u32::MAX)), Err("VERSION_TOO_FAR"));
    assert_eq!(node.admit(&bundle("web", 1_000_002)), Err("VERSION_TOO_FAR"));
    assert_eq!(node.apply(&bundle("web", 1_000_001)), Ok(Admission::New));
    assert_eq!(node.admit(&bundle("web", 2_000_001)), Ok(Admission::New));
}

#[test]
fn a_root_states_the_lowest_version() {
    let mut document = root();
    document.minimums.insert("web".to_owned(), 5);
    let mut node = Node::new(&document);
    assert_eq!(node.admit(&bundle("web", 4)), Err("VERSION_LOWER"));
    assert_eq!(node.admit(&bundle("web", 5)), Ok(Admission::New));
    assert_eq!(node.admit(&bundle("web", 1_000_006)), Err("VERSION_TOO_FAR"));
    assert_eq!(node.admit(&bundle("base", 1)), Ok(Admission::New));
    node.apply(&bundle("web", 7)).unwrap();
    assert_eq!(node.admit(&bundle("web", 6)), Err("VERSION_LOWER"), "the larger of both");
    document.minimums.insert("web".to_owned(), 8);
    node.root = in_force(&document);
    assert_eq!(node.admit(&bundle("web", 7)), Err("VERSION_LOWER"), "though it was accepted");
}

#[test]
fn a_root_lowers_a_floor_once() {
    let mut node = Node::new(&root());
    node.floors.installed(&node.root);
    node.apply(&bundle("web", 999_999)).unwrap();
    node.apply(&bundle("base", 2)).unwrap();
    let mut document = after(node.root.root());
    document.resets.insert("web".to_owned(), 5);
    document.resets.insert("base".to_owned(), 9);
    document.resets.insert("never-seen".to_owned(), 9);
    node.root = node.root.next(&signed(document.envelope().unwrap(), &[1, 2])).unwrap();
    node.floors.installed(&node.root);
    assert_eq!(node.admit(&bundle("web", 4)), Err("VERSION_LOWER"));
    assert_eq!(node.floors.floor("base").unwrap().version, 2, "it is never raised");
    assert!(node.floors.floor("never-seen").is_none());
    assert_eq!(node.apply(&bundle("web", 5)), Ok(Admission::New), "any text will do");
    node.apply(&bundle("web", 8)).unwrap();
    node.floors.installed(&node.root);
    assert_eq!(node.floors.floor("web").unwrap().version, 8, "not a second time");
    node.floors.new_line();
    node.floors.installed(&node.root);
    assert_eq!(node.floors.floor("web").unwrap().version, 5, "but in another line of roots");
}

#[test]
fn a_floor_that_is_where_a_root_wants_it_keeps_its_text() {
    let mut node = Node::new(&root());
    node.apply(&bundle("web", 5)).unwrap();
    let mut document = after(node.root.root());
    document.resets.insert("web".to_owned(), 5);
    node.root = node.root.next(&signed(document.envelope().unwrap(), &[1, 2])).unwrap();
    node.floors.installed(&node.root);
    let other = Bundle { text: "web 5\nand another second line".to_owned(), ..bundle("web", 5) };
    assert_eq!(node.admit(&other), Err("VERSION_REUSED"));
    assert_eq!(node.admit(&bundle("web", 5)), Ok(Admission::Known));
}

#[test]
fn a_bundle_has_its_time() {
    let mut node = Node::new(&root());
    let web = Bundle { not_before: day(0), expires: day(10), ..bundle("web", 1) };
    let second_before = |moment: Moment| Moment::from_seconds(moment.seconds() - 1);
    for (clock, wanted) in [
        (Moment::default(), Err("NOT_YET_VALID")),
        (second_before(day(0)), Err("NOT_YET_VALID")),
        (day(0), Ok(Admission::New)),
        (second_before(day(10)), Ok(Admission::New)),
        (day(10), Err("EXPIRED")),
    ] {
        node.clock = clock;
        assert_eq!(node.admit(&web), wanted, "{clock}");
    }
}

#[test]
fn an_expired_root_accepts_nothing_new() {
    let mut document = root();
    document.expires = day(5);
    let mut node = Node::new(&document);
    node.apply(&bundle("web", 1)).unwrap();
    node.clock = day(5);
    assert_eq!(node.admit(&bundle("web", 2)), Err("ROOT_EXPIRED"));
    assert_eq!(node.admit(&bundle("web", 1)), Ok(Admission::Known));
    node.clock = Moment::from_seconds(day(5).seconds() - 1);
    assert_eq!(node.admit(&bundle("web", 2)), Ok(Admission::New));
}

/// Setting the clock back makes nothing valid again: what signers said of the time stays known.
#[test]
fn a_clock_that_goes_back_revives_nothing() {
    let mut node = Node::new(&root());
    let old = Bundle { not_before: day(-40), expires: day(-1), ..bundle("old", 1) };
    node.clock = day(-20);
    assert_eq!(node.admit(&old), Ok(Admission::New));
    node.clock = NOW;
    node.apply(&Bundle { not_before: day(0), ..bundle("web", 1) }).unwrap();
    node.clock = day(-20);
    assert_eq!(node.floors.time(node.clock), day(0));
    assert_eq!(node.admit(&old), Err("EXPIRED"));
    node.clock = Moment::default();
    assert_eq!(node.admit(&bundle("base", 1)), Ok(Admission::New), "without a clock, too");
    let mut fresh = Node::new(&root());
    fresh.clock = Moment::default();
    assert_eq!(fresh.admit(&bundle("base", 1)), Err("NOT_YET_VALID"));
    fresh.floors.installed(&fresh.root);
    assert_eq!(fresh.floors.time(fresh.clock), day(-10), "a root says so as well");
}

/// A clock that was in the future for a while spoils nothing.
#[test]
fn a_clock_that_was_wrong_once_is_forgotten() {
    let mut node = Node::new(&root());
    let long = Bundle { expires: day(90_000), ..bundle("web", 1) };
    node.root = in_force(&Root { expires: day(99_999), ..root() });
    node.clock = day(80_000);
    node.apply(&long).unwrap();
    node.clock = NOW;
    assert_eq!(node.admit(&bundle("web", 2)), Ok(Admission::New));
}

#[test]
fn what_was_begun_counts_unless_it_was_not_put_in_force() {
    let after = |settle: fn(&mut Floors)| {
        let mut node = Node::new(&root());
        node.apply(&bundle("web", 1)).unwrap();
        let (two, base) = (bundle("web", 2), bundle("base", 7));
        let (two, base) = (verified(&node.root, &two), verified(&node.root, &base));
        node.floors.begin([&two, &base], OTHER);
        node.floors = Floors::read(&node.floors.write()).unwrap();
        assert_eq!(node.floors.floor("web").unwrap().version, 1, "not yet");
        settle(&mut node.floors);
        let floor = |name| node.floors.floor(name).map(|floor| floor.version);
        let found = (floor("web"), floor("base"));
        assert_eq!(Floors::read(&node.floors.write()).unwrap(), node.floors);
        settle(&mut node.floors);
        found
    };
    let (stayed, went) = ((Some(1), None), (Some(2), Some(7)));
    assert_eq!(after(Floors::accept), went);
    assert_eq!(after(Floors::cancel), stayed);
    assert_eq!(after(|floors| floors.settle(Some(OTHER))), went);
    assert_eq!(after(|floors| floors.settle(None)), went, "nobody knows: the stricter");
    assert_eq!(after(|floors| floors.settle(Some(Digest::from_bytes([2; 32])))), stayed);
    // Whoever comes later accepts nothing of what was taken back.
    let cancelled = |floors: &mut Floors| {
        floors.cancel();
        floors.settle(None);
    };
    assert_eq!(after(cancelled), stayed);
    let mut floors = Floors::default();
    floors.begin([], OTHER);
    assert_eq!(floors, Floors::default());
}

#[test]
fn what_nobody_signed_goes_no_lower_than_what_somebody_did() {
    let mut node = Node::new(&root());
    let policy = bundle("web", 3).policy_digest();
    let admit = |node: &Node, version, policy| {
        node.floors.admit_unsigned("web", version, policy).map_err(|error| error.code())
    };
    assert_eq!(admit(&node, 1, policy), Ok(()));
    node.apply(&bundle("web", 3)).unwrap();
    assert_eq!(admit(&node, 2, policy), Err("VERSION_LOWER"));
    assert_eq!(admit(&node, 3, policy), Ok(()));
    assert_eq!(admit(&node, 3, OTHER), Err("VERSION_REUSED"));
    assert_eq!(admit(&node, 4, OTHER), Ok(()));
}

#[test]
fn floors_that_are_lost_begin_at_what_is_in_force() {
    let mut node = Node::new(&root());
    node.apply(&bundle("web", 9)).unwrap();
    node.floors.begin_at("web", 3);
    node.floors.begin_at("base", 3);
    assert_eq!(node.admit(&bundle("web", 8)), Err("VERSION_LOWER"), "what is known stays");
    assert_eq!(node.admit(&bundle("base", 2)), Err("VERSION_LOWER"));
    assert_eq!(node.admit(&bundle("base", 3)), Ok(Admission::New));
}

#[test]
fn a_bundle_is_judged_by_the_root_that_verified_it() {
    let root = in_force(&root());
    let envelope = signed(bundle("web", 1).envelope().unwrap(), &[1]);
    let verified = verify(&root, &envelope).unwrap();
    assert_eq!(verified.root_version(), 1);
    let second = in_force(&after(root.root()));
    assert_eq!(verify(&second, &envelope).unwrap().root_version(), 2);
    assert_eq!(verified.payload_digest(), envelope.payload_digest());
    assert_eq!(verified.content(), &bundle("web", 1));
}
