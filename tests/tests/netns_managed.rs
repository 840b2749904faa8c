//! The managed cloud of `examples/managed`, by its very files: groups that are VLANs over several nodes, and a controller
//! that is their gateway and judges what goes in.
//!
//! ```text
//!     O ---- R ---- controller ---- switch ---- node-1: blue-1, green-1
//!                                          `--- node-2: blue-2, green-2
//! ```

use vnet_tests::{
    Namespace, World,
    teller::{Teller, address_seen},
    traffic::{ANSWER, Connection, Echo, Outcome, Probe, SILENCE, ping, tcp},
    world::shell,
};

const CONTROLLER: &str = include_str!("../../examples/managed/controller.toml");
const NODES: [&str; 2] =
    [include_str!("../../examples/managed/node-1.toml"), include_str!("../../examples/managed/node-2.toml")];
/// blue-1's elastic IP, and green-2's.
const ELASTIC: [&str; 2] = ["198.51.100.20", "198.51.100.21"];
const OUTSIDE: &str = "203.0.113.5:80";

struct Cloud {
    controller: World,
    nodes: [World; 2],
}

impl Cloud {
    fn up() -> Self {
        let mut controller = World::with_outside(CONTROLLER);
        controller.create_namespace("switch");
        shell(&controller.port("switch"), "ip link add lan type bridge; ip link set lan up");
        controller.plug(controller.host(), ("eth1", "controller"));
        shell(controller.host(), "ip link set eth1 up");
        let nodes = [0, 1].map(|index| {
            // The names of namespaces are the world's own.
            let node = World::prepare(&NODES[index].replace("netns = \"", "netns = \"@"));
            controller.plug(node.host(), ("eth0", &format!("node-{}", index + 1)));
            shell(node.host(), "ip link set eth0 up");
            node
        });
        controller.start(&[]);
        let nodes = nodes.map(|mut node| {
            node.start(&[]);
            node
        });
        Self { controller, nodes }
    }

    /// The instance with this name.
    fn at(&self, name: &str) -> Namespace {
        let node = if name.ends_with('1') { &self.nodes[0] } else { &self.nodes[1] };
        node.port(name)
    }

    #[track_caller]
    fn assert_reaches(&self, from: &str, probe: Probe) {
        assert_eq!(probe.run(&self.at(from), ANSWER), Outcome::Answered, "{probe:?} from {from}");
    }

    #[track_caller]
    fn assert_silent(&self, from: &str, probe: Probe) {
        assert_eq!(probe.run(&self.at(from), SILENCE), Outcome::Silence, "{probe:?} from {from}");
    }
}

#[test]
fn members_of_a_group_reach_each_other_over_the_nodes_and_other_groups_do_not() {
    let cloud = Cloud::up();
    let names = ["blue-1", "blue-2", "green-1", "green-2"];
    let _servers = names.map(|name| Echo::serve(&cloud.at(name), 7));
    for (from, to) in
        [("blue-1", "10.1.2.3"), ("blue-2", "10.1.2.2"), ("green-1", "10.1.2.35"), ("green-2", "10.1.2.34")]
    {
        cloud.assert_reaches(from, tcp(&format!("{to}:7")));
        cloud.assert_reaches(from, ping(to));
    }
    for (from, to) in
        [("blue-1", "10.1.2.34"), ("blue-1", "10.1.2.35"), ("green-1", "10.1.2.2"), ("green-2", "10.1.2.2")]
    {
        cloud.assert_silent(from, tcp(&format!("{to}:7")));
        cloud.assert_silent(from, ping(to));
    }
    // It is the nodes that join them: the controller may be away.
    let mut cloud = cloud;
    cloud.controller.stop();
    let _ = cloud.controller.teardown().ok();
    let neighbours = cloud.at("blue-1");
    shell(&neighbours, "ip neigh flush dev eth0");
    cloud.assert_reaches("blue-1", tcp("10.1.2.3:7"));
}

