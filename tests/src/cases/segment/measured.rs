//! Connections between a port here and one on another host whose packets' cost is measured.

use super::{WITH_D, lan, overlay};
use crate::cases::{
    frame::{ACK, Talk},
    measured::{Packet, packet},
    step::{Case, from},
    world::{
        A, Version,
        segment::{D, PEER},
    },
};

/// A asks D.
const fn talk(port: u16) -> Talk {
    Talk { ports: (port, 80), ..Talk::new(Version::V4, A, D, 80) }
}

fn forth(port: u16) -> Vec<u8> {
    talk(port).forth(ACK, Talk::CLIENT + 1, Talk::SERVER + 1, 0)
}

fn back(port: u16) -> Vec<u8> {
    talk(port).back(ACK, Talk::SERVER + 1, Talk::CLIENT + 1, 0)
}

/// To the trunk.
pub(in crate::cases) fn vlan_out(port: u16) -> (Case, Packet) {
    (lan::opened(WITH_D, Case::new("by VLAN"), &talk(port)), packet(from(&A), forth(port)))
}

/// From the trunk.
pub(in crate::cases) fn vlan_in(port: u16) -> (Case, Packet) {
    let packet = packet(WITH_D.entry(), WITH_D.arriving(&back(port)));
    (lan::opened(WITH_D, Case::new("by VLAN"), &talk(port)), packet)
}

/// Into the overlay.
pub(in crate::cases) fn overlay_out(port: u16) -> (Case, Packet) {
    (overlay::opened(Case::new("by VXLAN"), &talk(port), PEER), packet(from(&A), forth(port)))
}

/// Out of the overlay.
pub(in crate::cases) fn overlay_in(port: u16) -> (Case, Packet) {
    (overlay::opened(Case::new("by VXLAN"), &talk(port), PEER), packet(overlay::by(PEER), back(port)))
}
