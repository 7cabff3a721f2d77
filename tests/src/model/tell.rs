// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tells a story to a machine, and after each step opens everything as everybody: nothing that must be denied
//! is allowed, and nothing refused that must be allowed.

use std::fmt;

use super::{
    judge::{opening, refusal},
    rules::{ACCESSES, ACTORS, Accesses, Actor, Rule, letters},
    step::{Step, Story},
    world::{Keeps, World},
};

/// What does what stories say: a kernel, or something that stands for one.
pub trait Machine {
    /// Makes what is there, and lets the rules hold.
    ///
    /// # Errors
    /// What could not be done.
    fn begin(&mut self, story: &Story) -> Result<(), String>;

    /// Somebody tries a change.
    ///
    /// # Errors
    /// If it was neither done nor refused as we refuse things.
    fn change(&mut self, step: &Step) -> Result<Answer, String>;

    /// Somebody opens each path for each access.
    ///
    /// # Errors
    /// If one of them was neither done nor refused as we refuse things.
    fn open(&mut self, actor: Actor, opens: &[(Accesses, String)]) -> Result<Vec<Answer>, String>;

    /// Takes away what was made.
    ///
    /// # Errors
    /// What could not be done.
    fn end(&mut self) -> Result<(), String>;
}

/// How somebody fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// EPERM.
    Refused,
}

/// Where a machine and the judge disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What must be denied was not.
    NotDenied(String),
    /// What must be allowed was not.
    Hindered(String),
    /// Something else went wrong: the story or the machine is broken.
    Broken(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDenied(what) => write!(f, "NOT DENIED: {what}"),
            Self::Hindered(what) => write!(f, "refused without a rule: {what}"),
            Self::Broken(what) => write!(f, "could not be told: {what}"),
        }
    }
}

impl Fault {
    /// Whether it is the same kind of fault: a shorter story must not have another one.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A story as far as it was told.
#[derive(Debug)]
pub struct Telling {
    /// What is where, as the judge has it.
    pub world: World,
    rules: Vec<Rule>,
    keeps: Keeps,
    /// Changes that were made, and refused.
    pub counts: Counts,
}

/// What was done, to see that a run showed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes that were made.
    pub changes: usize,
    /// Changes that were refused.
    pub refusals: usize,
    /// Opens.
    pub opens: usize,
    /// Opens that were denied.
    pub denials: usize,
}

impl Counts {
    /// Those of one more story.
    pub fn add(&mut self, more: Self) {
        self.changes += more.changes;
        self.refusals += more.refusals;
        self.opens += more.opens;
        self.denials += more.denials;
    }
}

impl Telling {
    /// Begins: makes what is there, lets the rules hold, and looks at it.
    ///
    /// # Errors
    /// The first fault.
    pub fn begin(
        machine: &mut dyn Machine,
        story: &Story,
        keeps: Keeps,
        counts: Counts,
    ) -> Result<Self, Fault> {
        let mut world = World::of(&story.entries).map_err(Fault::Broken)?;
        let rules = world.led_on(&story.rules);
        world.begin(&rules, keeps);
        machine.begin(story).map_err(Fault::Broken)?;
        let mut telling = Self { world, rules, keeps, counts };
        telling.look(machine, "at the beginning")?;
        Ok(telling)
    }

    /// One step, if it can be made: then everything is opened by everybody.
    ///
    /// # Errors
    /// The first fault.
    pub fn step(&mut self, machine: &mut dyn Machine, step: &Step) -> Result<(), Fault> {
        if !self.world.can(&step.act) {
            return Ok(());
        }
        let expected = refusal(&self.world, &self.rules, step.actor, &step.act);
        let answer = machine.change(step).map_err(Fault::Broken)?;
        match answer {
            Answer::Done if expected.must => return Err(Fault::NotDenied(step.to_string())),
            Answer::Refused if !expected.may => return Err(Fault::Hindered(step.to_string())),
            Answer::Refused => {
                self.counts.refusals += 1;
                self.world.half_noted(&step.act, &self.rules);
            }
            Answer::Done => {
                self.counts.changes += 1;
                self.world.change(&step.act, &self.rules, self.keeps);
            }
        }
        self.look(machine, &format!("after {step}"))
    }

