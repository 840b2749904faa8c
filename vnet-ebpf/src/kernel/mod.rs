//! Everything that touches the kernel.

mod maps;

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};


#[classifier]
pub fn from_port(ctx: TcContext) -> i32 {
    let n = maps::CONTROL.get(0).map_or(0, |c| c.generation);
    let _ = (maps::PORTS.get_ptr(vnet_common::PortKey { ifindex: n, side: 0 }), ctx.len());
    TC_ACT_SHOT
}
#[classifier]
pub fn to_port(_ctx: TcContext) -> i32 { TC_ACT_SHOT }
#[classifier]
pub fn from_host(_ctx: TcContext) -> i32 { TC_ACT_SHOT }
#[classifier]
pub fn expire(_ctx: TcContext) -> i32 {
    let Some(flow) = maps::CONTROL.get_ptr_mut(0) else { return 2 };
    // probe whether a compare-and-exchange compiles
    
    let a = 3;
    let (v, _) = unsafe { core::intrinsics::atomic_cxchg::<u32, {core::intrinsics::AtomicOrdering::SeqCst}, {core::intrinsics::AtomicOrdering::SeqCst}>(flow.cast(), a, 7) };
    v as i32
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can reach this.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
