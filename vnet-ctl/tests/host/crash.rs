//! What a crash leaves is completed.

use std::fs;

use vnet_ctl::plan::{self, Desired, Obstacle, Uplink, port_device};

use crate::{
    segments::{make_eth1, overlaid, trunked},
    taps::with_tap,
    world::{World, addresses, desired, ip, isolated},
};

#[test]
fn whatever_step_a_crash_comes_after_the_next_plan_completes() {
    isolated(async |world: &mut World| crash_everywhere(world, &desired()).await);
}

#[test]
fn so_it_does_for_what_leads_beyond_this_host_and_for_taps() {
    isolated(async |world: &mut World| {
        make_eth1();
        let mut everything = overlaid(Uplink::Device("eth1".to_owned()));
        let mut red = trunked().networks.remove("web").unwrap();
        (red.bridge, red.mac.0[5]) = ("vnet-red".to_owned(), 9);
        red.gateways.clear();
        everything.networks.insert("red".to_owned(), red);
        everything.ports.extend(with_tap(Some(1000)).ports);
        let before = ip("-d addr show eth1");
        crash_everywhere(world, &everything).await;
        assert_eq!(ip("-d addr show eth1"), before);
    });
}

async fn crash_everywhere(world: &mut World, desired: &Desired) {
    let steps = world.plan(desired).await.expect("no obstacle");
    let total = steps.prepare.len() + steps.finish.len();
    assert!(total > 10);
    for crash_after in 0..total {
        world.converge_until(desired, crash_after).await;
        world.converge(desired).await;
        let again = world.plan(desired).await.expect("no obstacle");
        assert!(again.is_empty(), "after {crash_after}: {:#?}", again.changes());
        world.teardown().await;
        let links = ip("link");
        assert!(!links.contains("vnet") && !links.contains("vp-"), "after {crash_after}: {links}");
        assert!(!links.contains("vm0"), "after {crash_after}: {links}");
        assert_eq!(fs::read_dir("/run/netns").expect("the folder").count(), 0, "after {crash_after}");
    }
}

#[test]
fn a_device_that_a_crash_left_without_its_alias_is_known() {
    isolated(async |world: &mut World| {
        ip("netns add one");
        let group = plan::NEWBORN_GROUP;
        ip(&format!("link add vnet-web group {group} type bridge"));
        let device = port_device("a", 0);
        ip(&format!("link add {device} group {group} type veth peer name eth0 netns one"));
        ip(&format!("link add vp-forgotten group {group} type veth peer name eth7 netns one"));
        world.converge(&desired()).await;
        assert!(world.plan(&desired()).await.unwrap().is_empty());
        assert!(ip(&format!("link show {device}")).contains("alias vnet:port:a"));
        assert!(!ip("link").contains("vp-forgotten"));
        assert!(!ip("-d link").contains(&group.to_string()));
        // Made by hand before: not vnet's to remove.
        world.teardown().await;
        assert!(ip("netns").contains("one"));
    });
}

#[test]
fn an_empty_namespace_file_that_a_crash_left_is_used() {
    isolated(async |world: &mut World| {
        fs::create_dir_all("/run/netns").unwrap();
        fs::write("/run/netns/one", "").unwrap();
        assert!(
            matches!(world.plan(&desired()).await, Err(all) if matches!(all.0[..], [Obstacle::NotANamespace { .. }]))
        );
        world.state.namespaces.insert("one".to_owned());
        world.converge(&desired()).await;
        assert_eq!(addresses("one", "eth0").len(), 3);
    });
}
