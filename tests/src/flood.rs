//! Frames that are sent one after another, as fast as one thread can: what somebody does who has bandwidth and no manners.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Namespace, eventually, raw::RawSocket};

/// The first of the addresses that nobody has: shared address space (RFC 6598).
const NOBODY: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// How many there are: all of 100.64.0.0/10.
const NOBODIES: u32 = 1 << 22;
/// For local experiments (IEEE 802): frames of nobody's, so that the flood's socket receives none.
const UNUSED: u16 = 0x88b5;

/// A flood, until this is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    begin: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends `frame` after frame by `device` of `from`; each is made from its number. The thread that sends may use the
    /// CPUs that the calling one may.
    ///
    /// # Panics
    /// When there is no such device.
    #[must_use]
    pub fn begin(
        (from, device): (&Namespace, &str),
        frame: impl Fn(u32) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let socket = RawSocket::in_place_of_stack(from, device, UNUSED);
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                socket.send(&frame(count.fetch_add(1, Ordering::Relaxed)));
            }
        });
        Self { stop, sent, begin: Instant::now(), thread: Some(thread) }
    }

    /// How many frames have been sent.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// For how long it has been going on.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Waits until `count` more frames have been sent.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for(&self, count: u32) {
        let end = self.sent() + count;
        eventually("the flood", || (self.sent() >= end).then_some(()));
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A source address that nobody has, of 100.64.0.0/10, and a port: others for each number.
#[must_use]
pub fn nobody(number: u32) -> (Ipv4Addr, u16) {
    let address = NOBODY.to_bits() + number % NOBODIES;
    (Ipv4Addr::from_bits(address), 1024 + (number / NOBODIES) as u16)
}
