// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ring buffer → events, in order, each with its sequence number.

use std::{
    cell::RefCell,
    os::fd::{BorrowedFd, RawFd},
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

use aegis_abi::{BadEvent, Event};
use libbpf_rs::{RingBuffer, RingBufferBuilder};

use crate::{Error, Kernel};

/// The one consumer of the ring. Whoever makes one must know that there is no other.
#[derive(Debug)]
pub struct Events<'kernel> {
    kernel: &'kernel Kernel,
    ring: RingBuffer<'kernel>,
    taken: Rc<RefCell<Vec<Result<Event, BadEvent>>>>,
}

/// One event and its place among all, lost ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Counts up by one from event to event, over all consumers; a gap is as wide as the
    /// events lost there.
    pub sequence: u64,
    /// The event, or what was wrong with its bytes.
    pub event: Result<Event, BadEvent>,
}

impl Kernel {
    /// Starts to take events out of the ring.
    ///
    /// # Errors
    /// If the ring cannot be mapped.
    pub fn events(&self) -> Result<Events<'_>, Error> {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&taken);
        let failed = |source| Error::map("consume", "events", source);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&self.events, move |bytes| {
                into.borrow_mut().push(Event::from_bytes(bytes));
                0
            })
            .map_err(failed)?;
        let ring = builder.build().map_err(failed)?;
        Ok(Events { kernel: self, ring, taken })
    }
}

impl Events<'_> {
    /// Waits at most `timeout` for events and takes all that are there.
    ///
    /// `lost`: events that were dropped since the last call, as the counts tell it.
    ///
    /// # Errors
    /// If the ring cannot be read.
    pub fn take(&self, timeout: Duration, lost: u64) -> Result<Vec<Taken>, Error> {
        let failed = |source| Error::map("consume", "events", source);
        self.ring.consume().map_err(failed)?;
        if self.taken.borrow().is_empty() && !timeout.is_zero() {
            self.ring.poll(timeout).map_err(failed)?;
        }
        let events = std::mem::take(&mut *self.taken.borrow_mut());
        let count = events.len() as u64;
        let counter = self.kernel.control().event_sequence();
        let first = counter.fetch_add(count + lost, Ordering::SeqCst) + lost + 1;
        Ok((first..).zip(events).map(|(sequence, event)| Taken { sequence, event }).collect())
    }

    /// Becomes readable when events are there.
    pub fn as_raw_fd(&self) -> RawFd {
        self.ring.epoll_fd()
    }

    /// The same as a borrowed descriptor, for an epoll of the caller's.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libbpf's epoll descriptor, open as long as the ring that `self` owns.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }
}
