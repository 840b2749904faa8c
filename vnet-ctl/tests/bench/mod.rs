//! What the tests of the command line share: running the program, policies, and a stand-in daemon.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query},
    http::StatusCode,
    response::IntoResponse as _,
    routing,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two networks, three ports, and groups with comments that must survive.
pub const POLICY: &str = r#"# the test policy
version = 1

[networks.front]
type = "nat"
subnets = ["10.10.0.0/24", "fd00:10::/64"]

[networks.back]
type = "private"
subnets = ["10.20.0.0/24"]

[security_groups.web]
description = "public web tier"   # a comment at the end of a line
ingress = [
  # a comment of its own
  { protocol = "tcp", ports = [443], from = ["any"], description = "https" },
]

[security_groups.db]
ingress = [{ protocol = "tcp", ports = [5432], from = ["sg:web"] }]
egress = []

[ports.web-1]
network = "front"
addresses = ["10.10.0.10", "fd00:10::a"]
security_groups = ["web"]
attach = { netns = "web-1", create = true }

[ports.client]
network = "front"
addresses = ["10.10.0.20"]
attach = { netns = "client", create = true }

[ports.db-1]
network = "back"
addresses = ["10.20.0.10"]
security_groups = ["db"]
attach = { netns = "db-1", create = true }
"#;

/// A folder with a policy file, and the address of a daemon that may not be there.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    /// With [`POLICY`].
    pub fn new() -> Self {
        Self::with(POLICY)
    }

    /// With this policy file.
    pub fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("policy.toml"), text).expect("written");
        Self { folder }
    }

    /// The folder.
    pub fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The policy file.
    pub fn policy(&self) -> PathBuf {
        self.path().join("policy.toml")
    }

    /// What stands in it.
    pub fn text(&self) -> String {
        fs::read_to_string(self.policy()).expect("the policy file")
    }

    /// The names in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("the folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The program, not yet started, with the socket of this bench.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vnet-ctl"));
        command.args(args).env("VNET_SOCKET", self.path().join("vnet.sock"));
        command.env("VNET_STATE_DIR", self.path().join("state"));
        command
            .env_remove("NO_COLOR")
            .env("RUST_BACKTRACE", "0")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().expect("the program runs"))
    }

    /// The same, with `input` on stdin.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("written");
        Ended::from(child.wait_with_output().expect("the program ends"))
    }

    /// Starts a stand-in daemon at the bench's socket.
    pub fn daemon(&self, answer: Answer) -> Daemon {
        Daemon::start(self, answer)
    }
}

/// How the program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Ended {
    /// Checks the exit code, and shows everything when it is another.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "{self:#?}");
        self
    }

    /// What stderr holds, as JSON.
    #[track_caller]
    pub fn error_json(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// What stdout holds, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// What the stand-in daemon says to a policy.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Applied.
    Yes,
    /// Applied, after a time in which a person wants to know what goes on.
    Slowly,
    /// Refused with a reason.
    No,
    /// The connection ends without an answer.
    Hangup,
}

/// Stands in for the daemon: speaks its API and touches nothing. The daemon itself needs root.
pub struct Daemon {
    texts: Arc<Mutex<Vec<String>>>,
    ports: RuntimePorts,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    fn start(bench: &Bench, answer: Answer) -> Self {
        let texts = Arc::new(Mutex::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(bench.path().join("vnet.sock")).expect("a socket")
        };
        let ports = RuntimePorts::default();
        let app = router(bench.policy(), Arc::clone(&texts), answer).merge(runtime_router(ports.clone()));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { texts, ports, _runtime: runtime }
    }

    /// The ports that it was asked for, by name, as they were asked for.
    pub fn runtime_ports(&self) -> BTreeMap<String, Value> {
        self.ports.lock().expect("no panic").clone()
    }

    /// The policies that it was given.
    pub fn texts(&self) -> Vec<String> {
        self.texts.lock().expect("no panic").clone()
    }
}

