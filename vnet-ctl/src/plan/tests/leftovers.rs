//! What goes, and what stays.

use super::*;

#[test]
fn what_is_not_desired_goes_and_devices_of_others_are_only_released() {
    let plan = plan_after(|desired, _, _| *desired = Desired::default()).unwrap();
    assert!(plan.prepare.is_empty() && plan.finish.is_empty());
    let delete = |device: &str, owner| Action::DeleteLink { device: device.to_owned(), owner: Some(owner) };
    let detach = |ifindex| Action::Detach(Target::Ifindex(ifindex));
    let expected = [
        Action::Release { device: "tap0".to_owned() },
        delete(&veth(), Owner::Port("a".to_owned())),
        delete("vnet-web", Owner::Network("web".to_owned())),
        detach(BRIDGE),
        detach(VETH),
        detach(TAP),
        Action::DeleteNamespace(name("one")),
    ];
    assert_eq!(plan.remove, expected);
    let (observed, state) = settled();
    assert_eq!(teardown(&observed, &state).remove, expected);
    assert_eq!(plan.settled(&state), State::default());
}

#[test]
fn a_namespace_that_vnet_did_not_make_stays() {
    let (observed, _) = settled();
    let plan = teardown(&observed, &State::default());
    assert!(!plan.remove.iter().any(|action| matches!(action, Action::DeleteNamespace(_))));
}

#[test]
fn a_namespace_that_another_port_uses_stays() {
    let plan = plan_after(|desired, observed, _| {
        let mut port = desired.ports.remove("a").unwrap();
        port.attach = in_netns("one", "eth1");
        desired.ports.insert("c".to_owned(), port);
        inside(observed, "one").links.clear();
    })
    .unwrap();
    assert!(!plan.remove.iter().any(|action| matches!(action, Action::DeleteNamespace(_))));
    assert_eq!(plan.settled(&State::default()).namespaces, ["one".to_owned()].into());
}

#[test]
fn a_device_of_somebody_else_on_the_bridge_is_not_touched() {
    let plan = plan_after(|_, observed, _| {
        let stranger =
            Link { ifindex: 40, name: "veth9".to_owned(), master: Some(BRIDGE), ..Link::default() };
        observed.links.insert(40, stranger);
    })
    .unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
}

#[test]
fn programs_on_devices_that_are_gone_are_detached() {
    let plan = plan_after(|_, observed, _| observed.attached.extend([99])).unwrap();
    assert_eq!(plan.remove, [Action::Detach(Target::Ifindex(99))]);
}

#[test]
fn what_a_port_has_that_is_left_out_for_now_stays_as_it_is() {
    let plan = plan_after(|desired, _, _| {
        let ports = std::mem::take(&mut desired.ports);
        desired.spared = ports.into_iter().map(|(name, port)| (name, port.attach)).collect();
    })
    .unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
    let (observed, state) = settled();
    assert_eq!(plan.settled(&state), state, "a teardown finds it all");
    let desired = Desired { spared: [("a".to_owned(), in_netns("one", "eth0"))].into(), ..desired() };
    assert_eq!(spared(&desired, &observed), [VETH].into());
}

#[test]
fn a_device_that_was_down_when_it_was_borrowed_is_down_again() {
    let plan = plan_after(|_, observed, state| {
        state.devices.clear();
        let tap = observed.links.get_mut(&TAP).unwrap();
        (tap.up, tap.master) = (false, None);
    })
    .unwrap();
    let (observed, state) = settled();
    let mut state = state;
    state.devices.clear();
    assert_eq!(plan.intended(&state).lowered, ["tap0".to_owned()].into());
    let mut state = plan.settled(&state);
    assert_eq!(state.lowered, ["tap0".to_owned()].into());

    let down = Action::Down { device: "tap0".to_owned() };
    assert!(teardown(&observed, &state).remove.contains(&down));
    state.lowered.clear();
    assert!(!teardown(&observed, &state).remove.contains(&down));
}
