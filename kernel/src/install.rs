// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Our programs come to a host, and leave it.
//!
//! Everything is pinned below a new directory first, which then gets its name with one rename: either
//! all is there or nothing. Attached programs decide nothing as long as no slot is active.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use aegis_fault::{self as fault, Point};
use libbpf_rs::{Link, MapCore as _, MapHandle, Object, Program, libbpf_sys};
use rustix::{
    fs::{self, AtFlags, CWD, Mode},
    io::Errno,
};

use crate::{Error, Kernel, generation::BySlot, hooks, load::load};

/// The pin of `.data.control`.
pub(crate) const CONTROL: &str = "control";

/// The pin of `.bss.bystanders`.
pub(crate) const BYSTANDERS: &str = "bystanders";

/// Programs that have proved themselves beside others, and are about to take their name.
pub(crate) const NEXT: &str = "-next";

/// Programs whose name was taken.
pub(crate) const OLD: &str = "-old";

/// The pin of `.bss.marks`.
pub(crate) const MARKS: &str = "marks";

impl Kernel {
    /// Loads the programs, pins everything below `pins` and attaches. Nothing is decided yet.
    ///
    /// # Errors
    /// If the kernel refuses anything; then nothing of ours stays.
    pub fn install(pins: &Path) -> Result<Self, Error> {
        let mut kernel = Self::prepare(pins)?;
        if let Err(source) = fs::renameat(CWD, &kernel.pins, CWD, pins) {
            let error = Error::file("move the new pins to", pins, source);
            return match remove_pins(&kernel.pins) {
                Ok(_was_there) => Err(error),
                Err(also) => Err(also),
            };
        }
        kernel.pins = pins.to_owned();
        Ok(kernel)
    }

    /// The same, below the place where nothing looks for them.
    ///
    /// # Errors
    /// See [`Kernel::install`].
    pub(crate) fn prepare(pins: &Path) -> Result<Self, Error> {
        libbpf_rs::set_print(None);
        let object = load("aegis", AEGIS, hooks::fit)?;
        let half_done = Self::half_done(pins);
        remove_pins(&half_done)?; // of a command that was killed on its way
        let prepared = pin_and_attach(&object, &half_done).and_then(|_pinned| {
            fault::step(Point::HalfInstalled).map_err(Error::fault)?;
            let kernel = Self::open_at(&half_done)?;
            kernel.control().programs().store(own_programs(), Ordering::SeqCst);
            Ok(kernel)
        });
        prepared.or_else(|error| {
            // What is left is found, and taken away, by the next install or detach.
            remove_pins(&half_done)?;
            Err(error)
        })
    }

    /// Whether the attached programs are those of this binary.
    pub fn has_own_programs(&self) -> bool {
        self.control().programs().load(Ordering::SeqCst) == own_programs()
    }

    /// Takes everything of ours from this host: the answer is whether there was anything.
    ///
    /// Works without any knowledge of what the pins hold, so that a binary of another version can do
    /// it as well.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn detach(pins: &Path) -> Result<bool, Error> {
        // Decide nothing, at once, if these are pins that we understand; the links are next.
        for place in Self::places(pins) {
            if let Ok(kernel) = Self::open_at(&place) {
                kernel.switch(None, None);
            }
        }
        fault::step(Point::Undecided).map_err(Error::fault)?;
        let mut any = false;
        for place in Self::places(pins) {
            any |= remove_pins(&place)?;
        }
        Ok(any)
    }

    /// Whether anything of ours is pinned, under whichever of its names.
    pub fn is_pinned(pins: &Path) -> bool {
        Self::places(pins).iter().any(|place| place.exists())
    }

    /// Where pins are until all of them are there: what a killed install leaves.
    pub(crate) fn half_done(pins: &Path) -> PathBuf {
        beside(pins, "-new")
    }

    /// Whether programs are to take over from those that decide, or did, and it has not ended.
    pub fn is_handing_over(pins: &Path) -> bool {
        Self::places(pins).iter().filter(|place| place.exists()).count() > 1
            || beside(pins, NEXT).exists()
    }

    /// Every place where a command may have pins of ours; their own first.
    pub fn places(pins: &Path) -> [PathBuf; 4] {
        [pins.to_owned(), Self::half_done(pins), beside(pins, NEXT), beside(pins, OLD)]
    }
}

/// Where the pins are that decide: in the middle of a hand-over for a moment under another name.
pub(crate) fn place(pins: &Path) -> Result<Option<Place>, Error> {
    for path in [pins.to_owned(), beside(pins, NEXT), pins.to_owned()] {
        match fs::stat(&path) {
            Ok(stat) => return Ok(Some(Place { path, number: stat.st_ino })),
            Err(Errno::NOENT) => {}
            Err(source) => return Err(Error::file("look for pins at", pins, source)),
        }
    }
    Ok(None)
}

/// A directory of pins, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    number: u64,
}

/// Opens something of the pins that decide; all of it is of the same ones, even if others take over
/// while it is opened.
pub(crate) fn open_in_place<T>(
    pins: &Path,
    open: impl Fn(&Path) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    loop {
        let Some(found) = place(pins)? else { return Ok(None) };
        let opened = open(&found.path);
        if place(pins)?.as_ref() == Some(&found) {
            return opened.map(Some);
        }
    }
}

/// A place beside the pins. A bpffs refuses dots in names.
pub(crate) fn beside(pins: &Path, what: &str) -> PathBuf {
    let mut name = pins.as_os_str().to_owned();
    name.push(what);
    PathBuf::from(name)
}

