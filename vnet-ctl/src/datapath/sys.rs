//! The system calls that aya does not make: batched reads and writes of maps, links by their descriptors,
//! and the datapath's clock.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::Duration,
};

use aya::{Pod, maps::MapData};
use aya_obj::generated::{
    XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info,
};
use nix::{
    errno::Errno,
    libc,
    time::{ClockId, clock_gettime},
};
use vnet_common::ticks_from_ns;

use super::names::XdpMode;
use crate::parallel::in_parts;

/// Entries asked for at once. More saves nothing: the system call is already a small part.
const BATCH: usize = 4096;

/// Copies every entry of a hash or trie. One bucket is read at a time, so an entry that stays during
/// the read is seen exactly once, whatever comes and goes around it.
pub(super) fn entries<K: Pod, V: Pod>(map: &MapData) -> io::Result<Vec<(K, V)>> {
    let mut found = Vec::new();
    let mut reader = Reader { map, size: BATCH, place: None };
    while reader.read(&mut found)? {}
    Ok(found)
}

/// A place in a map that is being read.
struct Reader<'a> {
    map: &'a MapData,
    /// Entries asked for.
    size: usize,
    /// Where the kernel goes on: a bucket number, or for tries the last key. `None` is the beginning.
    place: Option<Vec<u8>>,
}

