//! Requests that no orderly client sends: malformed, huge, slow, or from somebody without rights.
//! Each is refused, and nobody else notices.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vnet_tests::{Finished, World, process::finish, soak::size};

const POLICY: &str = r#"version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]

[ports.a]
network = "web"
addresses = ["10.10.0.10"]
attach = { netns = "@a", create = true }
"#;

/// A daemon that is well answers a question in less, on a loaded machine too.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Asserts that the daemon answers others as if nothing had happened.
#[track_caller]
fn assert_well(world: &World) {
    let begin = Instant::now();
    let _ = world.api().get("/v1/status").ok();
    assert!(begin.elapsed() < AT_ONCE, "an answer took {:?}", begin.elapsed());
}

/// What comes back to `bytes`, until the daemon closes the connection.
fn exchange(world: &World, bytes: &[u8]) -> String {
    let mut stream = world.raw_api();
    // The daemon may refuse before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_no_request_is_refused() {
    let world = World::running(POLICY);
    let generation = world.json(&["status"])["generation"].clone();
    for bytes in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"hello\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\nhost: vnet\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nhost: vnet\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/policy HTTP/1.1\r\nhost: vnet\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/policy HTTP/1.1\r\nhost: vnet\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ] {
        let answer = exchange(&world, bytes);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"),
            "{answer}"
        );
        assert_well(&world);
    }
    assert_eq!(world.json(&["status"])["generation"], generation);
}

#[test]
fn requests_that_make_no_sense_are_told_why() {
    let world = World::running(POLICY);
    let mut api = world.api();
    let good = json!({ "text": world.policy_text(), "origin": "policy.toml" });
    for (method, path, body, statuses) in [
        ("GET", "/", None, &[404][..]),
        ("GET", "/v1/nonsense", None, &[404]),
        ("GET", "/v1/../../etc/passwd", None, &[404]),
        ("GET", "/v2/status", None, &[404]),
        ("DELETE", "/v1/status", None, &[405]),
        ("PATCH", "/v1/policy", Some(good), &[405]),
        ("POST", "/v1/policy", None, &[400, 415, 422]),
        ("POST", "/v1/policy", Some(json!([])), &[400, 422]),
        ("POST", "/v1/policy", Some(json!({ "text": 7, "origin": "x" })), &[400, 422]),
        ("POST", "/v1/policy", Some(json!({ "text": "version = 1" })), &[400, 422]),
        ("PUT", "/v1/ports/a%2F..%2Fb", Some(json!({})), &[400, 404, 422]),
        ("PUT", "/v1/ports/%ff%fe", Some(json!({})), &[400, 404, 422]),
        ("GET", "/v1/events?after=x", None, &[400]),
        ("GET", "/v1/flows?filter=nonsense", None, &[400, 422]),
    ] {
        let answer = api.call(method, path, body.as_ref());
        assert!(statuses.contains(&answer.status), "{method} {path}: {answer:?}");
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        assert!(told["error"].as_str().is_some_and(|error| error.len() > 3), "{method} {path}: {answer:?}");
    }
    assert_well(&world);
}

