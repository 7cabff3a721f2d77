// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A filesystem that takes every question and answers none, as a network that went away does.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// FUSE, whose server says that it is there and nothing more.
#[derive(Debug)]
pub struct Silent(PathBuf);

impl Silent {
    /// On a directory. Whoever asks about what is there waits until it is dropped.
    pub fn mounted(on: &Path) -> Self {
        // Where it is built in there is nothing to load.
        drop(Command::new("modprobe").args(["-q", "fuse"]).status());
        let mut server = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("FUSE");
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let data = std::ffi::CString::new(data).expect("no NUL");
        mount("silent", on, "fuse", MountFlags::empty(), Some(data.as_c_str())).expect("a mount");
        let mut buffer = vec![0; 1 << 17];
        let read = server.read(&mut buffer).expect("the first request");
        let unique = buffer.get(8..16).expect("a request has a header");
        assert_eq!(buffer.get(4..8), Some(INIT.to_ne_bytes().as_slice()), "{read} bytes");
        server.write_all(&hello(unique)).expect("an answer to the first request");
        std::thread::spawn(move || swallow(server));
        Self(on.to_owned())
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::FORCE | UnmountFlags::DETACH).expect("it is mounted");
    }
}

/// Takes requests until the filesystem is gone.
fn swallow(mut server: File) {
    let mut buffer = vec![0; 1 << 17];
    while server.read(&mut buffer).is_ok() {}
}

/// `fuse_out_header` and `fuse_init_out` of `<linux/fuse.h>`: version 7.31, nothing special.
fn hello(unique: &[u8]) -> Vec<u8> {
    let mut reply = Vec::new();
    reply.extend(80_u32.to_ne_bytes());
    reply.extend(0_i32.to_ne_bytes());
    reply.extend(unique);
    // major, minor, max_readahead, flags, (max_background, congestion_threshold), max_write, time_gran
    for word in [7_u32, 31, 0, 0, 0, 65536, 1] {
        reply.extend(word.to_ne_bytes());
    }
    reply.resize(80, 0);
    reply
}

const INIT: u32 = 26;
