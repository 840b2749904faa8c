//! The real program as a daemon, and as the client of it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use vnet_ctl::api::types::{Event, PolicyInForce, Status};

use crate::world::{World, policy};

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon that is a process, on the files of a world.
pub(crate) struct Process<'a> {
    pub(crate) world: World<'a>,
    child: Option<Child>,
}

/// How a client ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl<'a> Process<'a> {
    pub(crate) fn start(world: World<'a>) -> Self {
        let mut process = Self { world, child: None };
        process.start_again(&[]);
        process
    }

    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        let options = self.world.options();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vnet-ctl"));
        command
            .arg("run")
            .args(flags)
            .arg("--policy")
            .arg(options.policy)
            .arg("--socket")
            .arg(options.socket);
        command.arg("--state-dir").arg(options.state_dir).arg("--bpffs").arg(options.bpffs);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("vnet is ready"), "{line:?}");
        self.child = Some(child);
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> i32 {
        self.child.take().unwrap().wait().unwrap().code().unwrap()
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Ended {
        self.ctl_with_input(args, "")
    }

    pub(crate) fn ctl_with_input(&self, args: &[&str], input: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vnet-ctl"));
        command.args(args).env("VNET_SOCKET", self.world.socket());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a client that is to end with `code`.
    #[track_caller]
    pub(crate) fn ok(&self, code: i32, args: &[&str]) -> Ended {
        let ended = self.ctl(args);
        assert_eq!(ended.code, code, "{args:?}: {ended:#?}");
        ended
    }

    /// Writes a file beside the policy file; its path.
    pub(crate) fn beside(&self, name: &str, text: &str) -> String {
        let path = self.world.policy_path().with_file_name(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.world.options().state_dir
    }

    pub(crate) fn file(&self) -> String {
        fs::read_to_string(self.world.policy_path()).unwrap_or_default()
    }

    pub(crate) fn in_force(&self) -> String {
        self.world.get::<PolicyInForce>("/v1/policy").text
    }

    pub(crate) fn status(&self) -> Status {
        self.world.get("/v1/status")
    }

    /// The messages of all events that contain `text`.
    pub(crate) fn events(&self, text: &str) -> Vec<String> {
        let events: Vec<Event> = self.world.get("/v1/events");
        events.into_iter().map(|event| event.message).filter(|message| message.contains(text)).collect()
    }

    /// That file and kernel both have `text`.
    #[track_caller]
    pub(crate) fn assert_has(&self, text: &str) {
        assert_eq!(self.file(), text, "the policy file");
        assert_eq!(self.in_force(), text, "in force");
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let report = self.world.teardown();
        assert!(thread::panicking() || report.problems.is_empty(), "{report:?}");
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Two policies: that of the world, and another.
pub(crate) fn two(world: &World<'_>) -> [String; 2] {
    let old = policy(&world.tag);
    let new = format!("# another\n{}", old.replace("ports = [80]", "ports = [81]"));
    [old, new]
}

/// Something of an answer in JSON.
pub(crate) fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap()
}
