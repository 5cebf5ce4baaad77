//! An upstream that dies as a process does: its listener, its connections and what it was about to answer,
//! all at once; and that comes back where it was.

use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use tokio::runtime::{Builder, Runtime};

use crate::upstream::Seen;
use crate::wait::SOON;

/// An upstream that can be killed; killed on drop.
#[derive(Debug)]
pub struct Mortal {
    seen: Seen,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Mortal {
    /// Starts an upstream on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub fn start(name: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a free port")?;
        let mut mortal = Self { seen: Seen::new(name), address: listener.local_addr()?, runtime: None };
        mortal.serve(listener)?;
        Ok(mortal)
    }

    /// Where it listens while it lives.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has received.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.seen.requests()
    }

    /// Ends it; nobody gets another byte. When this returns, its connections are closed: what is sent to it later
    /// is not among what it has seen.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own, since a runtime must not wait for another.
            let ended = thread::spawn(move || runtime.shutdown_timeout(SOON));
            // It cannot have panicked; and if it has, the endpoint is dead all the same.
            let _ = ended.join();
        }
    }

    /// Starts it again, at the same address.
    ///
    /// # Errors
    ///
    /// When somebody else has taken it.
    pub fn revive(&mut self) -> Result<()> {
        // By tokio, which reuses an address that dead connections still hold.
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address).with_context(|| self.address.to_string())?;
        self.serve(socket.listen(1024)?.into_std()?)
    }

    fn serve(&mut self, listener: TcpListener) -> Result<()> {
        listener.set_nonblocking(true)?;
        // One of its own: what is spawned for a connection ends with the runtime and with nothing else.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let app = self.seen.router();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, app).await
        });
        self.runtime = Some(runtime);
        Ok(())
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}
