//! Taps that vnet makes.

use super::*;

const VNET_TAP: u32 = 31;

/// A plan for a port on the tap `vm0`, which vnet makes for user 1000, after `disturb`; the tap is there.
fn with_tap(disturb: impl FnOnce(&mut Desired, &mut Observed)) -> Result<Plan, Vec<Obstacle>> {
    plan_after(|desired, observed, _| {
        let attach = Attach::Tap { device: "vm0".to_owned(), create: true, owner: Some(1000) };
        let port = Port { attach, ..desired.ports["b"].clone() };
        desired.ports.insert("vm".to_owned(), port);
        let tap = Link {
            ifindex: VNET_TAP,
            name: "vm0".to_owned(),
            ownership: Ownership::Ours(Owner::Port("vm".to_owned())),
            kind: Kind::Tap { user: Some(1000), is_open: false },
            mtu: 1500,
            up: true,
            master: Some(BRIDGE),
            ..Link::default()
        };
        observed.links.insert(VNET_TAP, tap);
        observed.attached.insert(VNET_TAP);
        disturb(desired, observed);
    })
}

fn vm0() -> String {
    "vm0".to_owned()
}

fn delete() -> Action {
    Action::DeleteLink { device: vm0(), owner: Some(Owner::Port("vm".to_owned())) }
}

fn owned_by(desired: &mut Desired, user: Option<u32>) {
    let attach = Attach::Tap { device: vm0(), create: true, owner: user };
    desired.ports.get_mut("vm").unwrap().attach = attach;
}

fn gone(observed: &mut Observed) {
    observed.links.remove(&VNET_TAP);
    observed.attached.remove(&VNET_TAP);
}

#[test]
fn a_tap_is_made_closed_and_comes_up_last() {
    let plan = with_tap(|_, observed| gone(observed)).unwrap();
    assert_eq!(
        actions(&plan.prepare),
        [
            Action::CreateTap { port: "vm".to_owned(), device: vm0(), user: 1000, mtu: 1500 },
            Action::AttachPort { device: vm0() },
            Action::Enslave { device: vm0(), bridge: "vnet-web".to_owned() },
        ]
    );
    assert_eq!(undos(&plan.prepare), [delete(), Action::Detach(Target::Device(vm0()))]);
    assert_eq!(actions(&plan.finish), [Action::Up { device: vm0() }]);
    assert_eq!(plan.restoring().repairs(), ["tap vm0 of port vm had been deleted: made again"]);
}

#[test]
fn a_tap_that_is_there_is_left_alone_and_is_not_borrowed() {
    let plan = with_tap(|_, _| ()).unwrap();
    assert!(plan.is_empty() && plan.warnings.is_empty(), "{plan:?}");
    let (_, state) = settled();
    assert_eq!(plan.settled(&state), state);
}

#[test]
fn a_tap_goes_with_its_port() {
    let plan = with_tap(|desired, _| drop(desired.ports.remove("vm"))).unwrap();
    assert_eq!(plan.remove, [delete(), Action::Detach(Target::Ifindex(VNET_TAP))]);
}

#[test]
fn a_tap_is_given_to_another_user_when_nobody_has_it_open() {
    let set = |user| Action::SetTapUser { device: vm0(), user };
    let plan = with_tap(|desired, _| owned_by(desired, Some(1001))).unwrap();
    assert_eq!((actions(&plan.prepare), undos(&plan.prepare)), (vec![set(1001)], vec![set(1000)]));
    let plan = with_tap(|desired, _| owned_by(desired, None)).unwrap();
    assert_eq!(
        actions(&plan.prepare),
        [set(0)],
        "root's, for the kernel lets anybody open one that is nobody's"
    );
    let plan = with_tap(|desired, observed| {
        owned_by(desired, Some(1001));
        link(observed, VNET_TAP).kind = Kind::Tap { user: Some(1000), is_open: true };
    })
    .unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
    assert!(plan.warnings[0].contains("given to user 1001 when that ends"), "{:?}", plan.warnings);
}

#[test]
fn what_is_no_tap_of_vnets_is_in_the_way() {
    let disturbances: [fn(&mut Desired, &mut Observed); 3] = [
        |_, observed| link(observed, VNET_TAP).ownership = Ownership::Foreign,
        |_, observed| link(observed, VNET_TAP).kind = Kind::Veth,
        |desired, observed| {
            gone(observed);
            link(observed, BRIDGE).name = "vnet-old".to_owned();
            desired.networks.get_mut("web").unwrap().bridge = vm0();
        },
    ];
    for disturb in disturbances {
        let obstacles = with_tap(disturb).unwrap_err();
        assert!(
            matches!(&obstacles[..], [Obstacle::TapInTheWay { device, .. }] if device == "vm0"),
            "{obstacles:?}"
        );
        assert!(obstacles[0].help().contains("without create = true") && obstacles[0].absent().is_none());
    }
}

#[test]
fn a_tap_of_somebody_else_must_be_one() {
    let borrow = |kind: Kind| {
        plan_after(|desired, observed, _| {
            let attach = Attach::Tap { device: "tap0".to_owned(), create: false, owner: None };
            desired.ports.get_mut("b").unwrap().attach = attach;
            link(observed, TAP).kind = kind;
        })
    };
    let plan = borrow(Kind::Tap { user: None, is_open: true }).unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
    assert_eq!(plan.settled(&State::default()).devices, ["tap0".to_owned()].into(), "it is borrowed");
    for kind in [Kind::Veth, Kind::Other] {
        let obstacles = borrow(kind).unwrap_err();
        assert_eq!(obstacles[0].to_string(), "port b: tap0 is no tap, which cannot be a port");
    }
}
