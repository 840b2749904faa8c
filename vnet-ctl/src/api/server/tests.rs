//! The limits, on a router whose answers are quick, big, slow or absent.

use std::{
    io::ErrorKind,
    io::Read as _,
    path::{Path, PathBuf},
    time::Instant,
};

use axum::{
    Json,
    extract::{Path as Segment, rejection::JsonRejection},
    routing::{get, post},
};
use nix::libc;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::api::{AccessOptions, Refusal, Socket, body, routes, types::PolicyUpdate};

/// Long enough for a busy machine, and no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a router of its own.
struct Server {
    socket: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
    _socket: Socket,
}

fn quick() -> (Limits, body::Limits) {
    let head = Duration::from_millis(400);
    let limits = Limits { head, stall: head, ..Limits::default() };
    (limits, body::Limits { time: head, ..body::Limits::default() })
}

fn start(access: &AccessOptions, (limits, body): (Limits, body::Limits)) -> Server {
    async fn apply(update: Result<Json<PolicyUpdate>, JsonRejection>) -> Result<Json<usize>, Refusal> {
        Ok(Json(update?.0.text.len()))
    }
    let router = Router::new()
        .route("/quick", get(async || "quick").delete(async || "deleted"))
        .route("/big", get(async || "x".repeat(8 << 20)))
        .route("/slow", get(async || sleep(Duration::from_millis(600)).await))
        .route("/never", get(std::future::pending::<()>))
        .route("/names/{name}", get(async |Segment(name): Segment<String>| name))
        .route("/v1/policy", post(apply));
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = dir.path().join("vnet.sock");
    let (socket, listener) = Socket::bind(&path, access).unwrap();
    socket.publish().unwrap();
    let router = routes::guarded(router, socket.access(), body);
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(serve(listener, router, (socket.access(), limits), stopping));
    Server { socket: path, stop, task, _dir: dir, _socket: socket }
}

impl Server {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// All that comes back for `request`, until the server closes the connection.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A refused request is not read to its end.
        let _ = stream.write_all(request).await;
        read_to_end(&mut stream).await
    }

    async fn assert_well(&self) {
        let answer = self.send(b"GET /quick HTTP/1.1\r\nhost: vnet\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("quick"), "{answer}");
    }
}

async fn read_to_end(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    // A connection that is closed with something unread ends in an error, after what was sent.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server ends it");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The error's words, for an answer that is one.
fn error(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head[9..12].parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer:?}")))
}