/// Whether a hook's link is pinned and still attached.
pub(crate) fn check_hook(pins: &Path, hook: &'static str) -> Result<(), Error> {
    let path = link_pin(pins, hook);
    let link = Link::open(&path).map_err(|source| Error::OpenPin { path: path.clone(), source })?;
    link.info().map_err(|source| Error::OpenPin { path, source })?;
    Ok(())
}

fn pin_and_attach(object: &Object, place: &Path) -> Result<Vec<Link>, Error> {
    fs::mkdir(place, Mode::from_raw_mode(0o700))
        .map_err(|source| Error::file("make the directory", place, source))?;
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        let pin = match name.as_str() {
            name if name.ends_with(".data.control") => CONTROL,
            name if name.ends_with(".bss.bystanders") => BYSTANDERS,
            name if name.ends_with(".bss.marks") => MARKS,
            "generations" => "generations",
            "events" => "events",
            name if BySlot::KINDS.contains(&name) => name,
            _ => continue, // templates stay alive in slot 0, constants with the programs
        };
        let mut handle =
            MapHandle::try_from(&map).map_err(|source| Error::map("hold", &name, source))?;
        handle.pin(place.join(pin)).map_err(|source| Error::map("pin", &name, source))?;
    }
    let absent = hooks::absent()?;
    let come_and_go = hooks::can_come_and_go()?;
    let mut links = Vec::new();
    for hook in hooks::HOOKS.iter().filter(|hook| !absent.contains(hook)) {
        let attach = |source| Error::Attach { hook, source };
        let mut program = object
            .progs_mut()
            .find(|program| program.name().to_string_lossy() == format!("aegis_{hook}"))
            .ok_or_else(|| Error::OtherMap {
                map: (*hook).to_owned(),
                what: "the object has no program for this hook",
            })?;
        if come_and_go && hooks::FOR_WRITING.contains(hook) {
            program.pin(program_pin(place, hook)).map_err(attach)?;
            continue;
        }
        let mut link = program.attach_lsm().map_err(attach)?;
        link.pin(link_pin(place, hook)).map_err(attach)?;
        links.push(link);
    }
    Ok(links)
}

/// Attaches a program that is pinned, unless it is attached.
pub(crate) fn attach(pins: &Path, hook: &'static str) -> Result<(), Error> {
    if check_hook(pins, hook).is_ok() {
        return Ok(());
    }
    let path = program_pin(pins, hook);
    let program = Program::fd_from_pinned_path(&path)
        .map_err(|source| Error::OpenPin { path: path.clone(), source })?;
    let failed = |number: i32| Error::Attach {
        hook,
        source: libbpf_rs::Error::from_raw_os_error(number.saturating_neg()),
    };
    // SAFETY: a descriptor that we hold goes in; another, checked and then owned, comes out.
    let link = unsafe {
        let kind = libbpf_sys::BPF_LSM_MAC;
        let fd = libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, kind, std::ptr::null());
        if fd < 0 {
            return Err(failed(fd));
        }
        OwnedFd::from_raw_fd(fd)
    };
    let place = link_pin(pins, hook);
    let name = CString::new(place.as_os_str().as_bytes())
        .map_err(|_nul| Error::file("pin a link at", &place, Errno::INVAL))?;
    // SAFETY: a descriptor that we hold, and a string that ends; nothing of either is kept.
    let pinned = unsafe { libbpf_sys::bpf_obj_pin(link.as_raw_fd(), name.as_ptr()) };
    if pinned < 0 { Err(failed(pinned)) } else { Ok(()) }
}

/// Takes a program off its hook, if it is on it and can be attached again. It stays pinned.
pub(crate) fn take_off(pins: &Path, hook: &'static str) -> Result<(), Error> {
    if !has_program(pins, hook) {
        return Ok(());
    }
    let path = link_pin(pins, hook);
    match fs::unlinkat(CWD, &path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(source) => Err(Error::file("remove the pin", &path, source)),
    }
}

/// Whether a hook's program is pinned.
pub(crate) fn has_program(pins: &Path, hook: &str) -> bool {
    program_pin(pins, hook).exists()
}

fn program_pin(pins: &Path, hook: &str) -> PathBuf {
    pins.join(format!("program_{hook}"))
}

pub(crate) fn link_pin(pins: &Path, hook: &str) -> PathBuf {
    pins.join(format!("link_{hook}"))
}

/// Removes a flat directory of pins, links first; the answer is whether it was there.
pub(crate) fn remove_pins(place: &Path) -> Result<bool, Error> {
    let directory = match fs::openat(
        CWD,
        place,
        fs::OFlags::RDONLY | fs::OFlags::DIRECTORY | fs::OFlags::NOFOLLOW | fs::OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(false),
        Err(source) => return Err(Error::file("open the directory", place, source)),
    };
    let mut names = Vec::new();
    for entry in
        fs::Dir::read_from(&directory).map_err(|source| Error::file("list", place, source))?
    {
        let entry = entry.map_err(|source| Error::file("list", place, source))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    let (links, rest): (Vec<CString>, Vec<CString>) =
        names.into_iter().partition(|name| name.to_bytes().starts_with(b"link_"));
    let remove_all = |names: Vec<CString>| {
        names.iter().try_for_each(|name| {
            fs::unlinkat(&directory, name, AtFlags::empty())
                .map_err(|source| Error::file("remove a pin in", place, source))
        })
    };
    remove_all(links)?;
    fault::step(Point::LinksGone).map_err(Error::fault)?;
    remove_all(rest)?;
    fs::unlinkat(CWD, place, AtFlags::REMOVEDIR)
        .map_err(|source| Error::file("remove the directory", place, source))?;
    Ok(true)
}

/// Tells the programs of one binary from those of another.
fn own_programs() -> u64 {
    aegis_abi::hash_name(fault::build(), AEGIS)
}

/// The compiled programs.
static AEGIS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/aegis.bpf.o"));
