//! A machine behind a tap that takes part in several networks by tags, whatever the kernel here has: a namespace with a
//! device for each network, and a thread in the place of what VLAN devices do.
//!
//! ```text
//!     its namespace: own, red, blue ---- the thread: tags on, tags off ---- the tap, a port
//! ```

use std::{
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};

use crate::{
    Namespace,
    frames::{CUSTOMER_TAG, MacAddr, tagged, tags_of, untagged},
    tap::Tap,
    world::{shell, wire},
};

/// Milliseconds between two looks at whether to end.
const PAUSE: u8 = 20;
/// Of a tag: its VLAN, without the priority (IEEE 802.1Q section 9.6).
const VLAN: u16 = 0xfff;

/// One of a machine's devices.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The VLAN of its frames; none: they have no tag.
    pub vlan: Option<u16>,
    /// Its addresses, of prefixes with 24 and 64 bits.
    pub addresses: [&'a str; 2],
}

/// A machine that runs; it is switched off when dropped.
#[derive(Debug)]
pub struct Machine {
    card: Arc<Tap>,
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Machine {
    /// The machine whose inside is `namespace`, with these devices, behind the tap `card`; all have `mac`.
    ///
    /// # Panics
    /// When the kernel refuses a device.
    #[must_use]
    pub fn boot(namespace: &Namespace, card: Tap, mac: MacAddr, devices: &[Device<'_>]) -> Self {
        let card = Arc::new(card);
        let stop = Arc::new(AtomicBool::new(false));
        let devices: Vec<_> =
            devices.iter().map(|device| (device.vlan, open(namespace, mac, device))).collect();
        let carrier = {
            let (card, stop) = (Arc::clone(&card), Arc::clone(&stop));
            thread::spawn(move || carry(&card, &devices, &stop))
        };
        Self { card, stop, carrier: Some(carrier) }
    }

    /// Sends `frame` as it is, past its devices.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn send(&self, frame: &[u8]) {
        self.card.send(frame);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(carrier) = self.carrier.take() {
            // A panic of its was printed.
            let _ = carrier.join();
        }
    }
}

fn open(namespace: &Namespace, mac: MacAddr, device: &Device<'_>) -> Tap {
    let Device { name, addresses: [v4, v6], .. } = device;
    let tap = Tap::create(namespace, name);
    shell(namespace, &format!("ip link set {name} down; ip link set {name} address {mac}"));
    // What it has said by its first MAC.
    tap.pending().for_each(drop);
    wire(namespace, name, [&format!("{v4}/24"), &format!("{v6}/64")]);
    tap
}

/// Carries frames between the card and the devices: those of the card to the device of their tag, if there is one.
fn carry(card: &Tap, devices: &[(Option<u16>, Tap)], stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        wait(std::iter::once(card).chain(devices.iter().map(|(_, device)| device)));
        for frame in card.pending() {
            if let Some((_, device)) = devices.iter().find(|(vlan, _)| is_of(*vlan, &frame)) {
                device.send(&untagged(frame));
            }
        }
        for (vlan, device) in devices {
            let tag = vlan.map(|vlan| (CUSTOMER_TAG, vlan));
            device.pending().for_each(|frame| card.send(&tagged(frame, tag.as_slice())));
        }
    }
}

fn is_of(vlan: Option<u16>, frame: &[u8]) -> bool {
    match tags_of(frame)[..] {
        [] => vlan.is_none(),
        [(CUSTOMER_TAG, control)] => vlan == Some(control & VLAN),
        _ => false,
    }
}

/// Waits until one of `taps` has a frame, for a while at most.
fn wait<'a>(taps: impl Iterator<Item = &'a Tap>) {
    let mut fds: Vec<_> = taps.map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut fds, PAUSE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => panic!("poll: {error}"),
    }
}
