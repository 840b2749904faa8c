//! A daemon in the test's own process, and requests to it as any client sends them.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use vnet_ctl::{
    api::{
        AccessOptions,
        types::{Applied, Event, EventKind, TeardownReport},
    },
    daemon::{DaemonError, RunOptions, TeardownOptions, run, teardown},
    datapath::Capacity,
};

use crate::support::Scratch;

/// A network with two ports in namespaces that vnet makes. Namespaces are known to the whole machine by
/// their name, hence `tag`.
pub(crate) fn policy(tag: &str) -> String {
    format!(
        r#"
version = 1
[networks.web]
type = "private"
subnets = ["10.10.0.0/24", "fd00:10::/64"]
[security_groups.web]
ingress = [{{ protocol = "tcp", ports = [80], from = ["any"] }}]
[ports.web-1]
network = "web"
security_groups = ["web"]
attach = {{ netns = "{tag}-1", create = true }}
[ports.web-2]
network = "web"
attach = {{ netns = "{tag}-2", create = true }}
"#
    )
}

/// The same without the second port.
pub(crate) fn smaller(policy: &str) -> String {
    policy.split("[ports.web-2]").next().unwrap().to_owned()
}

/// A daemon's files and socket, and the daemon while it runs.
pub(crate) struct World<'a> {
    scratch: &'a Scratch,
    pub(crate) tag: String,
    pub(crate) runtime: Option<Runtime>,
}

impl<'a> World<'a> {
    pub(crate) fn new(scratch: &'a Scratch) -> Self {
        let tag = scratch.bpffs().file_name().unwrap().to_str().unwrap().replace("vnet-test", "vt");
        let world = Self { scratch, tag, runtime: None };
        fs::write(world.policy_path(), policy(&world.tag)).unwrap();
        world
    }

    pub(crate) fn policy_path(&self) -> PathBuf {
        self.scratch.dir().join("policy.toml")
    }

    pub(crate) fn options(&self) -> RunOptions {
        RunOptions {
            policy: self.policy_path(),
            socket: self.socket(),
            state_dir: self.scratch.dir().join("state"),
            bpffs: self.scratch.bpffs().to_owned(),
            ephemeral: false,
            capacity: Some(Capacity::DECLARED),
            access: AccessOptions::default(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.dir().join("run/vnet.sock")
    }

    /// Runs a daemon to its end.
    pub(crate) fn run(&self, options: RunOptions) -> Result<(), DaemonError> {
        runtime().block_on(run(options))
    }

    /// Starts a daemon and waits until it answers.
    pub(crate) fn start(&mut self, options: RunOptions) -> tokio::task::JoinHandle<Result<(), DaemonError>> {
        let runtime = self.runtime.insert(runtime());
        let socket = options.socket.clone();
        let handle = runtime.spawn(run(options));
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(!handle.is_finished(), "the daemon ended: {:?}", runtime.block_on(handle));
            assert!(begun.elapsed() < Duration::from_secs(20), "the daemon is not ready");
            thread::sleep(Duration::from_millis(10));
        }
        handle
    }

    /// Ends the daemon as if by SIGKILL, as far as one can inside a process.
    pub(crate) fn kill(&mut self) {
        drop(self.runtime.take());
    }

    pub(crate) fn teardown(&self) -> TeardownReport {
        let RunOptions { socket, state_dir, bpffs, .. } = self.options();
        runtime().block_on(teardown(TeardownOptions { socket, state_dir, bpffs })).unwrap()
    }

    /// Sends a request; the status and the body.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: vnet\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let status = str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.request("GET", path, None);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) fn apply(&self, text: &str) -> (u16, Vec<u8>) {
        self.request("POST", "/v1/policy", Some(&json!({ "text": text, "origin": "policy.toml" })))
    }

    pub(crate) fn applied(&self, text: &str) -> Applied {
        let (status, body) = self.apply(text);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// What the daemon has told so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.get("/v1/events?after=0")
    }

    /// Waits until the daemon tells something with `words`.
    pub(crate) fn wait_for_event(&self, kind: EventKind, words: &str) {
        let is_told =
            || self.events().iter().any(|event| event.kind == kind && event.message.contains(words));
        wait_until(is_told, || format!("no {kind:?} event has {words:?}: {:#?}", self.events()));
    }

    /// The name of a namespace of the policy.
    pub(crate) fn netns(&self, number: u32) -> String {
        format!("{}-{number}", self.tag)
    }

    pub(crate) fn netns_exists(&self, number: u32) -> bool {
        Path::new("/run/netns").join(format!("{}-{number}", self.tag)).exists()
    }

    /// That nothing of vnet is left: no link, pin, namespace, file or folder.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(links(), ["lo"], "links");
        assert_eq!(fs::read_dir(self.scratch.bpffs()).unwrap().count(), 0, "pins");
        assert!(!self.netns_exists(1) && !self.netns_exists(2), "namespaces");
        let left: Vec<_> =
            fs::read_dir(self.scratch.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["policy.toml"], "files");
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.kill();
        // Names of namespaces are the whole machine's, whether the test tore its world down or not.
        for number in [1, 2] {
            let name = format!("{}-{number}", self.tag);
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Waits until something holds, a few seconds at most.
pub(crate) fn wait_until(holds: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(8), "{}", otherwise());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Its threads are in the calling thread's network namespace.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The names of the links of the calling thread's network namespace.
pub(crate) fn links() -> Vec<String> {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split([':', '@']).nth(1).unwrap().trim().to_owned()).collect()
}
