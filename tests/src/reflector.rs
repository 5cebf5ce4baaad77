//! An upstream that sends back what it receives, frame by frame, trailers and upgrades included; and
//! a client that sees every frame. For what passes: whoever stands between changes none of it.

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header, request},
};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ring::digest;
use std::{convert::Infallible, net::SocketAddr, sync::LazyLock};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::upstream::{Server, hexadecimal};

/// A running reflector, for HTTP/1.1 and HTTP/2 without TLS; stopped on drop.
#[derive(Debug)]
pub struct Reflector(Server);

/// Headers that differ from one request to the next, whoever is asked.
const VOLATILE: [&str; 4] = ["date", "x-request-id", "x-envoy-upstream-service-time", "host"];

impl Reflector {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        Ok(Self(Server::start(Router::new().fallback(reflect)).await?))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// The body comes back as it is, `x-reply-NAME: VALUE` as `NAME: VALUE`, and `x-seen` tells what the
/// request looked like.
async fn reflect(mut request: Request) -> Response<Body> {
    let seen = describe(request.headers());
    let seen = format!("{} {} {:?} {seen}", request.method(), request.uri().path(), request.uri().query());
    let mut response = Response::builder().header("x-seen", seen.escape_default().to_string());
    for (name, value) in request.headers() {
        if let Some(name) = name.as_str().strip_prefix("x-reply-") {
            response = response.header(name, value);
        }
    }
    if request.headers().contains_key(header::UPGRADE) && request.version() == Version::HTTP_11 {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            // An error is the end of the conversation, like any other.
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
        let upgraded = response.status(StatusCode::SWITCHING_PROTOCOLS).header(header::UPGRADE, "websocket");
        return upgraded.header(header::CONNECTION, "upgrade").body(Body::empty()).unwrap_or_default();
    }
    response.body(request.into_body()).unwrap_or_default()
}

/// Headers as one line, without those that are never the same and those that are ours.
fn describe(headers: &HeaderMap) -> String {
    line(headers, |name| !VOLATILE.contains(&name) && !name.starts_with("x-rampart-"))
}

/// The headers whose names are kept, as one line.
fn line(headers: &HeaderMap, keep: impl Fn(&str) -> bool) -> String {
    let kept = headers.iter().filter(|(name, _)| keep(name.as_str()));
    let words = kept.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())));
    let mut words: Vec<String> = words.collect();
    words.sort();
    words.join(" ")
}

/// What is sent: a head, a body in frames, trailers.
#[derive(Debug, Clone)]
pub struct Message {
    /// Method, path, headers and version.
    pub head: request::Parts,
    /// The size of each data frame, at most 1 MiB; what they hold follows from their position.
    pub frames: Vec<usize>,
    /// Sent after the body.
    pub trailers: HeaderMap,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The status code.
    pub status: u16,
    /// The headers; `x-seen` tells what the upstream saw.
    pub headers: String,
    /// The body's length.
    pub length: usize,
    /// The body's SHA-256.
    pub sha256: String,
    /// The trailers.
    pub trailers: String,
}

impl Message {
    /// The body as a whole, hashed: its length and SHA-256.
    #[must_use]
    pub fn digest(&self) -> (usize, String) {
        let mut context = digest::Context::new(&digest::SHA256);
        for (index, size) in self.frames.iter().enumerate() {
            context.update(&content(index, *size));
        }
        (self.frames.iter().sum(), hexadecimal(context.finish().as_ref()))
    }

    /// Sends the message to `server` over a connection of its own, reading while it writes.
    ///
    /// # Errors
    ///
    /// When the exchange breaks off.
    pub async fn send(&self, server: SocketAddr) -> Result<Transcript> {
        let (frames, trailers) = (self.frames.clone(), self.trailers.clone());
        let data = frames.into_iter().enumerate().map(|(index, size)| Frame::data(content(index, size)));
        let last = (!trailers.is_empty()).then(|| Frame::trailers(trailers));
        let body = StreamBody::new(stream::iter(data.chain(last).map(Ok::<_, Infallible>)));
        let mut request = hyper::Request::from_parts(self.head.clone(), body);
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("rampart.test"));

        let io = TokioIo::new(TcpStream::connect(server).await?);
        let mut response = if self.head.version == Version::HTTP_2 {
            *request.uri_mut() = format!("http://rampart.test{}", request.uri()).parse()?;
            request.headers_mut().remove(header::HOST);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        };
        let (mut context, mut length, mut trailers) =
            (digest::Context::new(&digest::SHA256), 0, HeaderMap::new());
        while let Some(frame) = response.frame().await {
            match frame?.into_data() {
                Ok(data) => {
                    context.update(&data);
                    length += data.len();
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Ok(Transcript {
            status: response.status().as_u16(),
            headers: describe(response.headers()),
            length,
            sha256: hexadecimal(context.finish().as_ref()),
            trailers: line(&trailers, |_| true),
        })
    }
}

/// A frame's bytes: a window into a pattern, so that no two neighbours are the same and a hundred
/// megabytes cost nothing to make.
fn content(index: usize, size: usize) -> Bytes {
    static PATTERN: LazyLock<Bytes> =
        LazyLock::new(|| (0..(1 << 20) + 251).map(|at| (at % 251) as u8).collect());
    let start = index.wrapping_mul(17) % 251;
    PATTERN.slice(start..start + size.min(1 << 20))
}

/// Opens a WebSocket, sends bytes that are no text in pieces, and returns what comes back.
///
/// # Errors
///
/// When the upgrade is refused or the connection breaks off.
pub async fn upgrade(server: SocketAddr, path: &str, headers: &str, pieces: &[&[u8]]) -> Result<Vec<u8>> {
    let (mut stream, _) = open(server, path, headers).await?;
    let mut back = Vec::new();
    for piece in pieces {
        stream.write_all(piece).await?;
        let mut buffer = vec![0; piece.len()];
        stream.read_exact(&mut buffer).await?;
        back.append(&mut buffer);
    }
    Ok(back)
}

/// Opens a WebSocket by hand; the connection, and the head of the answer, in which `x-seen` tells what
/// the reflector saw.
///
/// # Errors
///
/// When the upgrade is refused.
pub async fn open(server: SocketAddr, path: &str, headers: &str) -> Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: rampart.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.context("the upgrade was not answered")?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    Ok((stream, head))
}
