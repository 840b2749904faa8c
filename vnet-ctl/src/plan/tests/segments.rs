//! What leads to the rest of networks' segments.

use std::net::Ipv4Addr;

use super::*;

const ETH1: u32 = 3;
const VXLAN: u32 = 11;
const STATION: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);

fn eth1() -> Link {
    Link {
        ifindex: ETH1,
        name: "eth1".to_owned(),
        mac: Some(MacAddr([4; 6])),
        mtu: 1500,
        up: true,
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        ..Link::default()
    }
}

fn attach(device: &str, role: Role) -> Action {
    Action::AttachOutside { device: device.to_owned(), role }
}

fn detach(device: &str, role: Role) -> Action {
    Action::DetachOutside(Target::Device(device.to_owned()), role)
}

fn accept(frames: Reception) -> Action {
    Action::Accept { device: "eth1".to_owned(), frames }
}

fn decline(frames: Reception) -> Action {
    Action::Decline { device: "eth1".to_owned(), frames }
}

/// The other hosts.
const PEERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))];

fn overlay(uplink: Uplink) -> Segment {
    Segment::Overlay { uplink, peers: PEERS.into() }
}

fn web(desired: &mut Desired) -> &mut Network {
    desired.networks.get_mut("web").unwrap()
}

fn lan(desired: &mut Desired, trunk: &str, shared: bool) {
    web(desired).segment = Some(Segment::Lan { trunk: trunk.to_owned(), shared });
    web(desired).stations = [STATION].into();
}

fn obstacle(obstacles: Vec<Obstacle>) -> Obstacle {
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    assert!(!obstacles[0].help().is_empty());
    obstacles[0].clone()
}

mod lans {
    use super::*;

    /// A plan for a network that goes on beyond eth1, after `disturb`.
    fn trunked(
        shared: bool,
        disturb: impl FnOnce(&mut Desired, &mut Observed, &mut State),
    ) -> Result<Plan, Vec<Obstacle>> {
        plan_after(|desired, observed, state| {
            observed.links.insert(ETH1, eth1());
            lan(desired, "eth1", shared);
            disturb(desired, observed, state);
        })
    }

    fn settle(_: &mut Desired, observed: &mut Observed, state: &mut State) {
        observed.outside = [(ETH1, Role::Segment), (ETH1, Role::Lan)].into();
        observed.macs = [(ETH1, [STATION].into())].into();
        link(observed, ETH1).all_multicast = true;
        let all = [STATION.to_string(), "all-multicast".to_owned()];
        state.groups.insert("eth1".to_owned(), all.into());
    }

    #[test]
    fn a_trunk_is_attached_to_and_takes_what_is_for_ports_and_is_left_alone_besides() {
        let plan = trunked(false, |_, _, _| ()).unwrap();
        let (station, multicast) = (Reception::Mac(STATION), Reception::AllMulticast);
        assert_eq!(
            actions(&plan.prepare),
            [attach("eth1", Role::Segment), accept(station), accept(multicast)]
        );
        assert_eq!(
            undos(&plan.prepare),
            [detach("eth1", Role::Segment), decline(station), decline(multicast)]
        );
        assert!(plan.finish.is_empty() && plan.remove.is_empty() && plan.warnings.is_empty(), "{plan:?}");
        let known = plan.settled(&State::default()).groups;
        assert_eq!(known["eth1"], [STATION.to_string(), "all-multicast".to_owned()].into());
        assert!(filters_stations(&plan.intended(&State::default())) && !filters_stations(&State::default()));
    }

    #[test]
    fn what_the_host_sends_to_a_lan_that_it_shares_is_seen_as_well() {
        let plan = trunked(true, |_, _, _| ()).unwrap();
        let attached = actions(&plan.prepare);
        assert_eq!(attached[..2], [attach("eth1", Role::Segment), attach("eth1", Role::Lan)]);
        let plan = trunked(true, settle).unwrap();
        assert!(plan.is_empty(), "{:?}", plan.changes());
    }

