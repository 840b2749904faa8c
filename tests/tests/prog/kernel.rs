//! The kernel as a runner of cases.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aya::maps::{Array, HashMap, MapData};
use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use tempfile::TempDir;
use vnet_common::{
    DropReason, ExpireAnswer, ExpireHeader, ExpireQuestion, Flow, FlowKey, Genuine, Ip, Pressure, V4, V6,
    limits, mark, ticks_from_ns, ticks_from_secs,
};
use vnet_ctl::{
    datapath::{
        Capacity, Datapath, WantedEarly,
        names::{self, Pins, UPLINK_XDP},
    },
    policy,
};
use vnet_tests::cases::{
    Entry, Hook,
    frame::without_entropy,
    model::{NONSENSE, all_but_one, all_but_one_of_source, filler},
    run::{Mark, Ran, Redirect, Runner, Seen, commit},
    view::{self, Flows},
    world::{Device, Devices, Policy, Tables},
};

use crate::{
    maps::{Maps, Tracked, remove},
    place,
    programs::{programs_of, tc_programs, unpinned, xdp_program},
};

/// What XDP programs answer (`linux/bpf.h`).
pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

/// tc actions (`linux/pkt_cls.h`).
pub(crate) const PASS: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// Offsets in `__sk_buff` (`linux/bpf.h`), and its size with room for later kernels.
const MARK: usize = 8;
const PRIORITY: usize = 32;
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;
const CONTEXT_LEN: usize = 256;
/// More than the cases' frames.
const FRAME_LEN: usize = 4096;

/// The loaded programs in a world of their own.
pub(crate) struct Kernel {
    programs: BTreeMap<&'static str, SchedClassifier>,
    pub(crate) xdp: Xdp,
    maps: Maps,
    /// Maps without a pin.
    pressure: Array<MapData, u32>,
    genuine: HashMap<MapData, [u32; 4], Genuine>,
    have_most: HashMap<MapData, u32, u32>,
    devices: Devices,
    /// The generation before those of this case.
    before: u32,
    // Keep the programs and the folder under the mount.
    _datapath: Datapath,
    _bpffs: TempDir,
}

/// What a program did.
pub(crate) struct Run {
    /// The tc action.
    pub(crate) action: i32,
    /// The packet's mark afterwards.
    pub(crate) mark: u32,
    /// Its priority afterwards.
    pub(crate) priority: u32,
    /// The packet afterwards.
    pub(crate) frame: Vec<u8>,
}

/// A veth has no queue for the program of uplinks to run on unless that is attached.
fn attach_xdp(datapath: &mut Datapath, uplink: u32) {
    let wanted =
        WantedEarly { device: "u".to_owned(), xdp: policy::Xdp::Native, is_trunk: false, is_veth: false };
    datapath.settle_earlies(&[(uplink, wanted)].into()).expect("settle the XDP programs");
    let attached: Vec<_> = datapath.earlies().map(|early| (early.mode, &early.reason)).collect();
    assert_eq!(attached, [(Some(names::XdpMode::Native), &None)]);
}

impl Kernel {
    /// Loads the datapath the way the controller does. The calling thread leaves the host.
    pub(crate) fn load() -> Self {
        let bpffs = tempfile::tempdir().expect("a folder");
        place::leave_the_host(bpffs.path());
        let devices = place::create_devices();
        let pins = Pins::new(bpffs.path());
        let mut datapath = Datapath::open(&pins, Capacity::DECLARED).expect("open the datapath");
        datapath.load(&names::Hook::ALL.into()).expect("load the programs");
        attach_xdp(&mut datapath, devices.index(Device::U));
        let maps = Maps::open(&pins);
        let infos = programs_of(maps.ids());
        let (programs, xdp) = (tc_programs(&infos), xdp_program(&infos));
        let (pressure, genuine) = (unpinned(&programs, "PRESSURE"), unpinned(&programs, "GENUINE"));
        let have_most = unpinned(&programs, "HAVE_MOST");
        let mut kernel = Self {
            programs,
            xdp,
            maps,
            pressure,
            genuine,
            have_most,
            devices,
            before: 0,
            _datapath: datapath,
            _bpffs: bpffs,
        };
        kernel.reset();
        kernel
    }

