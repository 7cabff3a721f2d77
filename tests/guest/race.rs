// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Some move things while others open them. Everybody writes down when each call began and ended; afterwards nobody
//! may have opened what was denied at every moment of the open, and nobody outside may have been refused.

mod denial {
    use std::{
        fs, io,
        os::unix::fs::PermissionsExt as _,
        path::{Path, PathBuf},
        sync::Mutex,
        time::Duration,
    };

    use aegis_tests::{
        Case, Process, Rule,
        history::{
            Change, Open,
            State::{self, Denied, Free},
            impossible, now,
        },
        operation::{Operation, exchange, link, read, rename},
    };
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    /// A path, and what came there in this round.
    struct Watched {
        path: PathBuf,
        changes: Mutex<Vec<Change>>,
    }

    impl Watched {
        fn new(path: PathBuf) -> Self {
            Self { path, changes: Mutex::default() }
        }

        /// Makes a change, and writes down when.
        fn changes(&self, after: State, change: impl FnOnce() -> io::Result<()>) {
            let begin = now();
            change().expect("somebody outside makes a change");
            self.changes.lock().unwrap().push(Change { begin, end: now(), after });
        }

        fn begin(&self, state: State) {
            *self.changes.lock().unwrap() = vec![Change { begin: 0, end: 0, after: state }];
        }
    }

    fn fresh(path: &Path) -> PathBuf {
        fs::write(path, "content").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        path.to_owned()
    }

    /// A log is rotated: what had the denied name gets another one, and something new gets the name.
    fn rotate(top: &Path, secret: &Watched, old: &Watched) {
        old.changes(Denied, || fs::rename(&secret.path, &old.path));
        let new = fresh(&top.join("new-secret"));
        secret.changes(Denied, || fs::rename(new, &secret.path));
    }

    /// Now something from a denied directory, now something that never was denied, comes to a free place.
    fn leave(top: &Path, place: &Watched) {
        let denied = fresh(&top.join("closed/leaves"));
        place.changes(Denied, || fs::rename(denied, &place.path));
        let free = fresh(&top.join("free"));
        place.changes(Free, || fs::rename(free, &place.path));
    }

    /// Something free changes places with what has a denied name.
    fn trade(top: &Path, name: &Watched, other: &Watched) {
        let free = fresh(&top.join("new-other"));
        other.changes(Free, || fs::rename(free, &other.path));
        other.changes(Denied, || {
            Ok(renameat_with(CWD, &name.path, CWD, &other.path, RenameFlags::EXCHANGE)?)
        });
    }

    /// A directory on the way is put aside, and another one takes its place.
    fn replace(top: &Path, moved: &Watched) {
        let (way, aside) = (top.join("way"), top.join("aside"));
        fs::create_dir_all(top.join("next/inner")).unwrap();
        fresh(&top.join("next/inner/key"));
        fs::remove_dir_all(&aside).unwrap();
        moved.changes(Denied, || fs::rename(&way, &aside));
        fs::rename(top.join("next"), &way).unwrap();
    }