    fn look(&mut self, machine: &mut dyn Machine, when: &str) -> Result<(), Fault> {
        let mut opens = Vec::new();
        for path in self.world.listing() {
            // Links are followed to their end, if there is something; nobody can open a whiteout.
            let end = self.world.real(&path).and_then(|path| self.world.spot(&path)?.node);
            let Some(node) = end.filter(|node| !self.world.thing(*node).whiteout) else { continue };
            // Of a directory only its list can be opened.
            let accesses = if self.world.is_directory(node) { &ACCESSES[..1] } else { &ACCESSES };
            opens.extend(accesses.iter().map(|(access, ..)| (*access, path.clone())));
        }
        let held: Vec<_> =
            opens.iter().map(|(_, path)| opening(&self.world, &self.rules, path)).collect();
        for actor in ACTORS {
            let answers = machine.open(actor, &opens).map_err(Fault::Broken)?;
            if answers.len() != opens.len() {
                return Err(Fault::Broken(format!("{} answers to {}", answers.len(), opens.len())));
            }
            for (((access, path), held), answer) in opens.iter().zip(&held).zip(answers) {
                let bounds = held.bounds(&self.rules, actor);
                let what = || format!("{actor} opens {path} for {}, {when}", letters(*access));
                match answer {
                    Answer::Done if bounds.must & access != 0 => {
                        return Err(Fault::NotDenied(what()));
                    }
                    Answer::Refused if bounds.may & access == 0 => {
                        return Err(Fault::Hindered(what()));
                    }
                    Answer::Refused => self.counts.denials += 1,
                    Answer::Done => {}
                }
                self.counts.opens += 1;
            }
        }
        Ok(())
    }
}

/// A whole story; steps that cannot be made are left out.
///
/// # Errors
/// The first fault.
pub fn tell(machine: &mut dyn Machine, story: &Story, keeps: Keeps) -> Result<Counts, Fault> {
    let told = Telling::begin(machine, story, keeps, Counts::default());
    let told = told.and_then(|mut telling| {
        story.steps.iter().try_for_each(|step| telling.step(machine, step))?;
        Ok(telling.counts)
    });
    machine.end().map_err(Fault::Broken)?;
    told
}

/// A shorter story with the same kind of fault: parts are left out, large ones first, as long as that helps and `tries`
/// are left.
pub fn shrink(
    machine: &mut dyn Machine,
    story: Story,
    fault: Fault,
    keeps: Keeps,
    mut tries: usize,
) -> (Story, Fault) {
    let mut best = (story, fault);
    let mut size = parts(&best.0).max(1);
    loop {
        let mut from = 0;
        let mut any = false;
        while from < parts(&best.0) {
            let shorter = without(&best.0, from, size);
            // Without any rule, those of the story before would hold.
            if shorter.rules.is_empty() {
                from += size;
                continue;
            }
            if tries == 0 {
                return best;
            }
            tries -= 1;
            match tell(machine, &shorter, keeps) {
                Err(fault) if fault.is_like(&best.1) => {
                    best = (shorter, fault);
                    any = true;
                }
                _ => from += size,
            }
        }
        if size == 1 && !any {
            return best;
        }
        size = if any { size } else { size.div_ceil(2) };
    }
}

/// How many parts can be left out.
fn parts(story: &Story) -> usize {
    story.steps.len() + story.rules.len() + story.entries.len()
}

