//! The daemon's HTTP API as a program uses it: requests over the Unix socket, and bytes that no
//! orderly program would send.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{World, wait::PATIENCE};

/// A change of thousands of ports or rules takes its time.
const LONGEST_ANSWER: Duration = Duration::from_secs(120);

/// What the daemon answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Itself, when the daemon did what it was asked.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }

    /// Itself, when the daemon refused with `status`, and its error and advice contain each of `words`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(self, status: u16, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        let told = self.json();
        assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "no reason: {self:?}");
        let text = self.body.to_lowercase();
        for word in words {
            assert!(text.contains(&word.to_lowercase()), "the answer does not say {word:?}: {self:?}");
        }
        self
    }
}

/// One connection to a daemon, opened when it is needed.
#[derive(Debug)]
pub struct Api {
    socket: PathBuf,
    connection: Option<BufReader<UnixStream>>,
}

impl Api {
    /// To the daemon that listens at `socket`.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), connection: None }
    }

    /// Asks for `path`.
    pub fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// Sends `body` to `path`.
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(body))
    }

    /// Puts `body` at `path`.
    pub fn put(&mut self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, Some(body))
    }

    /// Deletes `path`.
    pub fn delete(&mut self, path: &str) -> Answer {
        self.call("DELETE", path, None)
    }

    /// Puts the policy `text` in force.
    pub fn apply(&mut self, text: &str) -> Answer {
        self.post("/v1/policy", &json!({ "text": text, "origin": "/test/policy.toml" }))
    }

    /// A request and its answer.
    ///
    /// # Panics
    /// When the daemon does not answer.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_call(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request and its answer, for daemons that may be killed meanwhile.
    ///
    /// # Errors
    /// When there is no daemon, or it went away before it answered.
    pub fn try_call(&mut self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: vnet\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => connect(&self.socket)?,
        };
        connection.get_mut().write_all(request.as_bytes())?;
        let (answer, stays_open) = read_answer(&mut connection)?;
        self.connection = stays_open.then_some(connection);
        Ok(answer)
    }
}

fn connect(socket: &Path) -> io::Result<BufReader<UnixStream>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LONGEST_ANSWER))?;
    Ok(BufReader::new(stream))
}

/// The next answer on `connection`, and whether the connection may be used again.
fn read_answer(connection: &mut BufReader<UnixStream>) -> io::Result<(Answer, bool)> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status =
        status.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, format!("no status in {line:?}")))?;
    let (mut length, mut stays_open) = (None, true);
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse().ok(),
            Some(("connection", value)) if value.trim() == "close" => stays_open = false,
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            connection.read_exact(&mut body)?;
        }
        // An answer of unknown length ends with its connection.
        None => {
            stays_open = false;
            connection.read_to_end(&mut body)?;
        }
    }
    Ok((Answer { status, body: String::from_utf8_lossy(&body).into_owned() }, stays_open))
}

impl World {
    /// A connection to the world's daemon.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::at(&self.socket())
    }

    /// Opens the socket, for bytes of one's own.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn raw_api(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// The number of the last event.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        let events = self.api().get("/v1/events").ok().json();
        events.as_array().and_then(|events| events.last()).and_then(|event| event["id"].as_u64()).unwrap_or(0)
    }

    /// Waits for an event after the one numbered `after` that is of `kind` and says each of `words`;
    /// gives its message.
    ///
    /// # Panics
    /// When none comes in time, with those that came.
    #[track_caller]
    pub fn event(&self, mut after: u64, kind: &str, words: &[&str]) -> String {
        let mut api = self.api();
        let mut seen = Vec::new();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            // The request would wait longer than this test may.
            api.connection = Some(connect(&self.socket()).expect("the daemon listens"));
            let limit = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if let Some(connection) = &api.connection {
                connection.get_ref().set_read_timeout(Some(limit)).expect("a timeout");
            }
            let Ok(answer) = api.try_call("GET", &format!("/v1/events?after={after}&wait=true"), None) else {
                continue;
            };
            for event in answer.ok().json().as_array().expect("events") {
                after = after.max(event["id"].as_u64().unwrap_or(0));
                let message = event["message"].as_str().unwrap_or_default().to_owned();
                let told = message.to_lowercase();
                if event["kind"] == kind && words.iter().all(|word| told.contains(&word.to_lowercase())) {
                    return message;
                }
                seen.push(format!("{}: {message}", event["kind"]));
            }
        }
        panic!("no event of kind {kind} says {words:?}; there were:\n{}", seen.join("\n"));
    }
}
