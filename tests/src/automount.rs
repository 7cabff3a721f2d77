// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A place where something is to be mounted for whoever walks into it.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

/// autofs, whose daemon takes requests and mounts nothing.
#[derive(Debug)]
pub struct Automount {
    requests: OwnedFd,
    /// Its group alone may walk there before something is mounted.
    daemon: Child,
    on: PathBuf,
}

impl Automount {
    /// On a directory. Everybody else who walks into it waits.
    pub fn on(on: &Path) -> Self {
        // Where it is built in there is nothing to load.
        drop(Command::new("modprobe").args(["-q", "autofs4"]).status());
        let (requests, pipe) = rustix::pipe::pipe().expect("a pipe");
        let mut daemon = Command::new("sleep");
        let daemon = daemon.arg("1000").process_group(0).spawn().expect("a process");
        let (pipe, group) = (pipe.as_raw_fd(), daemon.id());
        let data = format!("fd={pipe},uid=0,gid=0,pgrp={group},minproto=5,maxproto=5,direct");
        let data = CString::new(data).expect("no NUL");
        mount("daemon", on, "autofs", MountFlags::empty(), Some(data.as_c_str())).expect("a mount");
        Self { requests, daemon, on: on.to_owned() }
    }

    /// Whether somebody walks into it, within a time.
    pub fn is_asked_within(&self, time: Duration) -> bool {
        let time = time.try_into().expect("a time");
        let mut asked = [PollFd::new(&self.requests, PollFlags::IN)];
        if poll(&mut asked, Some(&time)).expect("a pipe") == 0 {
            return false;
        }
        rustix::io::read(&self.requests, &mut [0; 4096]).expect("a request") > 0
    }
}

impl Drop for Automount {
    fn drop(&mut self) {
        unmount(&self.on, UnmountFlags::DETACH).expect("it is mounted");
        self.daemon.kill().expect("it is there");
        self.daemon.wait().expect("it ends");
    }
}