    #[test]
    fn an_uplink_may_be_a_trunk_as_well() {
        let plan = trunked(false, |desired, _, _| {
            web(desired).uplink = Uplink::Device("eth1".to_owned());
        });
        let attached = actions(&plan.unwrap().prepare);
        assert_eq!(attached[..2], [attach("eth1", Role::Uplink), attach("eth1", Role::Segment)]);
    }

    #[test]
    fn nothing_of_it_is_left_when_the_network_ends_at_the_host_again() {
        let plan = trunked(true, |desired, observed, state| {
            settle(desired, observed, state);
            web(desired).segment = None;
        })
        .unwrap();
        assert!(plan.prepare.is_empty());
        assert_eq!(
            plan.remove,
            [
                detach("eth1", Role::Segment),
                detach("eth1", Role::Lan),
                decline(Reception::Mac(STATION)),
                decline(Reception::AllMulticast),
            ]
        );
        let (mut observed, mut state) = settled();
        observed.links.insert(ETH1, eth1());
        settle(&mut desired(), &mut observed, &mut state);
        assert!(plan.settled(&state).groups.is_empty());
        let remove = teardown(&observed, &state).remove;
        assert!(plan.remove.iter().all(|action| remove.contains(action)), "{remove:?}");
    }

    #[test]
    fn what_somebody_else_has_a_trunk_take_is_theirs() {
        let plan = trunked(false, |_, observed, _| {
            observed.outside = [(ETH1, Role::Segment)].into();
            observed.macs = [(ETH1, [STATION].into())].into();
            link(observed, ETH1).all_multicast = true;
        })
        .unwrap();
        assert!(plan.is_empty(), "{:?}", plan.changes());
        assert!(plan.settled(&State::default()).groups.is_empty());
    }

    #[test]
    fn what_somebody_took_away_comes_back() {
        let plan = trunked(true, |desired, observed, state| {
            settle(desired, observed, state);
            observed.macs.clear();
            link(observed, ETH1).all_multicast = false;
        });
        let repairs = plan.unwrap().restoring().repairs();
        assert_eq!(repairs, ["eth1 takes frames for 02:00:00:00:01:02 now", "eth1 takes all multicast now"]);
    }

    #[test]
    fn a_trunk_that_will_not_do_is_in_the_way() {
        let found = trunked(false, |desired, _, _| lan(desired, "eth9", false));
        let found = obstacle(found.unwrap_err());
        assert_eq!(found.to_string(), "network web: there is no device eth9");
        assert_eq!(found.absent(), Some(Absent::Segment("web")));
        for (device, what) in [
            ("vnet-web", "network web: vnet-web is one of vnet's own devices, which cannot lead to a LAN"),
            ("tap0", "network web: tap0 is the device of a port, which cannot lead to a LAN"),
        ] {
            let found = obstacle(trunked(false, |desired, _, _| lan(desired, device, false)).unwrap_err());
            assert_eq!((found.to_string(), found.absent()), (what.to_owned(), None));
        }
    }

