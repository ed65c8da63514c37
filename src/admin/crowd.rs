//! A listener that holds a bounded number of connections: one more closes the one that is open longest. So whoever
//! opens connections and says nothing neither takes the files that Houston needs for its own, nor keeps a probe away.
//!
//! Must not: wait for anybody.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Connections at a time: a monitoring and its probes need a few, and whoever looks at a run one each.
const MOST: usize = 256;

pub(super) struct Crowd {
    listener: TcpListener,
    /// Oldest first; ended by whoever is first, it or the one that takes its place.
    open: VecDeque<CancellationToken>,
}

impl Crowd {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }
}

impl Listener for Crowd {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, from) = Listener::accept(&mut self.listener).await;
        self.open.retain(|connection| !connection.is_cancelled());
        if self.open.len() >= MOST
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.cancel();
        }
        let ended = CancellationToken::new();
        self.open.push_back(ended.clone());
        let connection = Connection {
            stream,
            closed: Box::pin(ended.clone().cancelled_owned()),
            _ends: ended.drop_guard(),
        };
        (connection, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _ends: DropGuard,
}

impl Connection {
    /// Wakes whoever reads or writes when it is closed.
    fn open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.open(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.open(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
