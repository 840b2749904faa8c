//! A connection that is given up when the other end takes nothing for too long.
//!
//! Without it, a client that asks and never reads keeps its answer in memory for good.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep},
};

/// A stream whose writes fail after a time without progress.
#[derive(Debug)]
pub(super) struct Patient {
    stream: UnixStream,
    limit: Duration,
    /// While the other end takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// With so much patience.
    pub(super) const fn new(stream: UnixStream, limit: Duration) -> Self {
        Self { stream, limit, waiting: None }
    }

    /// The same outcome, or a failure if it has been pending for too long.
    fn bounded<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(outcome, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_never_reads_is_given_up_and_who_reads_slowly_is_not() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut near = Patient::new(near, Duration::from_millis(200));
        let bytes = vec![7; 4 << 20];
        let reader = tokio::spawn(async move {
            let mut taken = vec![0; 64 << 10];
            for _ in 0..20 {
                far.read_exact(&mut taken).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            far
        });

        let error = near.write_all(&bytes).await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(reader.is_finished(), "not while it still read, which took longer than the limit");
    }
}
