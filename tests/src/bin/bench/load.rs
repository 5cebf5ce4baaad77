//! Load in plain HTTP/1.1 over kept-alive connections, and the upstreams that answer it. Both are
//! blocking reads and writes of bytes made beforehand, so that next to nothing of the second core
//! is theirs and Envoy never waits for them.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How many requests are under way at any time.
pub(crate) const CONNECTIONS: usize = 16;

/// What every upstream's answer ends with: a reader knows by it that nothing is missing.
const END: &[u8] = b"-served\n";

/// An upstream that answers every request with the same few bytes, which hold its name. It ends
/// with the program.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    heard: Heard,
}

/// The last request that an upstream got.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn keep(&self, request: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.extend(request);
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Upstream {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let body = [name.as_bytes(), END].concat();
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        let answer: Arc<[u8]> = answer.into();
        let heard = Heard::default();
        let hears = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, hears) = (Arc::clone(&answer), hears.clone());
                thread::spawn(move || serve(stream, &answer, &hears));
            }
        });
        Ok(Self { address, heard })
    }

    /// What it was sent.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

/// Answers until Envoy closes the connection. Requests have no body, and Envoy sends the next one
/// only after the answer.
fn serve(mut stream: TcpStream, answer: &[u8], heard: &Heard) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut buffer, mut length) = (vec![0; 64 << 10], 0);
    loop {
        length += stream.read(buffer.get_mut(length..)?).ok().filter(|read| *read > 0)?;
        if buffer[..length].ends_with(b"\r\n\r\n") {
            heard.keep(&buffer[..length]);
            stream.write_all(answer).ok()?;
            length = 0;
        }
    }
}

/// One variant's client: its connections, and the requests it sends in turn.
pub(crate) struct Load {
    streams: Vec<TcpStream>,
    requests: Arc<[Vec<u8>]>,
    sent: usize,
    buffer: Vec<u8>,
}

/// What one burst was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) fn open(server: SocketAddr, requests: Arc<[Vec<u8>]>) -> Result<Self> {
        ensure!(!requests.is_empty(), "nothing to send");
        let connect = |_| {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(stream)
        };
        let streams = (0..CONNECTIONS).map(connect).collect::<Result<_>>()?;
        Ok(Self { streams, requests, sent: 0, buffer: vec![0; 16 << 10] })
    }

    /// How many requests it can tell apart.
    pub(crate) fn distinct(&self) -> usize {
        self.requests.len()
    }

    /// How many it has sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Sends for a while, but no more than so many requests; an answer that is not 2xx is an error.
    ///
    /// Each connection has one request under way, and they are read in turn: while one answer is
    /// taken in, Envoy has fifteen more requests to work on.
    pub(crate) fn burst(&mut self, time: Duration, most: usize) -> Result<Burst> {
        let (start, before) = (Instant::now(), self.sent);
        let most = most.max(CONNECTIONS);
        for index in 0..CONNECTIONS {
            self.send(index)?;
        }
        let mut under_way = CONNECTIONS;
        for index in (0..CONNECTIONS).cycle() {
            if under_way == 0 {
                break;
            }
            self.receive(index)?;
            // The last ones are read in the same order, each connection once.
            if under_way == CONNECTIONS && start.elapsed() < time && self.sent - before < most {
                self.send(index)?;
            } else {
                under_way -= 1;
            }
        }
        Ok(Burst { requests: self.sent - before, elapsed: start.elapsed() })
    }

    fn send(&mut self, index: usize) -> Result<()> {
        let request = &self.requests[self.sent % self.requests.len()];
        self.streams[index].write_all(request).context("sending a request")?;
        self.sent += 1;
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let mut length = 0;
        loop {
            let read = self.streams[index].read(&mut self.buffer[length..]).context("reading an answer")?;
            length += read;
            let answer = &self.buffer[..length];
            if answer.starts_with(b"HTTP/1.1 2") && answer.ends_with(END) {
                return Ok(());
            }
            // Another status is an error however it goes on.
            let refused = length >= 10 && !answer.starts_with(b"HTTP/1.1 2");
            if read == 0 || refused || length == self.buffer.len() {
                bail!("not the upstream's answer: {}", String::from_utf8_lossy(answer));
            }
        }
    }
}
