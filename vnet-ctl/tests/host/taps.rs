//! Taps that vnet makes.

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
};
use vnet_ctl::plan::{Attach, Desired};

use crate::world::{self, Call, World, desired, ip, isolated};

/// A network with a port on the tap `vm0`, which vnet makes for this user.
pub(crate) fn with_tap(owner: Option<u32>) -> Desired {
    let attach = Attach::Tap { device: "vm0".to_owned(), create: true, owner };
    let mut desired = desired();
    desired.ports = [("vm".to_owned(), world::port(9, attach))].into();
    desired
}

fn vm0() -> String {
    ip("-d link show vm0")
}

/// Opens the tap as a virtual machine does that leaves segmentation to the host.
fn open(device: &str) -> Result<File, Errno> {
    let queue = OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is, and it outlives the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result).map(|_| queue)
}

/// Closes the tap, and waits until the kernel says so: a process that another test forks at this moment has it open, too,
/// until it becomes the program that it is to be.
fn close(device: &str, queue: File) {
    drop(queue);
    let carrier = format!("/sys/class/net/{device}/carrier");
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::fs::read_to_string(&carrier).expect("whether the tap has a carrier").trim() != "0" {
        assert!(Instant::now() < deadline, "somebody else has {device} open");
        thread::yield_now();
    }
}

#[test]
fn a_tap_is_made_that_stays_and_is_its_users() {
    isolated(async |world: &mut World| {
        world.converge(&with_tap(Some(1000))).await;
        let shown = vm0();
        for expected in [
            "alias vnet:port:vm",
            "master vnet-web",
            "mtu 1400",
            "tun type tap pi off vnet_hdr on persist on user",
            "addrgenmode none",
            "group default",
            ",UP",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        assert_eq!(std::fs::read_to_string("/sys/class/net/vm0/owner").unwrap().trim(), "1000");
        let calls = &world.datapath.calls;
        let is_closed = |call: &Call| matches!(call, Call::Attached { was_up: false, was_enslaved: false });
        assert!(calls.len() == 2 && calls.iter().all(is_closed), "{calls:?}");

        let index = world.located(&with_tap(Some(1000))).await.ports["vm"].ifindex;
        let machine = open("vm0").expect("a machine opens it");
        let again = world.plan(&with_tap(Some(1000))).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());
        close("vm0", machine);
        world.converge(&with_tap(Some(1000))).await;
        assert_eq!(world.located(&with_tap(Some(1000))).await.ports["vm"].ifindex, index, "it is the same");

        world.teardown().await;
        let links = ip("link");
        assert!(!links.contains("vm0") && !links.contains("vnet"), "{links}");
    });
}

#[test]
fn a_tap_that_somebody_deleted_is_made_again() {
    isolated(async |world: &mut World| {
        world.converge(&with_tap(None)).await;
        assert_eq!(std::fs::read_to_string("/sys/class/net/vm0/owner").unwrap().trim(), "0");
        ip("link del vm0");
        world.datapath.attached.clear();
        world.converge(&with_tap(None)).await;
        assert!(vm0().contains("alias vnet:port:vm"));
        assert!(world.plan(&with_tap(None)).await.unwrap().is_empty());
    });
}

#[test]
fn a_tap_changes_its_user_once_nobody_has_it_open() {
    isolated(async |world: &mut World| {
        world.converge(&with_tap(Some(1000))).await;
        let machine = open("vm0").expect("a machine opens it");
        let plan = world.converge(&with_tap(Some(1001))).await;
        assert!(plan.is_empty() && plan.warnings[0].contains("somebody has vm0 open"), "{plan:?}");
        assert_eq!(std::fs::read_to_string("/sys/class/net/vm0/owner").unwrap().trim(), "1000");
        close("vm0", machine);
        let plan = world.converge(&with_tap(Some(1001))).await;
        assert_eq!(plan.changes(), ["give tap vm0 to user 1001"]);
        assert_eq!(std::fs::read_to_string("/sys/class/net/vm0/owner").unwrap().trim(), "1001");
        assert!(vm0().contains("vnet_hdr on persist on"), "{}", vm0());
        assert!(world.plan(&with_tap(Some(1001))).await.unwrap().is_empty());
    });
}

#[test]
fn a_tap_that_cannot_be_completed_leaves_nothing() {
    isolated(async |world: &mut World| {
        let before = ip("link");
        let plan = world.plan(&with_tap(None)).await.unwrap();
        world.datapath.fail_on = Some("vm0".to_owned());
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.not_undone.is_empty(), "{error}");
        assert_eq!(ip("link"), before);
    });
}

#[test]
fn without_the_kernels_driver_it_is_told_what_is_missing() {
    isolated(async |world: &mut World| {
        let plan = world.plan(&with_tap(None)).await.unwrap();
        mount(Some("tmpfs"), "/dev/net", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        let words = "cannot create tap vm0 of port vm: there is no /dev/net/tun";
        assert!(
            error.to_string().starts_with(words) && error.to_string().contains("modprobe tun"),
            "{error}"
        );
        assert!(error.not_undone.is_empty() && !ip("link").contains("vnet"), "{error}");
    });
}

#[test]
fn a_tap_that_comes_first_is_told_and_stays() {
    isolated(async |world: &mut World| {
        let plan = world.plan(&with_tap(None)).await.unwrap();
        ip("tuntap add vm0 mode tap");
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("there is a device of that name by now"), "{error}");
        assert!(ip("link").contains("vm0"));
        let obstacles = world.plan(&with_tap(None)).await.unwrap_err();
        assert!(obstacles.to_string().contains("device vm0 that is not a tap of vnet's"), "{obstacles}");
    });
}

#[test]
fn a_tap_of_somebody_else_is_told_from_a_tunnel() {
    isolated(async |world: &mut World| {
        ip("tuntap add tap0 mode tap");
        ip("tuntap add tun0 mode tun");
        let mut desired = desired();
        let borrow = |device: &str| Attach::Tap { device: device.to_owned(), create: false, owner: None };
        desired.ports = [("vm".to_owned(), world::port(9, borrow("tap0")))].into();
        world.converge(&desired).await;
        assert!(ip("link show tap0").contains("master vnet-web"));
        world.teardown().await;
        assert!(!ip("link show tap0").contains("master"));
        desired.ports = [("vm".to_owned(), world::port(9, borrow("tun0")))].into();
        let obstacles = world.plan(&desired).await.unwrap_err();
        assert!(obstacles.to_string().contains("tun0 is no tap"), "{obstacles}");
    });
}
