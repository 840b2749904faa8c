//! Taps that vnet makes: what user may open one, and a real virtual machine behind one.

use std::{fs, process::Command};

use vnet_tests::{
    World,
    guest::Guest,
    process::finish,
    teller::Teller,
    traffic::{ANSWER, Echo, Outcome, SILENCE, ping, tcp},
};

const MAC: &str = "02:00:00:00:00:0a";

const POLICY: &str = r#"
version = 1

[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
uplink = "eth0"

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "icmp", icmp_type = 8, from = ["any"] },
]

[security_groups.closed]

[ports.vm]
network = "web"
addresses = ["10.10.0.10", "fd00:10::a"]
mac = "02:00:00:00:00:0a"
security_groups = ["web"]
attach = { tap = "tap0", create = true, owner = 65534 }

[ports.b]
network = "web"
addresses = ["10.10.0.11", "fd00:10::b"]
security_groups = ["web"]
attach = { netns = "@b", create = true }

[ports.c]
network = "web"
addresses = ["10.10.0.12"]
security_groups = ["closed"]
attach = { netns = "@c", create = true }

[[forwards]]
listen = "198.51.100.1:8080"
protocol = "tcp"
to = "vm:80"
"#;

/// Megabytes that the machine fetches, more than fits any buffer.
const LARGE: usize = 8;

#[test]
fn a_virtual_machine_is_a_port_like_others() {
    let world = World::running_with_outside(POLICY);
    let mut guest = Guest::boot(world.host(), ("tap0", MAC), world.folder());
    let card = guest.shell("cat /sys/class/net/eth0/address");
    assert_eq!(card.trim(), MAC);
    guest
        .shell("ip link set eth0 up; ip addr add 10.10.0.10/24 dev eth0; ip route add default via 10.10.0.1");
    guest.shell("ip -6 addr add fd00:10::a/64 dev eth0; ip -6 route add default via fd00:10::1");

    // The gateway, another port, and outside.
    let _servers = ["b", "c"].map(|port| [80, 81].map(|number| Echo::serve(&world.port(port), number)));
    for to in ["10.10.0.1", "10.10.0.11", "203.0.113.5"] {
        let _ = guest.shell(&format!("ping -c 1 -W 5 {to}"));
    }
    assert!(!guest.succeeds("ping -c 1 -W 1 10.10.0.12"));
    let teller = Teller::serve(&world.outside(), 80);
    let told = guest.shell("wget -q -O - http://203.0.113.5/");
    assert!(told.trim().starts_with("198.51.100.1:"), "{told}");
    assert_eq!(teller.asked_by().len(), 1);
    drop(teller);

    // Into the machine: by its groups, and from outside by the forward.
    guest.shell("mkdir -p /srv; echo hello > /srv/index.html");
    guest.shell("httpd -p 80 -h /srv; httpd -p 81 -h /srv");
    let fetch = |url: &str| world.exec("b", &["curl", "--silent", "--max-time", "8", url]);
    assert_eq!(fetch("http://10.10.0.10/").ok().stdout, "hello\n");
    world.assert_silent("b", tcp("10.10.0.10:81"));
    assert_eq!(tcp("198.51.100.1:81").run(&world.outside(), SILENCE), Outcome::Refused);
    let outside = world.outside().exec(&["curl", "--silent", "--max-time", "8", "http://198.51.100.1:8080/"]);
    assert_eq!(outside.ok().stdout, "hello\n");
    assert_eq!(ping("10.10.0.10").run(world.host(), ANSWER), Outcome::Answered);

    // Segments that are longer than any packet on a wire, both ways, arrive whole.
    let server = world.folder().join("www");
    fs::create_dir(&server).expect("a folder");
    let noise: Vec<u8> =
        (0..(LARGE << 20) as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(server.join("large"), noise).expect("write a file");
    let sum = finish({
        let mut command = Command::new("sha256sum");
        command.arg(server.join("large"));
        command
    });
    let sum = sum.ok().stdout.split(' ').next().expect("a sum").to_owned();
    let path = server.to_str().expect("a path of ASCII");
    let _web = vnet_tests::traffic::http_server(&world.outside(), 8000, path);
    guest.shell("wget -q -O /srv/large http://203.0.113.5:8000/large");
    assert_eq!(guest.shell("sha256sum /srv/large").split(' ').next(), Some(&*sum));
    let back = world.exec("b", &["sh", "-c", "curl --silent http://10.10.0.10/large | sha256sum"]);
    assert_eq!(back.ok().stdout.split(' ').next(), Some(&*sum));
    let features = guest.shell("cat /sys/class/net/eth0/device/features");
    // VIRTIO_NET_F_CSUM and VIRTIO_NET_F_HOST_TSO4 (virtio specification 1.2 section 5.1.3).
    let negotiated: Vec<char> = features.trim().chars().collect();
    assert_eq!((negotiated[0], negotiated[11]), ('1', '1'), "{features}");

    // It can be nobody else.
    guest.shell("ip addr add 10.10.0.66/24 dev eth0");
    assert!(!guest.succeeds("ping -c 1 -W 1 -I 10.10.0.66 10.10.0.11"));

    // A change of its group holds at once.
    let id = world.sg_add(&["web", "ingress", "-p", "tcp", "--port", "81", "--from", "any"]);
    assert_eq!(fetch("http://10.10.0.10:81/").ok().stdout, "hello\n");
    let _ = world.ctl(&["sg", "remove", "web", "--id", &id]).ok();
    world.assert_silent("b", tcp("10.10.0.10:81"));
}

/// Opens a tap as a virtual machine of a user's does. The device file may be root's alone, as where no udev runs: it is
/// opened before.
const OPEN: &str = "
import fcntl, os, struct, sys
queue = os.open('/dev/net/tun', os.O_RDWR)
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
# TUNSETIFF: a tap without a protocol before each frame, with a header for offloads
fcntl.ioctl(queue, 0x400454ca, struct.pack('16sH22x', sys.argv[1].encode(), 0x0002 | 0x1000 | 0x4000))
";

#[test]
fn a_tap_is_there_for_its_owner_before_any_machine_and_gone_after_the_teardown() {
    let mut world = World::with_outside(POLICY);
    let before = world.snapshot();
    world.start(&[]);
    let tap = world.host_exec(&["ip", "-details", "link", "show", "dev", "tap0"]).ok().stdout;
    assert!(
        tap.contains("vnet_hdr on") && tap.contains("persist on") && tap.contains("user nobody"),
        "{tap}"
    );
    let as_user = |user: &str| world.host_exec(&["python3", "-c", OPEN, "tap0", user]);
    let _ = as_user("65534").ok();
    let _ = as_user("65533").refused().says(&["not permitted"]);
    // It is still there, and works for the next one.
    let _ = as_user("65534").ok();
    world.stop();
    let _ = world.host_exec(&["python3", "-c", OPEN, "tap0", "65534"]).ok();
    let _ = world.teardown().ok();
    before.assert_same(&world.snapshot());
}