#[test]
fn what_is_huge_is_refused_before_it_is_read() {
    let world = World::running(POLICY);
    let head = |path: &str, length: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: vnet\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let memory = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).expect("the daemon");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number of kB")
    };
    let before = memory();
    for length in [1 << 40, u64::MAX] {
        let answer = exchange(&world, head("/v1/policy", length).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // One that lies about its size by not telling it.
    let mut stream = world.raw_api();
    let chunked = "POST /v1/policy HTTP/1.1\r\nhost: vnet\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(chunked.as_bytes()).expect("send a head");
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    let taken = (0..256).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(taken < 200, "the daemon took {taken} MiB");
    let endless = [b"GET /v1/status HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 4 << 20]].concat();
    let answer = exchange(&world, &endless);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let many = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let answer = exchange(&world, many.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_well(&world);
    let grown = memory() - before;
    assert!(grown < 128 << 10, "the daemon grew by {grown} kB");
}

#[test]
fn slow_clients_keep_nobody_waiting() {
    let world = World::running(POLICY);
    let mut slow: Vec<UnixStream> = (0..100).map(|_| world.raw_api()).collect();
    let body = json!({ "text": world.policy_text(), "origin": "policy.toml" }).to_string();
    let request = format!(
        "POST /v1/policy HTTP/1.1\r\nhost: vnet\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // One byte a second, a third of them in the middle of the body; the others ask and never read.
    let head = request.len() - body.len();
    for (n, stream) in slow.iter_mut().enumerate() {
        let sent = if n % 3 == 0 { head + 10 } else { 10 };
        stream.write_all(&request.as_bytes()[..sent]).expect("begin a request");
    }
    let begin = Instant::now();
    for second in 0..size(3, 10) {
        for stream in &mut slow {
            let _ = stream.write_all(b"x");
        }
        std::thread::sleep(Duration::from_secs(1));
        assert_well(&world);
        let _ = world.api().apply(&world.policy_text()).ok();
        println!("second {second}");
    }
    // They are given up in the end.
    for stream in [0, 1].map(|n| &slow[n]) {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut answer = Vec::new();
        // An error other than the timeout's is an end as well.
        let read = (&*stream).read_to_end(&mut answer).map_err(|error| error.kind());
        assert!(!matches!(read, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "still open");
    }
    println!("given up after {:?}", begin.elapsed());
}

#[test]
fn answers_that_nobody_reads_do_no_harm() {
    let world = World::running(POLICY);
    let mut greedy: Vec<UnixStream> = (0..50).map(|_| world.raw_api()).collect();
    for stream in &mut greedy {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
        for _ in 0..200 {
            if stream.write_all(b"GET /v1/openapi.json HTTP/1.1\r\nhost: vnet\r\n\r\n").is_err() {
                break;
            }
        }
    }
    assert_well(&world);
    let _ = world.api().apply(&world.policy_text()).ok();
}

/// curl as the user nobody; prints the body and then the status.
fn curl_as_nobody(world: &World, args: &[&str]) -> Finished {
    let mut command = world.host().command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "--silent", "--show-error"]);
    command
        .args(["--max-time", "5", "--write-out", " %{http_code}", "--unix-socket"])
        .arg(world.socket())
        .args(args);
    finish(command)
}

#[test]
fn a_user_without_rights_may_do_nothing() {
    let world = World::running(POLICY);
    let status = ["http://vnet/v1/status"];
    let _ = curl_as_nobody(&world, &status).refused();
    // Even if somebody opened the socket up.
    fs::set_permissions(world.socket(), fs::Permissions::from_mode(0o666)).expect("open the socket");
    let asked = curl_as_nobody(&world, &status).ok();
    assert!(asked.stdout.ends_with(" 403"), "{asked}");
    for change in [
        ["-X", "POST", "http://vnet/v1/policy"],
        ["-X", "POST", "http://vnet/v1/shutdown"],
        ["-X", "DELETE", "http://vnet/v1/ports/a"],
    ] {
        let refused = curl_as_nobody(&world, &change).ok();
        assert!(refused.stdout.ends_with(" 403"), "{refused}");
    }
    assert_well(&world);
}

#[test]
fn a_user_who_may_read_may_change_nothing() {
    let mut world = World::prepare(POLICY);
    world.start(&["--read-group", "any"]);
    let asked = curl_as_nobody(&world, &["http://vnet/v1/ports"]).ok();
    assert!(asked.stdout.ends_with(" 200") && asked.stdout.contains("10.10.0.10"), "{asked}");
    let body = json!({ "text": "version = 1", "origin": "x" }).to_string();
    let post = ["-H", "content-type: application/json", "--data", &body, "http://vnet/v1/policy"];
    for change in [
        &post[..],
        &["-X", "POST", "http://vnet/v1/shutdown"],
        &["-X", "DELETE", "http://vnet/v1/ports/a"],
        &["-X", "DELETE", "http://vnet/v1/flows"],
    ] {
        let refused = curl_as_nobody(&world, change).ok();
        assert!(refused.stdout.ends_with(" 403"), "{refused}");
    }
    assert!(world.port("a").exists());
    assert_well(&world);
}

#[test]
fn the_api_describes_itself() {
    let world = World::running(POLICY);
    let described = world.api().get("/v1/openapi.json").ok().json();
    assert!(described["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{described}");
    for path in
        ["/v1/status", "/v1/policy", "/v1/ports", "/v1/ports/{name}", "/v1/ipam", "/v1/events", "/v1/flows"]
    {
        assert!(described["paths"][path].is_object(), "no {path}");
    }
}