    #[test]
    fn no_open_gets_between_what_moves_and_its_denial() {
        let case = Case::new();
        let paths = ["secret", "old", "place", "name", "other", "way/inner/key", "aside/inner/key"];
        for path in paths {
            case.file(path);
        }
        case.directory("closed");
        let stays = case.file("closed/stays");
        let bait = [rename(&stays, case.path("taken")), link(&stays, case.path("linked"))];
        let bait = [&bait[..], &[exchange(&stays, case.path("place"))]].concat();
        let mut insiders = [case.inside(), case.inside()];
        let (mut thief, mut outsider) = (case.inside(), Process::outside());
        case.enforce(
            Rule::deny("r")
                .file(case.path("secret"))
                .file(case.path("name"))
                .file(case.path("way/inner/key"))
                .beneath(case.path("closed"))
                .access(&["read"]),
        );
        let [secret, old, place, name, other, way, aside] =
            paths.map(|path| Watched::new(case.path(path)));
        let all = [&secret, &old, &place, &name, &other, &way, &aside];
        // Once before anybody looks, so that what is denied from now on is so from the beginning.
        let top = case.path("");
        rotate(&top, &secret, &old);
        leave(&top, &place);
        trade(&top, &name, &other);
        replace(&top, &aside);

        let rounds = if std::env::var_os("AEGIS_FULL").is_some() { 600 } else { 10 };
        let files: Vec<PathBuf> = all.iter().map(|watched| watched.path.clone()).collect();
        let movers: [Box<dyn Fn() + Sync>; 4] = [
            Box::new(|| rotate(&top, &secret, &old)),
            Box::new(|| leave(&top, &place)),
            Box::new(|| trade(&top, &name, &other)),
            Box::new(|| replace(&top, &aside)),
        ];
        let mut sum = Sum::default();
        for _ in 0..rounds {
            for watched in all {
                watched.begin(Denied);
            }
            place.begin(Free);
            for process in insiders.iter_mut().chain([&mut outsider]) {
                process.watch(&files.iter().map(read).collect::<Vec<_>>(), ROUND);
            }
            thief.watch(&bait, ROUND);
            let until = now() + u64::try_from(ROUND.as_nanos()).unwrap();
            std::thread::scope(|scope| {
                for mover in &movers {
                    scope.spawn(move || {
                        while now() < until {
                            mover();
                        }
                    });
                }
            });
            sum.stolen(&thief.watched(), &bait);
            sum.outside(&outsider.watched(), &files);
            for process in &mut insiders {
                sum.inside(&process.watched(), &all);
            }
            sum.changes +=
                all.iter().map(|watched| watched.changes.lock().unwrap().len()).sum::<usize>();
        }
        eprintln!("{sum:?}");
        assert!(sum.denied > sum.changes && sum.free > 0 && sum.kept > 0, "{sum:?}");
        case.forget();
    }

    /// What was seen, to know that there was something to see.
    #[derive(Debug, Default)]
    struct Sum {
        /// Changes that movers made.
        changes: usize,
        /// Opens in the scope that were denied.
        denied: usize,
        /// Opens in the scope that were not, and need not be.
        free: usize,
        /// Opens outside.
        outside: usize,
        /// Moves in the scope that were refused.
        kept: usize,
    }

    impl Sum {
        fn stolen(&mut self, tried: &[[u64; 4]], bait: &[Operation]) {
            for [number, _, _, error] in tried {
                let operation = &bait[usize::try_from(*number).unwrap()];
                assert_ne!(*error, 0, "NOT DENIED: {operation}");
                assert_eq!(*error, EPERM, "{operation}");
                self.kept += 1;
            }
        }

        fn outside(&mut self, opens: &[[u64; 4]], files: &[PathBuf]) {
            for [number, begin, end, error] in opens {
                let file = &files[usize::try_from(*number).unwrap()];
                let what = format!("outside, {} from {begin} to {end}: {error}", file.display());
                assert!(matches!(*error, 0 | ENOENT), "{what}");
                self.outside += 1;
            }
        }

        fn inside(&mut self, opens: &[[u64; 4]], all: &[&Watched]) {
            for (number, watched) in (0..).zip(all) {
                let own = opens.iter().filter(|[of, ..]| *of == number);
                let own: Vec<Open> = own
                    .map(|[_, begin, end, error]| {
                        assert!(matches!(*error, 0 | EPERM | ENOENT), "inside: {error}");
                        self.denied += usize::from(*error == EPERM);
                        self.free += usize::from(*error == 0);
                        Open { begin: *begin, end: *end, succeeded: *error == 0 }
                    })
                    .collect();
                let changes = watched.changes.lock().unwrap();
                if let Some(open) = impossible(&changes, &own).first() {
                    let near = |change: &&Change| {
                        change.end + NEAR > open.begin && change.begin < open.end + NEAR
                    };
                    let near: Vec<&Change> = changes.iter().filter(near).collect();
                    panic!("NOT DENIED: {}: {open:?} amid {near:?}", watched.path.display());
                }
            }
        }
    }

    const ROUND: Duration = Duration::from_secs(1);
    /// Changes so near to an open are told with it, in nanoseconds.
    const NEAR: u64 = 5_000_000;
    const EPERM: u64 = 1;
    const ENOENT: u64 = 2;
}