fn router(policy: PathBuf, texts: Arc<Mutex<Vec<String>>>, answer: Answer) -> Router {
    let status = json!({
        "version": "0.1.0", "abi": 1, "pid": 1, "policy_path": &policy, "state_dir": "/s", "generation": 1,
        "networks": 2, "ports": 3, "rules": 4, "flows": {"v4": 1, "v6": 0}, "uptime_secs": 61,
        "ephemeral": false, "from_the_future": true
    });
    let apply = move |Json(body): Json<Value>| async move {
        // Long enough for two commands to overlap.
        let duration = if matches!(answer, Answer::Slowly) { 1500 } else { 20 };
        tokio::time::sleep(Duration::from_millis(duration)).await;
        let mut texts = texts.lock().expect("no panic");
        texts.push(body["text"].as_str().expect("a text").to_owned());
        match answer {
            Answer::Yes | Answer::Slowly => {
                Json(json!({"generation": texts.len() + 1, "changes": ["1 rule added"], "warnings": []}))
                    .into_response()
            }
            Answer::No => {
                let error = json!({"error": "the kernel said no", "help": "try another kernel"});
                (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()
            }
            // Unwinds the connection's task, and so closes the socket.
            Answer::Hangup => std::panic::resume_unwind(Box::new("hang up")),
        }
    };
    let in_force = || async move {
        let text = fs::read_to_string(&policy).expect("the policy file");
        Json(json!({"text": text, "origin": policy, "generation": 1, "effective": null}))
    };
    let progress = json!({"stage": "preparing devices", "done": 300, "total": 700});
    let diff = json!({
        "different": true, "text_differs": true, "changes": ["network back: created"],
        "devices": ["create bridge vnet-back of network back"], "warnings": []
    });
    let forwards = json!([{
        "name": "tcp/0.0.0.0:8080", "listen": "0.0.0.0:8080", "protocol": "tcp", "affinity": "flow",
        "backends": [{
            "to": "web-1:80", "port": "web-1", "weight": 1, "network": "front", "address": "10.10.0.10"
        }]
    }]);
    let elastic_ips = json!([{
        "elastic_ip": "198.51.100.20", "port": "web-1", "network": "front", "address": "10.10.0.10",
        "uplink": "eth0", "on_change": "cut"
    }]);
    Router::new()
        .route("/v1/progress", routing::get(|| async { Json(progress) }))
        .route("/v1/status", routing::get(|| async { Json(status) }))
        .route("/v1/policy", routing::post(apply).get(in_force))
        .route("/v1/policy/diff", routing::post(|| async { Json(diff) }))
        .route("/v1/networks", routing::get(|| async { Json(json!([])) }))
        .route("/v1/forwards", routing::get(|| async { Json(forwards) }))
        .route("/v1/elastic_ips", routing::get(|| async { Json(elastic_ips) }))
        .route("/v1/drops", routing::get(|| async { Json(json!({"total": [], "ports": []})) }))
        .route("/v1/flows", routing::get(|| async { Json(json!([])) }))
}

/// What a runtime asked for.
type RuntimePorts = Arc<Mutex<BTreeMap<String, Value>>>;

/// A port as the daemon lists it.
fn port(name: &str, origin: &str, groups: &Value, state: &str) -> Value {
    json!({
        "name": name, "origin": origin, "network": "front", "device": "vp-1", "ifindex": 7,
        "mac": "02:00:00:00:00:0a", "addresses": ["10.10.0.10", "fd00:10::a"], "security_groups": groups,
        "state": state, "attach": {"netns": "web-1", "create": true, "name": "eth0"}
    })
}

/// Ports, addresses and events: `web-1` is the policy's, `gone-1` lost its workload, others come and go.
fn runtime_router(ports: RuntimePorts) -> Router {
    let listed = |ports: &RuntimePorts| {
        let mut all = vec![port("web-1", "policy", &json!(["web"]), "up")];
        all.push(port("gone-1", "policy", &json!(["default"]), "missing"));
        let ports = ports.lock().expect("no panic");
        all.extend(ports.iter().map(|(name, asked)| {
            let origin = asked["origin"].as_str().expect("an origin");
            port(name, origin, asked.get("security_groups").unwrap_or(&json!(["default"])), "up")
        }));
        all
    };
    let get = {
        let ports = ports.clone();
        move || async move { Json(listed(&ports)) }
    };
    let put = {
        let ports = ports.clone();
        move |Path(name): Path<String>, Json(asked): Json<Value>| async move {
            let mut ports = ports.lock().expect("no panic");
            let changed = ports.insert(name.clone(), asked.clone()).as_ref() != Some(&asked);
            let origin = asked["origin"].as_str().expect("an origin");
            let port = port(&name, origin, &json!(["default"]), "up");
            Json(json!({"generation": 5, "changed": changed, "port": port}))
        }
    };
    let delete = move |Path(name): Path<String>| async move {
        match ports.lock().expect("no panic").remove(&name) {
            Some(_) => {
                Json(json!({"generation": 6, "port": name, "addresses": [], "warnings": []})).into_response()
            }
            None => (StatusCode::NOT_FOUND, Json(json!({"error": "no such port"}))).into_response(),
        }
    };
    let pools = json!([{
        "network": "front", "subnet": "10.10.0.0/24", "gateway": "10.10.0.1", "size": 253, "used": 1, "free": 252,
        "leases": [{"address": "10.10.0.10", "port": "web-1", "origin": "policy", "state": "live"}]
    }]);
    let finding =
        json!([{"address": "10.10.0.10", "port": "web-1", "problem": "gone", "help": "release it"}]);
    let release = |Path(address): Path<String>| async move {
        match address.as_str() {
            "10.10.0.10" => (StatusCode::CONFLICT, Json(json!({"error": "web-1 is alive"}))).into_response(),
            "10.10.0.11" => {
                let removed = json!({"generation": 7, "port": "job", "addresses": [address], "warnings": []});
                Json(removed).into_response()
            }
            _ => (StatusCode::NOT_FOUND, Json(json!({"error": "nobody has it"}))).into_response(),
        }
    };
    Router::new()
        .route("/v1/ports", routing::get(get))
        .route("/v1/ports/{name}", routing::put(put).delete(delete))
        .route("/v1/ipam", routing::get(|| async { Json(pools) }))
        .route("/v1/ipam/check", routing::post(|| async { Json(finding) }))
        .route("/v1/ipam/{address}", routing::delete(release))
        .route("/v1/events", routing::get(events))
}

/// Two events have happened; a third one comes while somebody waits, and then no more.
async fn events(Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let after: u64 = query.get("after").map_or(0, |after| after.parse().expect("a number"));
    let waits = query.contains_key("wait");
    if waits && after > 2 {
        std::future::pending::<()>().await;
    }
    let all = [(1, "applied", "a policy"), (2, "problem", "a device is gone"), (3, "repaired", "a bridge")];
    let known = all.into_iter().filter(|(id, ..)| *id > after && (waits || *id < 3));
    Json(known.map(|(id, kind, message)| json!({"id": id, "kind": kind, "message": message})).collect())
}