#[test]
fn instances_leave_with_the_controllers_address_or_their_elastic_ip() {
    let cloud = Cloud::up();
    let _teller = Teller::serve(&cloud.controller.outside(), 80);
    for name in ["blue-2", "green-1"] {
        assert_eq!(address_seen(&cloud.at(name), tcp(OUTSIDE)), "198.51.100.1", "{name}");
    }
    for (name, elastic) in ["blue-1", "green-2"].into_iter().zip(ELASTIC) {
        assert_eq!(address_seen(&cloud.at(name), tcp(OUTSIDE)), elastic, "{name}");
    }
}

#[test]
fn the_metadata_service_knows_each_instance_by_its_own_address() {
    let cloud = Cloud::up();
    let _teller = Teller::serve(cloud.controller.host(), 8775);
    for (name, own) in
        [("blue-1", "10.1.2.2"), ("blue-2", "10.1.2.3"), ("green-1", "10.1.2.34"), ("green-2", "10.1.2.35")]
    {
        assert_eq!(address_seen(&cloud.at(name), tcp("169.254.169.254:80")), own, "{name}");
    }
}

#[test]
fn who_is_outside_comes_in_by_an_elastic_ip_as_the_group_says_on_the_controller() {
    let cloud = Cloud::up();
    let outside = cloud.controller.outside();
    let try_from_outside = |probe: Probe, patience| probe.run(&outside, patience);
    let _tellers =
        ["blue-1", "green-2"].map(|name| [22, 80].map(|port| Teller::serve(&cloud.at(name), port)));

    // green has a web server that everybody may see, and nothing else; blue has nothing.
    let [blue, green] = ELASTIC;
    assert_eq!(address_seen(&outside, tcp(&format!("{green}:80"))), "203.0.113.5");
    assert_eq!(try_from_outside(ping(green), ANSWER), Outcome::Answered);
    for closed in [format!("{green}:22"), format!("{blue}:22"), format!("{blue}:80")] {
        assert_eq!(try_from_outside(tcp(&closed), SILENCE), Outcome::Silence, "{closed}");
    }
    assert_eq!(try_from_outside(ping(blue), SILENCE), Outcome::Silence);

    // One command on the controller opens SSH; no node hears of it.
    let id = cloud.controller.sg_add(&["blue", "ingress", "-p", "tcp", "--port", "22", "--from", "any"]);
    assert_eq!(address_seen(&outside, tcp(&format!("{blue}:22"))), "203.0.113.5");
    assert_eq!(try_from_outside(tcp(&format!("{blue}:80")), SILENCE), Outcome::Silence);
    // Another group comes in as a stranger does.
    assert_eq!(address_seen(&cloud.at("green-1"), tcp(&format!("{blue}:22"))), "198.51.100.1");
    let mut session = Connection::from(&outside, &format!("{blue}:22"));
    session.echo(ANSWER).expect("it is open");
    let _ = cloud.controller.ctl(&["sg", "remove", "blue", "--id", &id]).ok();
    assert_eq!(session.outcome(SILENCE), Outcome::Silence);
    assert_eq!(try_from_outside(tcp(&format!("{blue}:22")), SILENCE), Outcome::Silence);
}

#[test]
fn an_instance_cannot_be_another_one_or_the_gateway() {
    let cloud = Cloud::up();
    let _servers = ["blue-2", "green-1"].map(|name| Echo::serve(&cloud.at(name), 7));
    let blue = cloud.at("blue-1");
    // It takes the gateway's address, and a member's; then nobody answers it.
    for stolen in ["10.1.2.1", "10.1.2.5"] {
        shell(&blue, &format!("ip addr add {stolen}/27 dev eth0"));
        let from = blue.exec(&["ping", "-n", "-c", "1", "-W", "1", "-I", stolen, "10.1.2.3"]);
        assert!(!from.success(), "{from}");
        shell(&blue, &format!("ip addr del {stolen}/27 dev eth0"));
    }
    cloud.assert_reaches("blue-2", ping("10.1.2.1"));
    cloud.assert_reaches("blue-1", tcp("10.1.2.3:7"));
}
