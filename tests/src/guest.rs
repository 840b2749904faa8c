//! A virtual machine behind a tap: QEMU with Debian's kernel and a shell on the serial console.
//!
//! What it boots is put beside what is built by `cargo xtask setup`, or lies in the folder that `VNET_GUEST` names. It has
//! no disk; its initramfs is made here.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use crate::Namespace;

/// How long it may take to boot without the help of the processor, on a loaded machine.
const BOOT: Duration = Duration::from_secs(50);
/// How long one command may take in there.
const COMMAND: Duration = Duration::from_secs(30);
/// Begins the lines that are not the output of a command.
const MARK: &str = "@@";

/// Runs as the first process: loads what the network card takes, then obeys the console.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /sbin /usr/bin /usr/sbin /tmp
/bin/busybox --install -s
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
stty -echo
echo @@ready
while read -r line; do eval \"$line\"; done
";

/// A machine that runs; it is switched off when dropped.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    console: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Guest {
    /// Boots a machine with the MAC `mac` whose network card is the tap `tap` of `namespace`; `folder` is for its files.
    ///
    /// # Panics
    /// When it does not boot in time, with all that it told.
    #[must_use]
    pub fn boot(namespace: &Namespace, (tap, mac): (&str, &str), folder: &Path) -> Self {
        let parts = parts();
        let initramfs = folder.join("initramfs");
        fs::write(&initramfs, archive(&parts)).expect("write the initramfs");
        let mut command = namespace.command("qemu-system-x86_64");
        command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-m", "160"]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ]);
        command.arg("-kernel").arg(parts.join("vmlinuz")).arg("-initrd").arg(&initramfs);
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        // The tap has a header for offloads before each frame, and so the machine has them.
        let netdev = format!("tap,id=net,ifname={tap},script=no,downscript=no,vnet_hdr=on,vhost=off");
        command.args(["-netdev", &netdev]);
        command.args(["-device", &format!("virtio-net-pci,netdev=net,mac={mac},romfile=")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut qemu = command.spawn().expect("start QEMU");
        let console = qemu.stdin.take().expect("the console");
        let reader = BufReader::new(qemu.stdout.take().expect("the console"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut guest = Self { qemu, console, lines, seen: Vec::new() };
        guest.wait_for(&format!("{MARK}ready"), BOOT);
        guest
    }

    /// Runs a line of shell in the machine: its exit code, and what it printed.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn run(&mut self, line: &str) -> (i32, String) {
        self.seen.clear();
        // What was printed may not end with the end of a line.
        writeln!(self.console, "{{ {line}; }} 2>&1; code=$?; echo; echo {MARK}$code")
            .expect("type into the console");
        let told = self.wait_for(MARK, COMMAND);
        let code = told.trim_start_matches(MARK).parse().expect("an exit code");
        (code, self.seen.join("\n"))
    }

    /// Runs a line of shell in the machine and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn shell(&mut self, line: &str) -> String {
        let (code, text) = self.run(line);
        assert_eq!(code, 0, "`{line}` in the machine:\n{text}");
        text
    }

    /// Whether a line of shell succeeds in the machine.
    pub fn succeeds(&mut self, line: &str) -> bool {
        self.run(line).0 == 0
    }

    /// The next line that begins with `beginning`; the ones before it are remembered.
    fn wait_for(&mut self, beginning: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(beginning) => return line,
                Ok(line) => self.seen.push(line),
                Err(error) => {
                    panic!("the machine never said {beginning:?} ({error}):\n{}", self.seen.join("\n"))
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already; nothing more can be done about it here.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The folder with what it boots.
fn parts() -> PathBuf {
    let built = || {
        let suite = env::current_exe().expect("the suite's own path");
        // target/<profile>/deps/<suite>
        suite.ancestors().nth(3).expect("the suite lies in a target folder").join("guest")
    };
    let folder = env::var_os("VNET_GUEST").map_or_else(built, PathBuf::from);
    let there = folder.join("vmlinuz").exists();
    assert!(there, "no kernel in {}: `cargo xtask setup` puts it there", folder.display());
    folder
}

/// The initramfs of the machine that is made of `parts`.
fn archive(parts: &Path) -> Vec<u8> {
    /// File types and permissions (inode(7)).
    const FOLDER: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    const FILE: u32 = 0o100_644;
    let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = Vec::new();
    for folder in ["bin", "modules"] {
        entry(&mut archive, folder, FOLDER, &[]);
    }
    entry(&mut archive, "init", PROGRAM, INIT.as_bytes());
    entry(&mut archive, "bin/busybox", PROGRAM, &read(parts.join("busybox")));
    for module in fs::read_dir(parts.join("modules")).expect("the kernel's modules") {
        let module = module.expect("an entry");
        let name = module.file_name().into_string().expect("a name of ASCII");
        entry(&mut archive, &format!("modules/{name}"), FILE, &read(module.path()));
    }
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

/// Adds an entry in the format of `cpio --format newc`, the kernel's (Documentation/driver-api/early-userspace).
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    const NUL: u8 = 0;
    let number = archive.len() as u32;
    let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
    // Inode, mode, owner, group, links, time, size, device and its own twice, size of the name, checksum.
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend_from_slice(name.as_bytes());
    archive.push(NUL);
    archive.resize(archive.len().next_multiple_of(4), NUL);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), NUL);
}