/// Leaves parts out: counted from the last step backwards, then rules, then what is there before.
fn without(story: &Story, from: usize, size: usize) -> Story {
    let gone = from..from + size;
    let (steps, rules) = (story.steps.len(), story.rules.len());
    let entries = story.entries.len();
    let stays = |count: usize, offset: usize| {
        let gone = gone.clone();
        move |index: &usize| !gone.contains(&(offset + count - 1 - index))
    };
    let kept = |count, offset| (0..count).filter(stays(count, offset)).collect::<Vec<_>>();
    let mut shorter = Story {
        steps: kept(steps, 0).into_iter().map(|index| story.steps[index].clone()).collect(),
        rules: kept(rules, steps).into_iter().map(|index| story.rules[index].clone()).collect(),
        entries: Vec::new(),
    };
    for index in kept(entries, steps + rules) {
        shorter.entries.push(story.entries[index].clone());
        // What was made in a directory that is left out goes with it.
        if World::of(&shorter.entries).is_err() {
            shorter.entries.pop();
        }
    }
    shorter
}

#[cfg(test)]
mod tests {
    use super::{
        super::{invent::invent, random::Random},
        *,
    };

    /// Stands for a kernel: denies exactly what must be denied, as far as it remembers.
    struct Pretended {
        keeps: Keeps,
        hinders: bool,
        world: World,
        rules: Vec<Rule>,
    }

    impl Machine for Pretended {
        fn begin(&mut self, story: &Story) -> Result<(), String> {
            self.world = World::of(&story.entries)?;
            self.rules = self.world.led_on(&story.rules);
            self.world.begin(&self.rules, self.keeps);
            Ok(())
        }

        fn change(&mut self, step: &Step) -> Result<Answer, String> {
            if refusal(&self.world, &self.rules, step.actor, &step.act).must {
                return Ok(Answer::Refused);
            }
            self.world.change(&step.act, &self.rules, self.keeps);
            Ok(Answer::Done)
        }

        fn open(
            &mut self,
            actor: Actor,
            opens: &[(Accesses, String)],
        ) -> Result<Vec<Answer>, String> {
            let answer = |(access, path): &(Accesses, String)| {
                let bounds = opening(&self.world, &self.rules, path).bounds(&self.rules, actor);
                let stricter = self.hinders && path.ends_with("a/b") && actor == Actor(3);
                if bounds.must & access != 0 || stricter { Answer::Refused } else { Answer::Done }
            };
            Ok(opens.iter().map(answer).collect())
        }

        fn end(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    const ALL: Keeps = Keeps::ALL;

    fn pretended(keeps: Keeps, hinders: bool) -> Pretended {
        Pretended { keeps, hinders, world: World::default(), rules: Vec::new() }
    }

    fn first_fault(machine: &mut Pretended) -> Option<(Story, Fault)> {
        (0..60).find_map(|seed| {
            let (story, told) = invent(machine, &mut Random::new(seed), 30, ALL);
            told.err().map(|fault| shrink(machine, story, fault, ALL, 2_000))
        })
    }

    /// Nothing can be left out of it.
    fn is_shortest(machine: &mut Pretended, story: &Story, fault: &Fault) -> bool {
        assert!(tell(machine, story, ALL).is_err_and(|told| told == *fault), "{story}");
        (0..parts(story)).all(|part| {
            let shorter = without(story, part, 1);
            let told = tell(machine, &shorter, ALL);
            shorter.rules.is_empty() || !told.is_err_and(|told| told.is_like(fault))
        })
    }

    #[test]
    fn a_machine_that_does_what_it_must_has_no_fault() {
        assert_eq!(first_fault(&mut pretended(ALL, false)), None);
    }

    #[test]
    fn a_machine_that_forgets_is_found_and_its_story_is_as_short_as_can_be() {
        for keeps in [Keeps { moves: false, ..ALL }, Keeps { links: false, ..ALL }] {
            let mut machine = pretended(keeps, false);
            let (story, fault) = first_fault(&mut machine).expect("a fault");
            assert!(matches!(fault, Fault::NotDenied(_)), "{fault}");
            assert!(is_shortest(&mut machine, &story, &fault), "{story}");
        }
    }

    #[test]
    fn a_machine_that_hinders_is_found() {
        let mut machine = pretended(ALL, true);
        let (story, fault) = first_fault(&mut machine).expect("a fault");
        assert!(matches!(fault, Fault::Hindered(_)), "{fault}");
        assert!(is_shortest(&mut machine, &story, &fault), "{story}");
    }
}