    /// How many instructions the verifier walked for each program.
    pub(crate) fn verified_instructions(&self) -> BTreeMap<&'static str, u32> {
        let count = |info: Result<ProgramInfo, ProgramError>| {
            info.expect("program info").verified_instruction_count().expect("Linux 5.16")
        };
        let tc = self.programs.iter().map(|(name, program)| (*name, count(program.info())));
        tc.chain([(UPLINK_XDP, count(self.xdp.info()))]).collect()
    }

    /// The program at a hook.
    pub(crate) fn program(&self, entry: &Entry) -> &SchedClassifier {
        &self.programs[program(entry)]
    }

    /// The `__sk_buff` of a packet that enters with this mark.
    pub(crate) fn context(&self, entry: &Entry, mark: u32) -> [u8; CONTEXT_LEN] {
        context(self.devices.index(entry.device), entry, mark)
    }

    /// The generation in force.
    pub(crate) fn generation(&self) -> u32 {
        self.maps.generation()
    }

    /// Removes the IPv4 flows' entries whose keys are `wanted`; how many they were.
    pub(crate) fn remove_flows(&mut self, wanted: impl Fn(&FlowKey<V4>) -> bool) -> usize {
        remove(V4::table(&mut self.maps), wanted)
    }

    /// Runs a hook's program over a frame with this mark.
    pub(crate) fn run_program(&self, entry: &Entry, frame: &[u8], mark: u32) -> Run {
        let context = self.context(entry, mark);
        let (mut frame_out, mut context_out) = (vec![0; FRAME_LEN], [0; CONTEXT_LEN]);
        let result = self.program(entry).test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut frame_out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::new()
        });
        let result = result.unwrap_or_else(|error| panic!("{entry:?} over {} bytes: {error:?}", frame.len()));
        frame_out.truncate(result.data_size_out as usize);
        let word = |at| context_out[at..at + 4].try_into().map(u32::from_ne_bytes).expect("four bytes");
        let (mark, priority) = (word(MARK), word(PRIORITY));
        Run { action: result.return_value as i32, mark, priority, frame: frame_out }
    }

    /// The `struct xdp_md` of a frame that arrives at the uplink.
    pub(crate) fn xdp_context(&self, frame: &[u8]) -> Vec<u8> {
        let end = frame.len() as u32;
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        [0, end, 0, self.devices.index(Device::U), 0, 0].map(u32::to_ne_bytes).concat()
    }

    /// Runs the XDP program of the uplink over a frame: what it answers, why the frame was dropped if it was, and the frame
    /// afterwards.
    pub(crate) fn run_xdp(&self, frame: &[u8]) -> (u32, Option<DropReason>, Vec<u8>) {
        let before = self.maps.drops();
        let context = self.xdp_context(frame);
        let mut out = vec![0; FRAME_LEN];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.xdp.test_run(options).expect("run the XDP program");
        out.truncate(result.data_size_out as usize);
        let reasons: Vec<_> = counted(&before, &self.maps.drops());
        assert!(matches!(reasons[..], [] | [(_, 1)]), "counted {reasons:?}");
        let reason = reasons.first().map(|(number, _)| DropReason::try_from(*number).expect("a reason"));
        (result.return_value, reason, out)
    }

    /// Puts generation after generation in force, with one of the packets after each, while the other one comes
    /// again and again on another CPU; what was dropped, by the number of its reason.
    pub(crate) fn drops_under_commits(
        &mut self,
        packets: [(Entry, &[u8]); 2],
        commits: u32,
    ) -> BTreeMap<u32, u64> {
        let before = self.maps.drops();
        let (stop, programs, devices) = (&AtomicBool::new(false), &self.programs, &self.devices);
        let [one, other] = packets.map(|(entry, frame)| {
            let context = context(devices.index(entry.device), &entry, 0);
            move || {
                let options =
                    TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), ..TestRunOptions::new() };
                programs[program(&entry)].test_run(options).expect("run a program");
            }
        });
        thread::scope(|scope| {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    other();
                }
            });
            for _ in 0..commits {
                self.maps.set_generation(self.maps.generation() + 1);
                one();
            }
            stop.store(true, Ordering::Relaxed);
        });
        counted(&before, &self.maps.drops()).into_iter().collect()
    }

    /// Runs `expire` over a question; what it returns, and what it has written.
    pub(crate) fn run_expire(&self, question: &[u8]) -> (i32, Vec<u8>) {
        let mut out = vec![0; question.len()];
        let options =
            TestRunOptions { data_in: Some(question), data_out: Some(&mut out), ..TestRunOptions::new() };
        let returned = self.programs["expire"].test_run(options).expect("run expire").return_value as i32;
        (returned, out)
    }

    /// Asks `expire` to mark each entry that was last seen when it says; the answers.
    pub(crate) fn expire_entries<A: Tracked>(&self, asked: &[(FlowKey<A>, u32)]) -> Vec<i32> {
        let mut question = vec![0; ExpireHeader::OFFSET];
        question.extend_from_slice(&A::NUMBER.to_ne_bytes());
        question.extend_from_slice(&(asked.len() as u32).to_ne_bytes());
        for (key, last_seen) in asked {
            question.extend_from_slice(&last_seen.to_ne_bytes());
            question.extend_from_slice(&[0xff; 4]);
            question.extend_from_slice(&A::key_bytes(key));
        }
        let (returned, out) = self.run_expire(&question);
        assert_ne!(returned, ExpireAnswer::Malformed as i32);
        let answer = |number| {
            let at = ExpireQuestion::<A>::offset(number) + ExpireQuestion::<A>::ANSWER;
            i32::from_ne_bytes(out[at..at + 4].try_into().expect("four bytes"))
        };
        (0..asked.len()).map(answer).collect()
    }

    /// The keys of a version's entries, and when each was last seen.
    pub(crate) fn entries<A: Tracked>(&self) -> Vec<(FlowKey<A>, u32)>
    where
        FlowKey<A>: aya::Pod,
    {
        let entries = A::table_ref(&self.maps).iter().map(|entry| entry.expect("an entry"));
        entries.map(|(key, flow)| (key, flow.last_seen.get())).collect()
    }

    fn change<A: Tracked>(&mut self, change: impl Fn(&mut Flow<A>))
    where
        FlowKey<A>: aya::Pod,
    {
        let table = A::table(&mut self.maps);
        let entries: Vec<_> = table.iter().map(|entry| entry.expect("an entry")).collect();
        for (key, image) in entries {
            let mut flow: Flow<A> = (*image).clone();
            change(&mut flow);
            table.insert(key, A::Image::from(flow), 0).expect("change an entry");
        }
    }

    fn collect<A: Tracked>(&self, flows: &mut Flows)
    where
        FlowKey<A>: aya::Pod,
    {
        for entry in A::table_ref(&self.maps).iter() {
            let (key, image) = entry.expect("an entry");
            view::add(flows, &self.devices, now(), &key, &*image);
        }
    }
}

