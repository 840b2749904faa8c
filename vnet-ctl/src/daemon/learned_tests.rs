use std::path::Path;

use super::*;
use crate::{
    compile::{UplinkDevice, assign},
    policy::{ElasticIp, NetworkKind, OnChange, Segment, parse},
};

/// `a` and `b` learn in `lan`, `c` declares, `free` learns in a LAN of which nothing is known.
const TEXT: &str = r#"version = 1
[networks.lan]
type = "private"
subnets = ["192.0.2.0/24", "2001:db8::/64"]
[networks.open]
type = "private"
subnets = ["10.9.0.0/24"]
[networks.web]
type = "nat"
subnets = ["10.1.0.0/24"]
[ports.a]
network = "lan"
attach = { netns = "a" }
[ports.b]
network = "lan"
attach = { netns = "b" }
[ports.c]
network = "lan"
addresses = ["192.0.2.9"]
attach = { netns = "c" }
[ports.free]
network = "open"
attach = { netns = "free" }
[ports.w]
network = "web"
attach = { netns = "w" }
"#;

fn policy() -> Policy {
    let (mut policy, _) = parse(TEXT, Path::new("p.toml")).unwrap();
    for name in ["lan", "open"] {
        let network = policy.networks.get_mut(name).unwrap();
        network.kind = NetworkKind::Bridged;
        network.segment = Some(Segment::Lan { trunk: "eth0".to_owned(), vlan: vec![], priority: None });
    }
    policy.networks.get_mut("open").unwrap().subnets.clear();
    let elastic = ElasticIp { port: "w".to_owned(), on_change: OnChange::Cut };
    policy.elastic_ips.insert(addr("192.0.2.200"), elastic);
    policy
}

