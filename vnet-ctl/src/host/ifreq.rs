//! Requests about devices of the kind that is older than netlink.

use nix::{errno::Errno, libc};

/// A request about `device`, without what is asked.
pub(super) fn about(device: &str) -> nix::Result<libc::ifreq> {
    // SAFETY: integers and addresses; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    if device.len() > room {
        return Err(Errno::ENODEV);
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = byte as libc::c_char;
    }
    Ok(request)
}