impl Reader<'_> {
    /// Adds the next entries to `found`; false after the last.
    fn read<K: Pod, V: Pod>(&mut self, found: &mut Vec<(K, V)>) -> io::Result<bool> {
        let mut keys: Vec<MaybeUninit<K>> = Vec::with_capacity(self.size);
        let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(self.size);
        let mut next = vec![0_u8; size_of::<K>().max(size_of::<u64>())];
        let mut attr = no_attr();
        attr.batch.in_batch = self.place.as_ref().map_or(0, |place| place.as_ptr() as u64);
        attr.batch.out_batch = next.as_mut_ptr() as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = self.size as u32;
        attr.batch.map_fd = self.map.fd().as_fd().as_raw_fd() as u32;
        // SAFETY: the buffers have room for `size` keys and values of the map's own sizes (aya compared
        // them when it made the typed map), and for a place.
        let result = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
        let more = match result {
            Ok(_) => true,
            Err(Errno::ENOENT) => false,
            // One bucket holds more than the buffers: nothing was returned, ask again with room.
            Err(Errno::ENOSPC) => {
                self.size *= 2;
                return Ok(true);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        // SAFETY: the kernel wrote how many entries it returned into the same field.
        let count = (unsafe { attr.batch.count } as usize).min(self.size);
        // SAFETY: the kernel filled the first `count` of each, for which there is room.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        // SAFETY: as above; any bytes are a valid `Pod`.
        found.extend(keys.iter().zip(&values).map(|(k, v)| unsafe { (k.assume_init(), v.assume_init()) }));
        self.place = Some(next);
        Ok(more)
    }
}

/// How often a write finds no free element, one time after the other, before it is true that there is no memory.
const MOST_FAILURES: u32 = 8;

/// Entries that are worth a thread: they take a few milliseconds.
const WORTH_A_THREAD: usize = 8192;

/// Writes entries, each key once, on all CPUs: each bucket of a hash has a lock of its own. On failure, any of them
/// may be written.
pub(super) fn put_at_once<K: Pod + Sync, V: Pod + Sync>(map: &MapData, entries: &[(K, V)]) -> io::Result<()> {
    in_parts(entries, WORTH_A_THREAD, |entries| put_all(map, entries)).into_iter().collect()
}

/// Writes entries, in the order given. On failure, those before the one that failed are written.
pub(super) fn put_all<K: Pod, V: Pod>(map: &MapData, entries: &[(K, V)]) -> io::Result<()> {
    for entries in entries.chunks(BATCH) {
        let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
        let values: Vec<V> = entries.iter().map(|(_, value)| *value).collect();
        let (mut done, mut failures) = (0, 0);
        while done < keys.len() {
            let (written, result) = write(bpf_cmd::BPF_MAP_UPDATE_BATCH, map, &keys[done..], &values[done..]);
            done += written;
            failures = if written > 0 { 0 } else { failures };
            match result {
                Ok(()) => {}
                // The kernel fills each CPU's stock of free elements between two writes, and a batch may be faster,
                // or another thread.
                Err(Errno::ENOMEM) if failures < MOST_FAILURES => failures += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Deletes entries, in the order given; any may be gone already.
pub(super) fn delete_all<K: Pod>(map: &MapData, keys: &[K]) -> io::Result<()> {
    let mut done = 0;
    while done < keys.len() {
        let rest = &keys[done..keys.len().min(done + BATCH)];
        let (deleted, result) = write(bpf_cmd::BPF_MAP_DELETE_BATCH, map, rest, &[] as &[u32]);
        done += deleted;
        match result {
            Ok(()) => {}
            Err(Errno::ENOENT) => done += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes one system call that writes; how many entries it got through, and what stopped it.
fn write<K: Pod, V: Pod>(
    command: bpf_cmd,
    map: &MapData,
    keys: &[K],
    values: &[V],
) -> (usize, Result<(), Errno>) {
    let mut attr = no_attr();
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = keys.len() as u32;
    attr.batch.map_fd = map.fd().as_fd().as_raw_fd() as u32;
    // SAFETY: the kernel only reads `count` keys, and where it updates values, of the map's own sizes (aya
    // compared them when it made the typed map).
    let result = unsafe { bpf(command, &mut attr) };
    // SAFETY: the kernel writes how far it got into the same field; before it has begun it leaves it.
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => (count, Ok(())),
        Err(error) if count >= keys.len() => (0, Err(error)),
        Err(error) => (count, Err(error)),
    }
}

/// What a link to a device is attached to at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceLink {
    /// Number of the program that runs.
    pub(super) program: u32,
    /// Its device; 0 once it is detached or the device is gone.
    pub(super) ifindex: u32,
}

/// What a link to a control group is attached to at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CgroupInfo {
    /// Number of the program that runs.
    pub(super) program: u32,
    /// The control group; 0 once it is detached.
    pub(super) cgroup: u64,
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = no_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path ends with a zero and lives until the call returns.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { owned(fd) }
}

/// # Safety
/// `fd` must be a descriptor that nobody else owns.
pub(super) unsafe fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the caller vouches for it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a map or link at `path`, where nothing is.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = no_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    // SAFETY: as above.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }?;
    Ok(())
}

/// Asks the kernel about a tcx link.
pub(super) fn tcx_info(link: BorrowedFd<'_>) -> io::Result<DeviceLink> {
    let info = link_info(link)?;
    // SAFETY: any bytes are valid integers, and all were zero before.
    let ifindex = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok(DeviceLink { program: info.prog_id, ifindex })
}

/// Asks the kernel about a link to a control group.
pub(super) fn cgroup_info(link: BorrowedFd<'_>) -> io::Result<CgroupInfo> {
    let info = link_info(link)?;
    // SAFETY: as above.
    let cgroup = unsafe { info.__bindgen_anon_1.cgroup.cgroup_id };
    Ok(CgroupInfo { program: info.prog_id, cgroup })
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<bpf_link_info> {
    // SAFETY: integers and addresses; all zero is a valid value.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = no_attr();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which is that large.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// Asks the kernel about an XDP link.
pub(super) fn xdp_info(link: BorrowedFd<'_>) -> io::Result<DeviceLink> {
    let info = link_info(link)?;
    // SAFETY: as above.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(DeviceLink { program: info.prog_id, ifindex })
}

/// Attaches a program to a control group, beside what others have attached there.
pub(super) fn attach_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    attach(program, (cgroup.as_raw_fd() as u32, attach_type), 0)
}

/// Attaches an XDP program to a device of the calling thread's network namespace, where none is.
pub(super) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> io::Result<OwnedFd> {
    let flags = match mode {
        XdpMode::Native => XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => XDP_FLAGS_SKB_MODE,
    };
    attach(program, (ifindex, bpf_attach_type::BPF_XDP), flags)
}

/// Attaches a program: to what, of what type, and how.
fn attach(
    program: BorrowedFd<'_>,
    (target, attach_type): (u32, bpf_attach_type),
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = no_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = target;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    // SAFETY: the attributes hold no address.
    let fd = unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    unsafe { owned(fd) }
}

/// Puts `program` in the place of the one that a link runs.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = no_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    // SAFETY: the attributes hold no address.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }?;
    Ok(())
}

/// Detaches a link's program now, whoever else holds the link.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = no_attr();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    // SAFETY: the attributes hold no address.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr) }?;
    Ok(())
}

/// The driver of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Driver {
    /// What it is called.
    pub(super) name: String,
    /// Where the device is attached to the machine, in the driver's words.
    pub(super) bus: String,
}

/// `struct ethtool_drvinfo` (linux/ethtool.h).
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rest: [u8; 64],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// Asks for the driver of a device of the calling thread's network namespace.
pub(super) fn driver(device: &str) -> io::Result<Driver> {
    /// `ETHTOOL_GDRVINFO` (linux/ethtool.h).
    const GET_DRIVER_INFO: u32 = 3;
    /// `SIOCETHTOOL` (linux/sockios.h).
    const ETHTOOL: libc::Ioctl = 0x8946;
    let mut info = DriverInfo {
        command: GET_DRIVER_INFO,
        driver: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        bus: [0; 32],
        rest: [0; 64],
    };
    let data = std::ptr::from_mut(&mut info).cast();
    // SAFETY: integers and an address; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_data = data;
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the kernel writes what the command says, a `DriverInfo`, to the address in the request.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) })?;
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    Ok(Driver { name: text(&info.driver), bus: text(&info.bus) })
}

fn no_attr() -> bpf_attr {
    // SAFETY: the attributes are integers and addresses; all zero is a valid value.
    unsafe { std::mem::zeroed() }
}

/// # Safety
/// Every address in `attr` must be good for what `command` reads and writes there.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is a whole `bpf_attr` of the size given; the caller vouches for what it points to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    Errno::result(result)
}

/// The datapath's present, in flow ticks.
pub(super) fn now_ticks() -> io::Result<u32> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?);
    // 2^64 ns are 584 years.
    Ok(ticks_from_ns(now.as_nanos() as u64))
}