    #[test]
    fn what_keeps_frames_from_passing_is_told() {
        let plan = trunked(false, |_, observed, _| {
            link(observed, ETH1).up = false;
            link(observed, ETH1).mtu = 1400;
        });
        let warnings = plan.unwrap().warnings;
        assert!(
            warnings[0].contains("ip link set eth1 up") && warnings[1].contains("mtu 1500"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_trunk_is_located() {
        let (mut desired, (mut observed, _)) = (desired(), settled());
        observed.links.insert(ETH1, eth1());
        lan(&mut desired, "eth1", true);
        let located = locate(&desired, &observed);
        let segment = &located.segments["web"];
        assert_eq!((segment.ifindex, segment.mac, segment.mtu), (ETH1, MacAddr([4; 6]), 1500));
        assert_eq!(segment.roles, [(ETH1, Role::Segment), (ETH1, Role::Lan)].into());
        link(&mut observed, ETH1).mtu = 9000;
        assert!(!locate(&desired, &observed).is_same_place(&located));
        observed.links.remove(&ETH1);
        assert!(locate(&desired, &observed).segments.is_empty());
    }
}

mod overlays {
    use super::*;

    fn device() -> String {
        OVERLAY_DEVICE.to_owned()
    }

    fn vxlan() -> Link {
        Link {
            ifindex: VXLAN,
            name: device(),
            ownership: Ownership::Ours(Owner::Overlay),
            kind: Kind::Vxlan { port: VXLAN_PORT, is_external: true },
            mac: Some(MacAddr([6; 6])),
            mtu: 1500,
            up: true,
            ..Link::default()
        }
    }

    /// A plan for an overlay by way of eth1, after `disturb`.
    fn overlaid(disturb: impl FnOnce(&mut Desired, &mut Observed)) -> Result<Plan, Vec<Obstacle>> {
        plan_after(|desired, observed, _| {
            observed.links.insert(ETH1, eth1());
            web(desired).segment = Some(overlay(Uplink::Device("eth1".to_owned())));
            disturb(desired, observed);
        })
    }

    fn settle(observed: &mut Observed) {
        observed.links.insert(VXLAN, vxlan());
        observed.outside = [(VXLAN, Role::Segment), (ETH1, Role::Underlay)].into();
    }

    #[test]
    fn one_device_is_made_for_all_overlays_and_is_closed_until_it_is_attached_to() {
        let plan = overlaid(|desired, _| {
            let mut second = web(desired).clone();
            (second.bridge, second.mtu) = ("vnet-db".to_owned(), 8900);
            desired.networks.insert("db".to_owned(), second);
        })
        .unwrap();
        let steps: Vec<_> = actions(&plan.prepare).into_iter().skip(2).collect();
        assert_eq!(
            steps,
            [
                Action::CreateOverlay { device: device(), mtu: 8900 },
                attach(OVERLAY_DEVICE, Role::Segment),
                attach("eth1", Role::Underlay),
            ]
        );
        let delete = Action::DeleteLink { device: device(), owner: Some(Owner::Overlay) };
        assert!(undos(&plan.prepare).contains(&delete));
        assert_eq!(actions(&plan.finish).last(), Some(&Action::Up { device: device() }));
    }

    #[test]
    fn what_is_right_is_left_alone_and_what_is_wrong_repaired() {
        let plan = overlaid(|_, observed| settle(observed)).unwrap();
        assert!(plan.is_empty(), "{:?}", plan.changes());
        let plan = overlaid(|_, observed| {
            settle(observed);
            let vxlan = link(observed, VXLAN);
            (vxlan.ownership, vxlan.makes_link_local) = (Ownership::Newborn, true);
            (vxlan.mtu, vxlan.up) = (1400, false);
            observed.outside.clear();
        })
        .unwrap();
        assert_eq!(
            actions(&plan.prepare),
            [
                Action::SetOwner { device: device(), owner: Owner::Overlay },
                Action::SetQuiet { device: device() },
                Action::SetMtu { device: device(), mtu: 1500 },
                attach("eth1", Role::Underlay),
                attach(OVERLAY_DEVICE, Role::Segment),
            ]
        );
        assert_eq!(actions(&plan.finish), [Action::Up { device: device() }]);
    }

    #[test]
    fn the_device_goes_with_the_last_overlay() {
        let plan = overlaid(|desired, observed| {
            settle(observed);
            web(desired).segment = None;
        });
        assert_eq!(
            plan.unwrap().remove,
            [
                Action::DeleteLink { device: device(), owner: Some(Owner::Overlay) },
                detach("eth1", Role::Underlay),
                Action::DetachOutside(Target::Ifindex(VXLAN), Role::Segment),
            ]
        );
    }

    #[test]
    fn the_default_route_tells_what_leads_to_other_hosts_if_nothing_is_named() {
        let follow = |routes: Vec<DefaultRoute>| {
            overlaid(|desired, observed| {
                settle(observed);
                observed.outside.remove(&(ETH1, Role::Underlay));
                web(desired).segment = Some(overlay(Uplink::DefaultRoute));
                assert!(desired.follows_default_route() && desired.leads_outside());
                observed.default_routes = routes;
            })
            .unwrap()
        };
        let route = DefaultRoute { ifindex: ETH1, is_ipv4: true, metric: 0 };
        assert_eq!(actions(&follow(vec![route]).prepare), [attach("eth1", Role::Underlay)]);
        assert!(follow(vec![]).is_empty());
    }

    #[test]
    fn others_with_the_name_or_the_udp_port_are_in_the_way() {
        let found = overlaid(|_, observed| {
            observed.links.insert(VXLAN, Link { ownership: Ownership::Foreign, ..vxlan() });
        });
        assert!(matches!(obstacle(found.unwrap_err()), Obstacle::OverlayInTheWay { .. }));
        let found = overlaid(|_, observed| {
            let kind = Kind::Vxlan { port: VXLAN_PORT, is_external: false };
            let rival = Link { ifindex: 12, name: "vxlan7".to_owned(), kind, ..Link::default() };
            observed.links.insert(12, rival);
        });
        let found = obstacle(found.unwrap_err());
        assert_eq!(found.to_string(), "network web: vxlan7 already receives VXLAN at UDP port 4789");
        let plan = overlaid(|_, observed| {
            settle(observed);
            let kind = Kind::Vxlan { port: 8472, is_external: false };
            let other = Link { ifindex: 12, name: "flannel.1".to_owned(), kind, ..Link::default() };
            observed.links.insert(12, other);
        });
        assert!(plan.unwrap().is_empty());
    }

    #[test]
    fn what_leads_to_other_hosts_may_be_absent() {
        let by = |device: &'static str| {
            let found = overlaid(|desired, _| {
                let uplink = Uplink::Device(device.to_owned());
                web(desired).segment = Some(overlay(uplink));
            });
            obstacle(found.unwrap_err())
        };
        assert_eq!(by("eth9").absent(), Some(Absent::Segment("web")));
        assert!(matches!(by("tap0"), Obstacle::NotAnUplink { .. }));
    }

    #[test]
    fn an_overlay_is_located_with_its_own_mtu() {
        let (mut desired, (mut observed, _)) = (desired(), settled());
        observed.links.insert(ETH1, eth1());
        settle(&mut observed);
        web(&mut desired).mtu = 1450;
        web(&mut desired).segment = Some(overlay(Uplink::Device("eth1".to_owned())));
        let [here, elsewhere] =
            [ETH1, ETH1 + 1].map(|ifindex| Source { ifindex, address: Ipv4Addr::new(192, 0, 2, 1) });
        observed.sources = [(PEERS[0], here), (PEERS[1], elsewhere)].into();
        let located = locate(&desired, &observed);
        let segment = &located.segments["web"];
        assert_eq!((segment.ifindex, segment.mtu, segment.underlay.as_deref()), (VXLAN, 1450, Some("eth1")));
        assert_eq!(segment.roles, [(VXLAN, Role::Segment), (ETH1, Role::Underlay)].into());
        assert_eq!(
            segment.sources,
            [(PEERS[0], here)].into(),
            "who is reached by another device is left to the kernel"
        );
    }
}

mod bridged {
    use super::*;

    #[test]
    fn the_host_has_no_part_in_a_network_that_it_is_no_gateway_of() {
        let mute = || Action::Mute { device: "vnet-web".to_owned() };
        let unmute = || Action::Unmute { device: "vnet-web".to_owned() };
        let plan = plan_after(|desired, observed, _| {
            web(desired).gateways.clear();
            observed.links.remove(&BRIDGE);
            observed.attached.remove(&BRIDGE);
            link(observed, VETH).master = None;
            link(observed, TAP).master = None;
        })
        .unwrap();
        let prepare = actions(&plan.prepare);
        assert_eq!(prepare[1..3], [mute(), Action::AttachBridge { device: "vnet-web".to_owned() }]);
        assert!(!plan.finish.iter().any(|step| matches!(step.action, Action::SetAddresses { .. })));

        let plan = plan_after(|desired, observed, _| {
            web(desired).gateways.clear();
            link(observed, BRIDGE).addresses.clear();
        })
        .unwrap();
        assert_eq!((actions(&plan.prepare), undos(&plan.prepare)), (vec![mute()], vec![unmute()]));
        let plan = plan_after(|_, observed, _| link(observed, BRIDGE).is_mute = true).unwrap();
        assert_eq!((actions(&plan.prepare), undos(&plan.prepare)), (vec![unmute()], vec![mute()]));
    }
}
