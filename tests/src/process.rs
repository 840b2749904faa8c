//! Programs that run to their end, and programs that run beside a test.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{PATIENCE, eventually};

/// The longest that a program may run; well above the longest iperf3 of a suite.
const LONGEST_RUN: Duration = Duration::from_secs(90);

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    command: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// Itself, when the program succeeded.
    ///
    /// # Panics
    /// When it did not, with everything that it printed.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails_with(0)
    }

    /// Itself, when the program ended with `code`.
    ///
    /// # Panics
    /// When it did not, with everything that it printed.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }

    /// Itself, when the program refused in an orderly way: a code of its own, and a reason told.
    ///
    /// # Panics
    /// When it succeeded, crashed or said nothing.
    #[track_caller]
    pub fn refused(self) -> Self {
        // 101 is a panic of a Rust program.
        assert!(self.code.is_some_and(|code| code != 0 && code != 101), "expected a refusal: {self}");
        assert!(!self.stderr.trim().is_empty(), "refused without a word: {self}");
        self
    }

    /// Whether the program succeeded.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }

    /// Asserts that its standard error, in any case, contains each of `words`.
    ///
    /// # Panics
    /// When one is missing.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let told = self.stderr.to_lowercase();
        for word in words {
            assert!(told.contains(&word.to_lowercase()), "standard error does not say {word:?}: {self}");
        }
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "`{}` ended with {:?}\n--- stdout\n{}--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// When it cannot be started or does not end in time.
#[must_use = "say what was expected of it: ok(), fails_with(…)"]
pub fn finish(mut command: Command) -> Finished {
    let line = describe(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start `{line}`: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait_at_most(&mut child, LONGEST_RUN);
    if status.is_none() {
        // The program hangs; what it printed so far tells more than a test that hangs with it.
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let finished = Finished { command: line, code: status.and_then(|s| s.code()), stdout, stderr };
    assert!(status.is_some(), "still running after {LONGEST_RUN:?}: {finished}");
    finished
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut pipe = pipe.expect("the pipe was asked for");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the text early, which the assertions on it will show.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The status of `child` once it ended, or none after `limit`.
pub fn wait_at_most(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait().expect("wait for a child") {
            Some(status) => return Some(status),
            None if Instant::now() > end => return None,
            None => thread::sleep(Duration::from_millis(3)),
        }
    }
}

/// A program that runs beside the test; killed when dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts `command` and reads its output and errors line by line.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let line = describe(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start `{line}`: {error}"));
        let (sender, lines) = channel();
        forward_lines(child.stdout.take(), sender.clone());
        forward_lines(child.stderr.take(), sender);
        Self { command: line, child, lines, seen: Vec::new() }
    }

    /// The next line that contains `pattern`.
    ///
    /// # Panics
    /// When none comes in time, with everything printed so far.
    pub fn line_with(&mut self, pattern: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(pattern) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("`{}` never printed {pattern:?}:\n{}", self.command, self.seen.join("\n"))
                }
            }
        }
    }

    /// Everything that it printed, once it ended by itself with success.
    ///
    /// # Panics
    /// When it failed or did not end in time.
    #[must_use]
    pub fn finished(mut self) -> Vec<String> {
        let status = wait_at_most(&mut self.child, LONGEST_RUN);
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.iter());
        assert!(
            status.is_some_and(|s| s.success()),
            "`{}` ended with {status:?}:\n{}",
            self.command,
            lines.join("\n")
        );
        lines
    }

    /// Ends it as Ctrl-C does, and returns all that it printed.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn interrupted(mut self) -> Vec<String> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).expect("interrupt a child");
        self.ended();
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.iter());
        lines
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself, whatever its status.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn ended(&mut self) -> ExitStatus {
        let Self { child, command, .. } = self;
        eventually(&format!("the end of `{command}`"), || child.try_wait().expect("wait for a child"))
    }
}

fn forward_lines(pipe: Option<impl Read + Send + 'static>, sender: Sender<String>) {
    let reader = BufReader::new(pipe.expect("the pipe was asked for"));
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; nothing more can be done about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