#[tokio::test]
async fn what_is_no_good_request_gets_a_status_and_words() {
    let server = start(&AccessOptions::default(), quick());
    let json = "content-type: application/json\r\n";
    let body = |head: &str, body: &str| {
        format!(
            "POST /v1/policy HTTP/1.1\r\nhost: v\r\nconnection: close\r\n{head}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let table = [
        ("GET /nowhere HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n".to_owned(), 404, "/nowhere"),
        ("PUT /quick HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n".to_owned(), 405, "PUT"),
        ("BREW /quick HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n".to_owned(), 405, "BREW"),
        ("GET /names/%ff HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n".to_owned(), 400, "UTF-8"),
        (body("", "{}"), 415, "Content-Type: application/json"),
        (body("content-type: text/plain\r\n", "{}"), 415, "Content-Type: application/json"),
        (body(json, ""), 400, "EOF"),
        (body(json, "{\"text\":"), 400, "EOF"),
        (body(json, "nonsense"), 400, "line 1 column 2"),
        (body(json, "{}"), 422, "missing field `text`"),
        (body(json, "[1]"), 422, "expected"),
        (body(json, "{\"text\":1,\"origin\":\"p\"}"), 422, "text: invalid type"),
        (body(json, "{\"text\":\"\",\"origin\":\"p\",\"confrim\":1}"), 422, "unknown field `confrim`"),
        (body(json, "\u{0}\u{1}"), 400, "line 1"),
    ];
    for (request, status, words) in table {
        let (found, error) = error(&server.send(request.as_bytes()).await);
        assert_eq!(found, status, "{request:?} {error}");
        assert!(error["error"].as_str().unwrap().contains(words), "{request:?} {error}");
    }
    server.assert_well().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_ends_the_connection() {
    let server = start(&AccessOptions::default(), quick());
    let long = format!("GET /{} HTTP/1.1\r\nhost: v\r\n\r\n", "x".repeat(200_000));
    let wide = format!("GET /quick HTTP/1.1\r\nhost: v\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET /quick HTTP/1.1\r\nhost: v\r\n{}\r\n", "x: y\r\n".repeat(2000));
    let table: [(&[u8], &[&str]); 10] = [
        (b"\r\n\r\nGET\r\n\r\n", &["400"]),
        (b"GET /quick\r\n\r\n", &["400"]),
        (b"GET /quick HTTP/9.9\r\n\r\n", &["400"]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &["400"]),
        (&[0; 4096], &["400"]),
        (b"GET /quick HTTP/1.1\r\nhost : v\r\n\r\n", &["400"]),
        (
            b"POST /v1/policy HTTP/1.1\r\nhost: v\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            &["400"],
        ),
        (long.as_bytes(), &["414", "431"]),
        (wide.as_bytes(), &["431"]),
        (many.as_bytes(), &["431"]),
    ];
    for (request, statuses) in table {
        let answer = server.send(request).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(
            statuses.contains(&status),
            "{:?}: {answer:?}",
            String::from_utf8_lossy(&request[..20.min(request.len())])
        );
    }
    server.assert_well().await;
}

#[tokio::test]
async fn a_body_too_long_is_refused_whether_announced_or_not() {
    let server = start(&AccessOptions::default(), quick());
    let announced = b"POST /v1/policy HTTP/1.1\r\nhost: v\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n";
    let (status, words) = error(&server.send(announced).await);
    assert_eq!((status, words["error"].as_str().unwrap().contains("16777216 bytes")), (413, true), "{words}");
    let mut chunked = b"DELETE /quick HTTP/1.1\r\nhost: v\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        chunked.extend_from_slice(b"1000\r\n");
        chunked.extend_from_slice(&[b' '; 0x1000]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(error(&server.send(&chunked).await).0, 413);
    let asking = b"GET /v1/policy HTTP/1.1\r\nhost: v\r\ncontent-length: 70000\r\n\r\n";
    assert_eq!(error(&server.send(asking).await).0, 413, "who only asks may not bring a policy");
    server.assert_well().await;
}

#[tokio::test]
async fn a_large_policy_passes() {
    let server = start(&AccessOptions::default(), (Limits::default(), body::Limits::default()));
    let body = serde_json::json!({ "text": "x".repeat(12 << 20), "origin": "p" }).to_string();
    let head = format!(
        "POST /v1/policy HTTP/1.1\r\nhost: v\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = server.send(&[head.as_bytes(), body.as_bytes()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("12582912"), "{answer}");
}

#[tokio::test]
async fn silent_and_slow_clients_are_ended_while_others_are_served() {
    let server = start(&AccessOptions::default(), quick());
    let begun = Instant::now();
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /quick HTTP/1.1\r\nhost: v\r\n\r\n").await.unwrap();
    let mut halfway = server.connect().await;
    halfway.write_all(b"DELETE /quick HTTP/1.1\r\nhost: v\r\ncontent-length: 100\r\n\r\nabc").await.unwrap();
    let mut dripping = server.connect().await;
    let drip = async {
        for byte in b"GET /quick HTTP/1.1\r\nhost: v\r\nx: ".iter().chain([b'x'; 1000].iter()) {
            if dripping.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("the server took all of it");
    };
    server.assert_well().await;

    let (silent, idle, halfway, ()) =
        tokio::join!(read_to_end(&mut silent), read_to_end(&mut idle), read_to_end(&mut halfway), async {
            timeout(PATIENCE, drip).await.expect("the server ends it")
        },);

    assert_eq!(silent, "");
    assert!(idle.starts_with("HTTP/1.1 200") && idle.matches("HTTP/1.1").count() == 1, "{idle}");
    let (status, words) = error(&halfway);
    assert_eq!(status, 408, "{words}");
    assert!(begun.elapsed() >= Duration::from_millis(400), "not at once");
    server.assert_well().await;
}

#[tokio::test]
async fn who_never_reads_the_answer_loses_its_place_to_others() {
    let (limits, body) = quick();
    let server = start(&AccessOptions::default(), (Limits { connections: 4, for_root: 0, ..limits }, body));
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /big HTTP/1.1\r\nhost: v\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    let deadline = Instant::now() + PATIENCE;
    while !server
        .send(b"GET /quick HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n")
        .await
        .starts_with("HTTP/1.1 200")
    {
        assert!(Instant::now() < deadline, "they keep their places");
        sleep(Duration::from_millis(20)).await;
    }
    let mut broken_off = 0;
    for mut stream in deaf {
        let mut all = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap().unwrap();
        broken_off += usize::from(all.len() < 8 << 20);
    }
    assert!(broken_off > 0, "whoever lost its place has not got everything");
}

#[tokio::test]
async fn a_thousand_connections_leave_the_server_alive() {
    let server = start(&AccessOptions::default(), (Limits::default(), body::Limits::default()));
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..1000 {
        let mut stream = match UnixStream::connect(&server.socket).await {
            Ok(stream) => stream,
            // The backlog is full for a moment: whoever has come must be taken first.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let mut start = [0; 12];
        match timeout(Duration::from_millis(1), stream.read_exact(&mut start)).await {
            Ok(Ok(_)) => {
                assert_eq!(&start, b"HTTP/1.1 503");
                refused += 1;
            }
            Ok(Err(error)) => panic!("closed without a word: {error}"),
            Err(_) => held.push(stream),
        }
    }
    assert!(held.len() + refused > 500 && refused > 0, "{} held, {refused} refused", held.len());
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    while !server
        .send(b"GET /quick HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n")
        .await
        .starts_with("HTTP/1.1 200")
    {
        assert!(Instant::now() < deadline, "the places are not given back");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn one_user_leaves_places_for_others_and_all_leave_some_for_root() {
    let limits = Limits { connections: 10, for_root: 4, connections_per_user: 3, ..Limits::default() };
    let places = Arc::new(Places { limits, taken: Mutex::default() });
    let take = |uid, count| (0..count).map_while(|_| Place::take(&places, Some(uid))).collect::<Vec<_>>();
    let (first, second, third) = (take(1, 9), take(2, 9), take(3, 9));
    assert_eq!((first.len(), second.len(), third.len(), take(0, 9).len()), (3, 3, 0, 4));
    drop(first);
    assert_eq!((take(3, 9).len(), take(0, 99).len()), (3, 4));
    drop(second);
    assert!(places.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_answered_and_idle_connections_closed() {
    let server = start(&AccessOptions::default(), (Limits::default(), body::Limits::default()));
    let mut idle = server.connect().await;
    idle.write_all(b"GET /quick HTTP/1.1\r\nhost: v\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.unwrap();
    let mut slow = server.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: v\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;

    server.stop.send_replace(true);

    assert!(read_to_end(&mut slow).await.starts_with("HTTP/1.1 200"));
    read_to_end(&mut idle).await;
    timeout(PATIENCE, server.task).await.expect("it ends").unwrap();
    assert!(UnixStream::connect(&server.socket).await.is_err());
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_the_server_from_being_dropped() {
    let server = start(&AccessOptions::default(), quick());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: v\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(600)).await;
    server.assert_well().await;
    server.task.abort();
    assert_eq!(read_to_end(&mut stream).await, "");
}

/// What a user without rights, in the group of that number alone, gets for a request.
fn as_nobody(socket: &Path, request: &str) -> std::io::Result<String> {
    let (none, id) = (std::ptr::null::<u8>(), 65534);
    // SAFETY: no memory is passed. Unlike the functions of libc, the calls change this thread alone, which ends
    // soon; the kernel takes a connection's credentials from the thread that connects.
    let failed = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, none)
            + libc::syscall(libc::SYS_setresgid, id, id, id)
            + libc::syscall(libc::SYS_setresuid, id, id, id)
    };
    assert_eq!(failed, 0, "only root can become somebody else");
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn ask_as_nobody(server: &Server, method: &str) -> std::io::Result<String> {
    let socket = server.socket.clone();
    let request = format!("{method} /quick HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n");
    let (sender, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(as_nobody(&socket, &request)));
    answer.await.unwrap()
}

#[tokio::test]
async fn strangers_get_in_as_far_as_they_were_let() {
    if !nix::unistd::Uid::effective().is_root() {
        // Only root can become somebody else: the netns tier tries it in any case.
        return;
    }
    let nobody = nix::unistd::Group::from_gid(65534.into()).unwrap().unwrap().name;
    let closed = start(&AccessOptions::default(), quick());
    let outcome = ask_as_nobody(&closed, "GET").await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
    std::fs::set_permissions(&closed.socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let (status, words) = error(&ask_as_nobody(&closed, "GET").await.unwrap());
    assert_eq!((status, words["help"].as_str().unwrap().contains("sudo")), (403, true), "{words}");

    for read_group in ["any", &nobody] {
        let options = AccessOptions { read_groups: vec![read_group.to_owned()], group: None };
        let server = start(&options, quick());
        assert!(ask_as_nobody(&server, "GET").await.unwrap().starts_with("HTTP/1.1 200"), "{read_group}");
        let (status, words) = error(&ask_as_nobody(&server, "DELETE").await.unwrap());
        assert_eq!(
            (status, words["error"].as_str().unwrap().contains("you may ask")),
            (403, true),
            "{words}"
        );
    }
    let options = AccessOptions { group: Some(nobody), ..AccessOptions::default() };
    assert!(ask_as_nobody(&start(&options, quick()), "DELETE").await.unwrap().ends_with("deleted"));
}
