//! Small programs of the measurement's own: the driver, an empty program, and a yardstick.
//!
//! `BPF_PROG_TEST_RUN` runs a program over one packet again and again and does not put right what the
//! program changed in it: the second run of a translating program would meet a packet that is translated
//! already. So what is run is a **driver**: it writes the headers anew, with the port of the next flow, and
//! then jumps to the program (a tail call). The same driver with an empty program behind it is the floor.
//!
//! A tag that the program pushes and one that it takes off are held beside the packet, as a device hands them over:
//! the driver takes off the one before the next run, and pushes the other one. That is no part of the floor, where
//! nobody pushes or takes off any. A tunnel is told to the packet as to one that leaves by it, which looks the same
//! as one that came out of it the other way round.

use std::fmt::Write as _;

use aya::{
    Ebpf,
    maps::{HashMap, ProgramArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp},
};
use aya_obj::programs::XdpAttachType;
use vnet_ebpf::packet::Tunnel;

use crate::{
    assembled::{PROGRAM, TABLE, Table, load, load_table},
    kernel::XDP_PASS,
};

/// The section of a tc program.
const TC: &str = "classifier";

/// `TC_ACT_UNSPEC`: what the empty program answers.
const PASS: i32 = -1;
/// What the driver answers if it did not reach the program.
const BROKEN: i32 = -77;
/// Offsets in `__sk_buff` (`linux/bpf.h`). The priority counts packets: vnet neither reads nor writes it.
const MARK: usize = 8;
const VLAN_PRESENT: usize = 20;
const PRIORITY: usize = 32;
const DATA: usize = 76;
const DATA_END: usize = 80;
/// `BPF_FUNC_map_lookup_elem` and so on.
const LOOKUP: u32 = 1;
const TAIL_CALL: u32 = 12;
const VLAN_PUSH: u32 = 18;
const VLAN_POP: u32 = 19;
const SET_TUNNEL_KEY: u32 = 21;
/// Bytes of `struct bpf_tunnel_key`; offsets of the identifier and of the own IPv4 address in it.
const KEY_LEN: i32 = 44;
const KEY_ID: i32 = 0;
const KEY_LOCAL: i32 = 28;
/// IEEE 802.1Q, as helpers take it.
const CUSTOMER_TAG: u16 = 0x8100_u16.to_be();

/// The packets that a driver sends.
#[derive(Clone, Debug)]
pub(crate) struct Packets<'a> {
    /// The frame; empty for whatever comes.
    pub(crate) frame: &'a [u8],
    /// What is beside it.
    pub(crate) beside: Beside,
    /// Its mark.
    pub(crate) mark: u32,
    /// The offset of a port that is the first one's plus a number, which counts up to this.
    pub(crate) vary: Option<(usize, u32)>,
}

/// What a packet has beside its frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside {
    /// A tag.
    pub(crate) tag: Option<u16>,
    /// The tunnel that it came out of; IPv4.
    pub(crate) tunnel: Option<Tunnel>,
}

/// A driver, and the program behind it; before there is a socket buffer the program alone.
pub(crate) struct Driver {
    // Holds the tables that the program uses.
    _held: Option<(Ebpf, ProgramArray<aya::maps::MapData>)>,
    program: Program,
}

/// What a test run runs.
enum Program {
    Tc(SchedClassifier),
    Xdp(Xdp),
}

impl Program {
    fn test_run(&self, options: TestRunOptions<'_>) -> TestRunResult {
        let result = match self {
            Self::Tc(program) => program.test_run(options),
            Self::Xdp(program) => program.test_run(options),
        };
        result.expect("run a program")
    }
}

/// How long a run of a program took, and what the program answered last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// ns, on average.
    pub(crate) ns: f64,
    /// The tc action.
    pub(crate) action: i32,
}

impl Driver {
    /// A driver that hands `packets` to `program`.
    pub(crate) fn new(packets: &Packets<'_>, program: &SchedClassifier) -> Self {
        let mut object = load(TC, &source(packets), Table::Programs(1));
        let table = object.take_map(TABLE).expect("the table");
        let mut programs = ProgramArray::try_from(table).expect("a table of programs");
        programs.set(0, program.fd().expect("a loaded program"), 0).expect("enter the program");
        Self { program: Program::Tc(loaded(&mut object)), _held: Some((object, programs)) }
    }

