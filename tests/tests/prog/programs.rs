//! The programs of the loaded object, and maps of theirs that have no pin.

use std::{collections::BTreeMap, fmt::Debug};

use aya::{
    maps::{Map, MapData},
    programs::{ProgramInfo, SchedClassifier, Xdp, loaded_programs},
};
use aya_obj::programs::XdpAttachType;
use vnet_ctl::datapath::names::UPLINK_XDP;

/// The programs that a test run can run.
const PROGRAMS: [&str; 9] = [
    "from_port",
    "to_port",
    "from_host",
    "to_host",
    "from_uplink",
    "from_segment",
    "to_segment",
    "from_underlay",
    "expire",
];

/// The programs of the object of which some use one of the maps of these ids.
pub(crate) fn programs_of(maps: [u32; 3]) -> Vec<ProgramInfo> {
    // Programs of others may go away while they are looked through.
    let infos: Vec<_> = loaded_programs().filter_map(Result::ok).collect();
    let uses_map = |info: &&ProgramInfo| {
        info.map_ids().ok().flatten().is_some_and(|ids| maps.iter().any(|map| ids.contains(map)))
    };
    // One of them uses no map at all; what an object describes of its types is its own.
    let types = infos.iter().find(uses_map).and_then(ProgramInfo::btf_id).expect("the object's types");
    infos.into_iter().filter(|info| info.btf_id() == Some(types)).collect()
}

/// The tc programs among them, by name.
pub(crate) fn tc_programs(infos: &[ProgramInfo]) -> BTreeMap<&'static str, SchedClassifier> {
    let program = |name: &'static str| {
        let info = named(infos, name);
        (name, SchedClassifier::from_program_info(info, name.into()).expect("a tc program"))
    };
    PROGRAMS.into_iter().map(program).collect()
}

/// The XDP program among them.
pub(crate) fn xdp_program(infos: &[ProgramInfo]) -> Xdp {
    let info = named(infos, UPLINK_XDP);
    Xdp::from_program_info(info, UPLINK_XDP.into(), XdpAttachType::Interface).expect("an XDP program")
}

fn named(infos: &[ProgramInfo], name: &str) -> ProgramInfo {
    let is_named = |info: &&ProgramInfo| info.name_as_str() == Some(name);
    let id = infos.iter().find(is_named).unwrap_or_else(|| panic!("there is no {name}")).id();
    loaded_programs().filter_map(Result::ok).find(|info| info.id() == id).expect("the program")
}

/// The map of that name, which the program for the outside uses.
pub(crate) fn unpinned<M: TryFrom<Map, Error: Debug>>(
    programs: &BTreeMap<&'static str, SchedClassifier>,
    name: &str,
) -> M {
    let info = programs["from_uplink"].info().expect("program info");
    let ids = info.map_ids().expect("its maps").expect("Linux 4.15");
    let maps = ids.into_iter().map(|id| MapData::from_id(id).expect("a map"));
    let is_named = |map: &MapData| map.info().is_ok_and(|info| info.name_as_str() == Some(name));
    let map = maps.into_iter().find(is_named).unwrap_or_else(|| panic!("from_uplink has no map {name}"));
    Map::from_map_data(map).expect("a map").try_into().expect(name)
}
