//! What a repair gives back, what it leaves alone, and how it is told.

use super::*;

fn restore_after(disturb: impl FnOnce(&mut Observed)) -> Plan {
    plan_after(|_, observed, _| disturb(observed)).unwrap().restoring()
}

fn eth0(observed: &mut Observed) -> &mut Link {
    inside(observed, "one").links.get_mut("eth0").expect("the port's interface")
}

#[test]
fn what_somebody_added_stays() {
    let added = |text: &str| -> ipnet::IpNet { text.parse().unwrap() };
    let plan = restore_after(|observed| {
        link(observed, BRIDGE).addresses.push(added("192.0.2.1/32"));
        eth0(observed).addresses.push(added("192.0.2.2/32"));
        eth0(observed).gateways.push("10.0.0.9".parse().unwrap());
    });
    assert!(plan.is_empty() && plan.repairs().is_empty(), "{:#?}", plan.changes());

    let plan = restore_after(|observed| {
        link(observed, BRIDGE).addresses = vec![added("192.0.2.1/32"), added("fd00::1/64")];
        eth0(observed).addresses = vec![added("192.0.2.2/32")];
        eth0(observed).gateways = vec!["10.0.0.9".parse().unwrap()];
    });
    let [
        Step { action: Action::SetAddresses { addresses, .. }, .. },
        Step { action: Action::Configure(workload), .. },
    ] = plan.finish.as_slice()
    else {
        panic!("{:#?}", plan.changes())
    };
    for text in ["192.0.2.1/32", "10.0.0.1/24", "fd00::1/64"] {
        assert!(addresses.contains(&added(text)), "{text}");
    }
    assert!(workload.addresses.contains(&added("192.0.2.2/32")));
    assert!(workload.gateways.contains(&"10.0.0.9".parse().unwrap()));
    let words = plan.repairs();
    assert_eq!(words[0], "address 10.0.0.1/24 of vnet-web had been removed: set again");
    assert!(words.contains(
        &"the default route via 10.0.0.1 of eth0 in namespace one had been removed: set again".to_owned()
    ));
    assert!(!words.iter().any(|text| text.contains("192.0.2") || text.contains("10.0.0.9")), "{words:#?}");
}

#[test]
fn an_interface_that_is_down_inside_is_its_workloads_own_affair() {
    let plan = restore_after(|observed| {
        eth0(observed).up = false;
        eth0(observed).gateways.clear();
        eth0(observed).mtu = 1400;
    });
    assert!(plan.is_empty(), "{:#?}", plan.changes());
}

#[test]
fn what_was_altered_is_set_again() {
    let plan = restore_after(|observed| {
        eth0(observed).mtu = 1400;
        link(observed, BRIDGE).mtu = 1400;
        link(observed, BRIDGE).mac = Some(MacAddr([2; 6]));
        link(observed, VETH).up = false;
        link(observed, TAP).master = None;
    });
    assert_eq!(
        plan.repairs(),
        [
            "the MAC of vnet-web had been changed: set to 02:00:00:00:00:01 again".to_owned(),
            "the MTU of vnet-web had been changed: set to 1500 again".to_owned(),
            "tap0 had been taken off vnet-web: put back".to_owned(),
            format!("{} was down: brought up", veth()),
            "the MTU of eth0 in namespace one had been changed: set to 1500 again".to_owned(),
        ]
    );
}

#[test]
fn what_is_made_again_is_told_once() {
    let plan = restore_after(|observed| {
        observed.links.remove(&BRIDGE);
        observed.attached.remove(&BRIDGE);
        link(observed, VETH).master = None;
        link(observed, TAP).master = None;
    });
    assert_eq!(plan.repairs(), ["bridge vnet-web of network web had been deleted: made again"]);

    let plan = restore_after(|observed| {
        observed.links.remove(&VETH);
        observed.attached.remove(&VETH);
        inside(observed, "one").links.clear();
    });
    let told = format!("eth0 of port a ({}) was missing in namespace one: made", veth());
    assert_eq!(plan.repairs(), [told]);
}