/// The clock that the programs read.
fn now() -> u32 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("the clock");
    ticks_from_ns(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// The `__sk_buff` of a packet that arrives at `device`.
fn context(device: u32, entry: &Entry, mark: u32) -> [u8; CONTEXT_LEN] {
    let mut context = [0; CONTEXT_LEN];
    let forwarded_from = if entry.forwarded { device } else { 0 };
    let (segments, segment) = (u32::from(entry.segment_payload != 0), u32::from(entry.segment_payload));
    for (at, value) in [
        (MARK, mark),
        (PRIORITY, entry.priority.into()),
        (IFINDEX, device),
        (INGRESS_IFINDEX, forwarded_from),
        (GSO_SEGS, segments),
        (GSO_SIZE, segment),
    ] {
        context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

/// The program at a hook.
fn program(entry: &Entry) -> &'static str {
    match entry.hook {
        Hook::FromPort => "from_port",
        Hook::ToPort => "to_port",
        Hook::FromHost => "from_host",
        Hook::ToHost => "to_host",
        Hook::FromUplink => "from_uplink",
        Hook::FromSegment => "from_segment",
        Hook::ToSegment => "to_segment",
        Hook::FromUnderlay => "from_underlay",
    }
}

/// The one counter that differs.
fn counted<K: Ord + Copy>(before: &BTreeMap<K, u64>, after: &BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let more = |(key, count): (&K, &u64)| (*key, count - before.get(key).unwrap_or(&0));
    after.iter().map(more).filter(|(_, count)| *count > 0).collect()
}

impl Runner for Kernel {
    fn devices(&self) -> &Devices {
        &self.devices
    }

    fn reset(&mut self) {
        self.remove_flows(|_| true);
        remove(V6::table(&mut self.maps), |_| true);
        self.maps.forget_errors(&self.devices);
        self.pressure.set(0, 0, 0).expect("PRESSURE");
        remove(&mut self.genuine, |_| true);
        remove(&mut self.have_most, |_| true);
        // Nothing that was remembered of an earlier case holds under a later generation.
        self.before = self.generation().next_multiple_of(2);
        self.maps.set_generation(self.before);
        commit(self, Policy::Usual);
    }

    fn commit(&mut self, tables: &Tables) {
        self.maps.commit(self.generation() + 1, tables);
    }

    /// # Panics
    /// When the counters do not tell the same as the action.
    fn run(&mut self, entry: &Entry, frame: &[u8]) -> Ran {
        let before = (self.maps.drops(), self.maps.port_drops());
        let generation = self.maps.generation();
        let run = self.run_program(entry, frame, entry.mark(generation));
        let total = counted(&before.0, &self.maps.drops());
        let by_device = counted(&before.1, &self.maps.port_drops());
        let device = self.devices.index(entry.device);
        let redirect = Redirect { mark: Mark::of(run.mark, generation) };
        let seen = match (run.action, total.as_slice()) {
            (SHOT, [(number, 1)]) => {
                assert_eq!(by_device, [((device, *number), 1)], "the drops of the device");
                Seen::Drop(DropReason::try_from(*number).expect("a reason"))
            }
            (SHOT, []) if by_device.is_empty() => Seen::Taken { shows: false },
            (PASS, []) if by_device.is_empty() && entry.hook == Hook::FromUnderlay && run.mark != 0 => {
                assert_eq!(run.mark, mark::OVERLAY, "the mark of what may be an overlay's");
                Seen::Marked
            }
            (PASS, []) if by_device.is_empty() => {
                let enters = matches!(entry.hook, Hook::FromPort | Hook::FromHost);
                let expected = if enters { mark::flooded(generation) } else { 0 };
                assert_eq!(run.mark, expected, "the mark of what passes");
                Seen::Pass
            }
            (REDIRECT, []) if by_device.is_empty() => Seen::Redirect(redirect),
            (REDIRECT, [(number, 1)]) => {
                assert_eq!(by_device, [((device, *number), 1)], "the drops of the device");
                Seen::TellRedirect(DropReason::try_from(*number).expect("a reason"), redirect)
            }
            (action, _) => panic!("action {action}, counted {total:?} in total, {by_device:?} by device"),
        };
        Ran { seen, frame: without_entropy(&run.frame), priority: run.priority as u16, hidden: None }
    }

    /// The clock is the kernel's own, so what has been seen becomes older instead.
    fn advance(&mut self, secs: u32) {
        let ticks = ticks_from_secs(secs);
        self.change::<V4>(|flow| flow.last_seen.set(flow.last_seen.get() - ticks));
        self.change::<V6>(|flow| flow.last_seen.set(flow.last_seen.get() - ticks));
    }

    fn tick(&mut self) {
        let before = now();
        while now() == before {
            let next = (u64::from(before) + 1) << 30;
            let next = Duration::from_nanos(next).into();
            // The coarse clock is behind by less than one of the kernel's own ticks.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &next);
        }
    }

    fn spend(&mut self, device: Device) {
        self.maps.set_budget(self.devices.index(device), all_but_one(now()));
    }

    fn spend_of(&mut self, addr: Ip) {
        let addr = addr.words();
        self.genuine.insert(addr, all_but_one_of_source(now()), 0).expect("GENUINE");
    }

    fn press(&mut self, pressure: Pressure) {
        self.pressure.set(0, pressure as u32, 0).expect("PRESSURE");
    }

    fn crowd(&mut self, device: Device) {
        self.have_most.insert(self.devices.index(device), 1, 0).expect("HAVE_MOST");
    }

    fn fill(&mut self, free: usize) {
        let taken = self.entries::<V6>().len();
        let table = V6::table(&mut self.maps);
        for number in 0..limits::FLOWS6 as usize - free - taken {
            let empty = <V6 as Tracked>::Image::from(Flow::default());
            table.insert(filler(number), empty, 0).expect("room for a filler");
        }
    }

    fn date(&mut self, tick: u32) {
        self.change::<V4>(|flow| flow.last_seen.set(tick));
        self.change::<V6>(|flow| flow.last_seen.set(tick));
    }

    fn corrupt(&mut self) {
        self.change::<V4>(|flow| flow.delivery.set(NONSENSE));
        self.change::<V6>(|flow| flow.delivery.set(NONSENSE));
    }

    fn flows(&self) -> Flows {
        let mut flows = Flows::new();
        self.collect::<V4>(&mut flows);
        self.collect::<V6>(&mut flows);
        for flow in flows.values_mut() {
            flow.generation -= self.before;
        }
        flows
    }
}