    /// The program itself, which sees a frame before there is a socket buffer and does not change it.
    pub(crate) fn early(program: &Xdp) -> Self {
        let info = program.info().expect("program info");
        let program = Xdp::from_program_info(info, PROGRAM.into(), XdpAttachType::Interface);
        Self { program: Program::Xdp(program.expect("an XDP program")), _held: None }
    }

    /// A program there that does nothing.
    pub(crate) fn early_to_nothing() -> Self {
        let mut object = load("xdp", &format!("mov64 r0, {XDP_PASS}\nexit"), Table::Hash(1));
        let program = object.program_mut(PROGRAM).expect("the program");
        let program: &mut Xdp = program.try_into().expect("an XDP program");
        program.load().expect("load a program");
        Self::early(program)
    }

    /// A driver that hands `packets` to a program that does nothing; without their tags.
    pub(crate) fn to_nothing(packets: &Packets<'_>) -> Self {
        let mut object = load(TC, &format!("mov64 r0, {PASS}\nexit"), Table::Hash(1));
        let beside = Beside { tag: None, ..packets.beside };
        Self::new(&Packets { beside, ..packets.clone() }, &loaded(&mut object))
    }

    /// Runs it over `frame` with the `__sk_buff` `context`, so many times.
    ///
    /// # Panics
    /// When the kernel refuses, or the program was not reached.
    pub(crate) fn run(&self, frame: &[u8], context: &[u8], repeat: u32) -> Took {
        run(&self.program, frame, context, repeat)
    }

    /// What the program answers to one packet, and the frame afterwards.
    pub(crate) fn run_once(&self, frame: &[u8], context: &[u8]) -> (i32, Vec<u8>) {
        let mut out = vec![0; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(context),
            ..TestRunOptions::new()
        };
        let result = self.program.test_run(options);
        out.truncate(result.data_size_out as usize);
        (result.return_value.cast_signed(), out)
    }
}

fn run(program: &Program, frame: &[u8], context: &[u8], repeat: u32) -> Took {
    let options =
        TestRunOptions { data_in: Some(frame), ctx_in: Some(context), repeat, ..TestRunOptions::new() };
    let result = program.test_run(options);
    let action = result.return_value.cast_signed();
    assert_ne!(action, BROKEN, "the driver did not reach the program");
    Took { ns: result.duration.as_nanos() as f64, action }
}

fn loaded(object: &mut Ebpf) -> SchedClassifier {
    let program = object.program_mut(PROGRAM).expect("the program");
    let program: &mut SchedClassifier = program.try_into().expect("a tc program");
    program.load().expect("load a program");
    let info = program.info().expect("program info");
    SchedClassifier::from_program_info(info, PROGRAM.into()).expect("a tc program")
}

/// The driver's source.
fn source(packets: &Packets<'_>) -> String {
    let len = packets.frame.len();
    let mut text = "mov64 r6, r1\n".to_owned();
    // Before the packet is looked at: these helpers may move it.
    text += &tag(packets.beside.tag);
    text += &packets.beside.tunnel.map_or_else(String::new, tunnel);
    let _ = write!(
        text,
        "ldxw r7, [r6+{DATA}]
         ldxw r8, [r6+{DATA_END}]
         mov64 r2, r7
         add64 r2, {len}
         jle r2, r8, +2
         mov64 r0, {BROKEN}
         exit
         mov32 r1, {mark}
         stxw [r6+{MARK}], r1
         ldxw r9, [r6+{PRIORITY}]
         mov64 r1, r9
         add64 r1, 1
         stxw [r6+{PRIORITY}], r1\n",
        mark = packets.mark.cast_signed()
    );
    // Eight bytes at a time; the last ones overlap.
    for offset in (0..len.saturating_sub(8)).step_by(8).chain(len.checked_sub(8)) {
        let bytes = packets.frame[offset..offset + 8].try_into().expect("eight bytes");
        let _ = writeln!(text, "lddw r1, {}\nstxdw [r7+{offset}], r1", i64::from_ne_bytes(bytes));
    }
    if let Some((offset, count)) = packets.vary {
        let first = u16::from_be_bytes([packets.frame[offset], packets.frame[offset + 1]]);
        let _ = writeln!(text, "mod32 r9, {count}\nadd64 r9, {first}\nbe16 r9\nstxh [r7+{offset}], r9");
    }
    let table = load_table("r2");
    let _ = writeln!(text, "mov64 r1, r6\n{table}\nmov64 r3, 0\ncall {TAIL_CALL}\nmov64 r0, {BROKEN}\nexit");
    text
}

