//! One TCP connection between two namespaces, with a word to and fro every few milliseconds.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

/// A connection that is used until it is stopped.
pub(crate) struct Connection {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Report>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) words: u64,
    pub(crate) longest_gap: Duration,
}

impl Connection {
    /// Opens one from the namespace `from` to `addr` port 80 in the namespace `to`.
    pub(crate) fn open(from: &str, to: &str, addr: IpAddr) -> Self {
        let place = SocketAddr::new(addr, 80);
        let listener = inside(to, move || TcpListener::bind(place).unwrap()).join().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let (opened, is_open) = channel();
        let client = inside(from, move || {
            let stream = TcpStream::connect_timeout(&place, Duration::from_secs(5)).unwrap();
            opened.send(()).unwrap();
            talk(stream, &until)
        });
        thread::spawn(move || echo(listener.accept().unwrap().0));
        is_open.recv_timeout(Duration::from_secs(5)).expect("the connection opens");
        Self { stop, client }
    }

    /// Stops it; it must have lived until then.
    pub(crate) fn close(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.client.join().expect("the connection lives")
    }
}

fn talk(mut stream: TcpStream, until: &AtomicBool) -> Report {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut report = Report { words: 0, longest_gap: Duration::ZERO };
    while !until.load(Ordering::Relaxed) {
        let begun = Instant::now();
        stream.write_all(&report.words.to_be_bytes()).unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(u64::from_be_bytes(answer), report.words);
        report.words += 1;
        report.longest_gap = report.longest_gap.max(begun.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    report
}

fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut word = [0; 8];
    while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
}

/// Runs `work` on a thread in a named namespace.
pub(crate) fn inside<T: Send + 'static>(
    netns: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let file = File::open(Path::new("/run/netns").join(netns)).unwrap();
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Whether a connection can be opened.
pub(crate) fn connects(from: &str, to: &str, addr: IpAddr, port: u16) -> bool {
    let place = SocketAddr::new(addr, port);
    let _listener = inside(to, move || TcpListener::bind(place).unwrap()).join().unwrap();
    inside(from, move || TcpStream::connect_timeout(&place, Duration::from_millis(1500)).is_ok())
        .join()
        .unwrap()
}
