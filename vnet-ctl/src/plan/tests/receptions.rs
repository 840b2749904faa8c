//! Frames that devices take for vnet's sake.

use super::*;

const ETH0: u32 = 2;
const GROUP: MacAddr = MacAddr([0x33, 0x33, 0xff, 0, 0, 0x20]);
const OTHER: MacAddr = MacAddr([0x33, 0x33, 0xff, 0, 0, 0x21]);

/// A plan for a network that leaves by eth0 and `wants` groups, of which the device `has` some, and vnet `joined`
/// some.
fn groups(wants: &[MacAddr], has: &[MacAddr], joined: &[MacAddr]) -> (Plan, State) {
    let mut state = State::default();
    let plan = plan_after(|desired, observed, known| {
        let eth0 = Link {
            ifindex: ETH0,
            name: "eth0".to_owned(),
            mac: Some(MacAddr([4; 6])),
            mtu: 1500,
            up: true,
            ..Link::default()
        };
        observed.links.insert(ETH0, eth0);
        observed.outside = [(ETH0, Role::Uplink)].into();
        observed.macs = [(ETH0, has.iter().copied().collect())].into();
        let web = desired.networks.get_mut("web").unwrap();
        (web.uplink, web.groups) = (Uplink::Device("eth0".to_owned()), wants.iter().copied().collect());
        if !joined.is_empty() {
            let joined = joined.iter().map(ToString::to_string).collect();
            known.groups.insert("eth0".to_owned(), joined);
        }
        state.clone_from(known);
    })
    .unwrap();
    (plan, state)
}

fn join(group: MacAddr) -> Action {
    Action::Accept { device: "eth0".to_owned(), frames: Reception::Mac(group) }
}

fn leave(group: MacAddr) -> Action {
    Action::Decline { device: "eth0".to_owned(), frames: Reception::Mac(group) }
}

fn known(state: &State) -> Vec<&str> {
    state.groups.values().flatten().map(String::as_str).collect()
}

#[test]
fn what_is_answered_for_is_joined_and_remembered() {
    let (plan, state) = groups(&[GROUP], &[], &[]);
    assert_eq!(actions(&plan.prepare), [join(GROUP)]);
    assert_eq!(undos(&plan.prepare), [leave(GROUP)]);
    assert_eq!(known(&plan.intended(&state)), ["33:33:ff:00:00:20"]);
    assert_eq!(known(&plan.settled(&state)), ["33:33:ff:00:00:20"]);
    assert!(groups(&[GROUP], &[GROUP], &[GROUP]).0.is_empty());
    assert_eq!(actions(&groups(&[GROUP], &[], &[GROUP]).0.prepare), [join(GROUP)], "somebody left it");
}

#[test]
fn what_is_not_answered_for_any_more_is_left() {
    let (plan, state) = groups(&[OTHER], &[GROUP, OTHER], &[GROUP, OTHER]);
    assert!(plan.prepare.is_empty());
    assert_eq!(plan.remove, [leave(GROUP)]);
    assert_eq!(known(&plan.intended(&state)).len(), 2, "until it is left");
    assert_eq!(known(&plan.settled(&state)), ["33:33:ff:00:00:21"]);
}

#[test]
fn what_somebody_else_joined_is_theirs() {
    let (plan, state) = groups(&[GROUP], &[GROUP], &[]);
    assert!(plan.is_empty());
    assert!(known(&plan.settled(&state)).is_empty());
    assert!(groups(&[], &[GROUP], &[]).0.is_empty());
}