/// The host has 192.0.2.2, and its uplink's router is 192.0.2.254; the router of the LAN of which nothing is known is
/// 10.7.0.254.
fn devices() -> Devices {
    let (addresses, routers) = ([addr("192.0.2.2")].into(), [addr("10.7.0.254")].into());
    let mut devices = Devices { addresses, routers, ..Devices::default() };
    let mut uplink = UplinkDevice::new(4, MacAddr([2; 6]), Vec::new(), 1500);
    uplink.gateways = vec![addr("192.0.2.254")];
    devices.uplinks.insert("web".to_owned(), uplink);
    devices
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A book, and who else has addresses.
struct World {
    policy: Policy,
    assigned: Assigned,
    book: Book,
}

impl World {
    fn new() -> Self {
        let policy = policy();
        let assigned = assign(&policy, &Assigned::new()).unwrap();
        Self { policy, assigned, book: Book::default() }
    }

    fn hear(&mut self, port: &str, heard: Heard, now: u64) -> Vec<String> {
        let owners = Owners::of(&self.policy, &self.assigned).with(&devices());
        let network = self.policy.ports[port].network.clone();
        self.book.hear(&owners, (port, &network), heard, now);
        std::mem::take(&mut self.book.news)
    }

    fn claim(&mut self, port: &str, text: &str, now: u64) -> bool {
        !self.hear(port, Heard::Claim(addr(text)), now).is_empty()
    }

    fn lease(&mut self, port: &str, text: &str, secs: u32, now: u64) -> Vec<String> {
        self.hear(port, Heard::Lease(addr(text), secs), now)
    }

    fn of(&self, port: &str) -> Vec<String> {
        let own = self.book.known.get(port).into_iter().flatten();
        own.map(|learned| learned.address.to_string()).collect()
    }
}

#[test]
fn an_address_that_nobody_has_is_whose_who_claims_it() {
    let mut world = World::new();
    let news = world.hear("a", Heard::Claim(addr("192.0.2.44")), 0);
    assert_eq!(news, ["port a has the address 192.0.2.44 now, which it claims"]);
    assert!(world.claim("a", "2001:db8::44", 0));
    assert!(world.claim("a", "fe80::1234", 0), "no subnet has it");
    assert_eq!(world.of("a"), ["192.0.2.44", "2001:db8::44", "fe80::1234"]);
    assert!(!world.claim("a", "192.0.2.44", 0), "that is known");
}

#[test]
fn what_somebody_else_has_cannot_be_claimed() {
    let mut world = World::new();
    let macs_own = world.policy.ports["b"].mac.link_local().to_std().to_string();
    let refused = [
        ("192.0.2.9", "declared for c"),
        ("192.0.2.1", "the LAN's router"),
        ("192.0.2.254", "the uplink's router"),
        ("192.0.2.2", "the host's own"),
        ("192.0.2.200", "an elastic IP"),
        ("198.51.100.7", "in no subnet"),
        ("192.0.2.0", "the subnet's own"),
        ("192.0.2.255", "broadcast"),
        ("0.0.0.0", "nobody's"),
        ("ff02::1", "multicast"),
        (&macs_own, "b's by its MAC"),
    ];
    for (text, why) in refused {
        assert!(!world.claim("a", text, 0), "{text}: {why}");
        assert_eq!(world.lease("a", text, 600, 0), [""; 0], "{text}: {why}");
    }
    assert!(world.claim("b", "192.0.2.44", 0));
    assert!(!world.claim("a", "192.0.2.44", 100), "b has it");
    assert!(world.claim("free", "192.0.2.44", 0), "another LAN");
}

#[test]
fn only_ports_without_addresses_in_bridged_networks_are_heard() {
    let mut world = World::new();
    assert!(!world.claim("c", "192.0.2.44", 0), "it declares its own");
    assert!(!world.claim("w", "10.1.0.44", 0), "it gets its own");
    assert!(world.claim("free", "198.51.100.7", 0), "nothing is known of its LAN");
    assert!(!world.claim("free", "10.7.0.254", 0), "but who its router is");
}

#[test]
fn a_ninth_address_takes_the_place_of_the_oldest_but_not_at_once() {
    let mut world = World::new();
    for n in 1..=8 {
        assert!(world.claim("a", &format!("192.0.2.{}", 100 + n), n));
    }
    assert!(!world.claim("a", "192.0.2.150", 60), "the oldest is 59 s old");
    let news = world.hear("a", Heard::Claim(addr("192.0.2.150")), 61);
    assert_eq!(news[0], "port a has the address 192.0.2.101 no more: it claims too many");
    assert_eq!((world.of("a").len(), news.len()), (8, 2));
    assert!(!world.claim("a", "192.0.2.151", 61), "the next one is 59 s old");
    // A server is believed all the same.
    assert_eq!(world.lease("a", "192.0.2.160", 600, 61).len(), 2);
    assert_eq!(world.of("a").len(), 8);
}

#[test]
fn a_lease_comes_before_a_claim_and_a_declaration_before_both() {
    let mut world = World::new();
    assert!(world.claim("b", "192.0.2.44", 0));
    assert_eq!(
        world.lease("a", "192.0.2.44", 600, 1),
        [
            "port b has the address 192.0.2.44 no more: a DHCP server has given it to port a",
            "port a has the address 192.0.2.44 now, by DHCP",
        ]
    );
    assert!(!world.claim("b", "192.0.2.44", 2));
    assert_eq!((world.of("a").len(), world.of("b").len()), (1, 0));
    assert!(world.lease("a", "192.0.2.9", 600, 3).is_empty(), "declared for c");
    assert_eq!(world.of("a"), ["192.0.2.44"]);
}

#[test]
fn a_claim_becomes_a_lease_and_a_renewed_lease_lasts_without_a_word() {
    let mut world = World::new();
    assert!(world.claim("a", "192.0.2.44", 0));
    assert!(world.lease("a", "192.0.2.44", 600, 10).is_empty());
    assert_eq!(Book::next_end(&world.book.known), Some(610));
    assert!(world.lease("a", "192.0.2.44", 600, 300).is_empty());
    world.book.expire(899);
    assert_eq!(world.of("a"), ["192.0.2.44"]);
    world.book.expire(900);
    assert_eq!(world.book.news, ["port a has the address 192.0.2.44 no more: its DHCP lease is over"]);
    assert!(world.book.known.is_empty() && Book::next_end(&world.book.known).is_none());
}

#[test]
fn a_lease_for_ever_is_one() {
    let mut world = World::new();
    world.lease("a", "192.0.2.44", u32::MAX, 10);
    world.book.expire(u64::MAX - 1);
    assert_eq!(world.of("a"), ["192.0.2.44"]);
}

#[test]
fn another_lease_takes_the_place_of_the_former() {
    let mut world = World::new();
    assert!(world.claim("a", "192.0.2.50", 0));
    world.lease("a", "192.0.2.44", 600, 0);
    let news = world.lease("a", "192.0.2.45", 600, 1);
    assert_eq!(news[0], "port a has the address 192.0.2.44 no more: a DHCP server has given it another");
    assert_eq!(world.of("a"), ["192.0.2.50", "192.0.2.45"], "what it claims stays");
}

#[test]
fn a_lease_is_denied_or_given_up() {
    let mut world = World::new();
    world.lease("a", "192.0.2.44", 600, 0);
    assert!(world.hear("a", Heard::GivenUp(addr("192.0.2.45")), 1).is_empty(), "it has another");
    assert_eq!(world.hear("a", Heard::GivenUp(addr("192.0.2.44")), 1).len(), 1);
    assert!(world.claim("a", "192.0.2.50", 2));
    world.lease("a", "192.0.2.44", 600, 2);
    assert_eq!(
        world.hear("a", Heard::Denial, 3),
        ["port a has the address 192.0.2.44 no more: a DHCP server denies it"]
    );
    assert_eq!(world.of("a"), ["192.0.2.50"]);
}

#[test]
fn what_fits_the_policy_no_more_goes() {
    let mut world = World::new();
    for (port, text) in [("a", "192.0.2.44"), ("b", "192.0.2.45"), ("free", "198.51.100.7")] {
        assert!(world.claim(port, text, 0));
    }
    let known = world.book.known.clone();
    assert_eq!(fitting(&world.policy, &world.assigned, &known), known);
    let fits = |change: &dyn Fn(&mut Policy)| {
        let mut policy = policy();
        change(&mut policy);
        let assigned = assign(&policy, &Assigned::new()).unwrap();
        fitting(&policy, &assigned, &known).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(fits(&|policy| _ = policy.ports.remove("a")), ["b", "free"]);
    let declared =
        |policy: &mut Policy| policy.ports.get_mut("b").unwrap().addresses = vec![addr("192.0.2.77")];
    assert_eq!(fits(&declared), ["a", "free"]);
    let taken = |policy: &mut Policy| policy.ports.get_mut("c").unwrap().addresses = vec![addr("192.0.2.44")];
    assert_eq!(fits(&taken), ["b", "free"]);
    let moved = |policy: &mut Policy| policy.ports.get_mut("free").unwrap().network = "web".to_owned();
    assert_eq!(fits(&moved), ["a", "b"]);
    let all = joined(&world.assigned, &known);
    assert_eq!((&all["a"], &all["c"]), (&vec![addr("192.0.2.44")], &vec![addr("192.0.2.9")]));
}

#[test]
fn what_another_network_has_is_free_on_a_lan_with_the_same_subnet() {
    let mut world = World::new();
    let web = policy().networks["web"].subnets[0];
    world
        .policy
        .networks
        .get_mut("lan")
        .unwrap()
        .subnets
        .push(crate::policy::Subnet { gateway: addr("10.1.0.254"), ..web });
    assert!(world.claim("a", "10.1.0.1", 0), "the host's in `web`");
    let of_web = world.assigned["w"][0].to_string();
    assert!(world.claim("a", &of_web, 0), "a port's in `web`");
    assert!(!world.claim("b", "10.1.0.254", 0), "the LAN's router");
    assert!(!world.claim("free", "10.1.0.1", 0), "nothing is known of that LAN but that the host has it");
}
