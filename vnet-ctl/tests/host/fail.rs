//! What fails changes nothing.

use std::{collections::BTreeSet, fs};

use vnet_ctl::plan::{Attach, NetnsRef, port_device};

use crate::world::{self, World, addresses, desired, ip, ip_in, isolated};

#[test]
fn a_failed_step_takes_back_all_before_it() {
    isolated(async |world: &mut World| {
        let before = ip("link");
        let plan = world.plan(&desired()).await.unwrap();
        let failing =
            plan.prepare.iter().position(|step| step.action.to_string().contains("port b")).unwrap();
        world.datapath.fail_on = Some(port_device("b", 0));
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.not_undone.is_empty(), "{error}");
        assert_eq!(error.failure.action, plan.prepare[failing + 1].action);
        assert!(error.to_string().contains("the datapath refuses"), "{error}");
        assert_eq!(ip("link"), before);
        assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
        assert!(world.datapath.attached.is_empty());
    });
}

#[test]
fn a_device_that_vanishes_halfway_leaves_nothing_to_take_back() {
    isolated(async |world: &mut World| {
        let before = ip("link");
        let plan = world.plan(&desired()).await.unwrap();
        world.datapath.vanishes = Some(port_device("b", 0));
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("is not there any more"), "{error}");
        assert!(error.not_undone.is_empty(), "{error}");
        assert_eq!(ip("link"), before);
        assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
    });
}

#[test]
fn a_failed_repair_restores_what_was_there() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let before = (ip("addr show vnet-web"), addresses("one", "eth0"), ip_in("one", "route"));
        let mut changed = desired();
        changed.networks.get_mut("web").unwrap().mtu = 9000;
        for port in changed.ports.values_mut() {
            port.mtu = 9000;
            port.addresses = vec![format!("10.0.0.{}/24", port.mac.0[5] + 100).parse().unwrap()];
        }
        let plan = world.plan(&changed).await.unwrap();
        let prepared = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap();
        ip_in("two", "link set eth0 name gone0");
        let error = world.host.apply(&plan.finish, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("eth0"), "{error}");
        let failures = world.host.undo(prepared, &mut world.datapath).await;
        assert!(failures.is_empty(), "{failures:?}");
        ip_in("two", "link set gone0 name eth0");
        let after = (ip("addr show vnet-web"), addresses("one", "eth0"), ip_in("one", "route"));
        assert_eq!(before, after);
        assert!(world.plan(&desired()).await.unwrap().is_empty());
    });
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_touched() {
    isolated(async |world: &mut World| {
        ip("link add vnet-web type bridge");
        ip("link add br0 type bridge");
        ip("link add veth9 type veth peer name veth8");
        ip("link set veth9 master br0");
        ip("netns add one");
        ip_in("one", "link add eth0 type veth peer name eth5");
        fs::write("/run/file", "").unwrap();
        let mut desired = desired();
        let mut add = |name: &str, attach| desired.ports.insert(name.to_owned(), world::port(50, attach));
        add("c", Attach::Device { device: "veth9".to_owned() });
        add("d", Attach::Device { device: "none0".to_owned() });
        add("e", world::in_netns("none", "eth0", false));
        let at = |path: &str| Attach::Netns {
            netns: NetnsRef::Path(path.into()),
            create: false,
            interface: "eth0".to_owned(),
        };
        add("f", at("/run/file"));
        add("g", at("/proc/thread-self/ns/net"));
        let before = ip("link");
        let obstacles = world.plan(&desired).await.unwrap_err().0;
        let kinds: BTreeSet<_> =
            obstacles.iter().map(|o| format!("{o:?}").split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(
            kinds.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "DeviceMissing",
                "ForeignMaster",
                "InterfaceInTheWay",
                "LinkInTheWay",
                "NamespaceMissing",
                "NotANamespace",
                "OwnNamespace"
            ]
        );
        assert_eq!(ip("link"), before);
    });
}

#[test]
fn a_namespace_that_appears_meanwhile_is_not_removed_by_the_undo() {
    isolated(async |world: &mut World| {
        let plan = world.plan(&desired()).await.unwrap();
        ip("netns add one");
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("already there"), "{error}");
        assert!(ip("netns").contains("one"));
    });
}