/// Leaves a packet with this tag beside it, or without any.
fn tag(tag: Option<u16>) -> String {
    let present = format!("ldxw r1, [r6+{VLAN_PRESENT}]");
    match tag {
        None => format!("{present}\njeq r1, 0, +2\nmov64 r1, r6\ncall {VLAN_POP}\n"),
        Some(control) => format!(
            "{present}\njne r1, 0, +4\nmov64 r1, r6\nmov64 r2, {CUSTOMER_TAG}\nmov64 r3, {control}\ncall {VLAN_PUSH}\n"
        ),
    }
}

/// Tells a packet that it came out of `tunnel`.
fn tunnel(tunnel: Tunnel) -> String {
    let [.., peer] = tunnel.remote.words();
    let key = -KEY_LEN - 4;
    let zeroes = (key..key + KEY_LEN).step_by(4).map(|at| format!("stw [r10{at}], 0\n"));
    format!(
        "{zeroes}stw [r10{id_at}], {id}
         stw [r10{local_at}], {local}
         mov64 r1, r6
         mov64 r2, r10
         add64 r2, {key}
         mov64 r3, {KEY_LEN}
         mov64 r4, 0
         call {SET_TUNNEL_KEY}\n",
        zeroes = zeroes.collect::<String>(),
        id_at = key + KEY_ID,
        id = tunnel.vni,
        local_at = key + KEY_LOCAL,
        local = u32::from_be(peer).cast_signed(),
    )
}

/// Work that is always the same, of the kind that programs do, arithmetic and look-ups in a hash table: how
/// fast this machine is at the moment.
pub(crate) struct Yardstick {
    _object: Ebpf,
    _table: HashMap<aya::maps::MapData, u64, u64>,
    program: Program,
}

impl Yardstick {
    /// Entries of the table.
    const ENTRIES: u32 = 1024;
    /// Look-ups in one run.
    const LOOKUPS: u32 = 32;

    /// # Panics
    /// When the kernel refuses the program.
    pub(crate) fn load() -> Self {
        // Xorshift (Marsaglia, 2003), from where the priority stands.
        let source = format!(
            "mov64 r6, {lookups}
             ldxw r7, [r1+{PRIORITY}]
             mov64 r8, r1
             mov64 r1, r7
             add64 r1, 1
             stxw [r8+{PRIORITY}], r1
             add64 r7, 88172645
             mov64 r1, r7
             lsh64 r1, 13
             xor64 r7, r1
             mov64 r1, r7
             rsh64 r1, 7
             xor64 r7, r1
             mov64 r1, r7
             lsh64 r1, 17
             xor64 r7, r1
             mov64 r1, r7
             and64 r1, {mask}
             stxdw [r10-8], r1
             mov64 r2, r10
             add64 r2, -8
             {table}
             call {LOOKUP}
             jeq r0, 0, +2
             ldxdw r1, [r0+0]
             add64 r7, r1
             sub64 r6, 1
             jne r6, 0, -22
             mov64 r0, {PASS}
             exit",
            lookups = Self::LOOKUPS,
            mask = Self::ENTRIES - 1,
            table = load_table("r1"),
        );
        let mut object = load(TC, &source, Table::Hash(Self::ENTRIES));
        let table = object.take_map(TABLE).expect("the table");
        let mut table = HashMap::try_from(table).expect("a hash table");
        for key in 0..u64::from(Self::ENTRIES) {
            table.insert(key, key, 0).expect("fill the table");
        }
        Self { program: Program::Tc(loaded(&mut object)), _object: object, _table: table }
    }

    /// How long one run takes, on average.
    pub(crate) fn run(&self, repeat: u32) -> Took {
        run(&self.program, &[0; 64], &[0; 256], repeat)
    }
}
