//! HTTP clients: one with kept-alive connections that can send ten thousand requests, and one that
//! writes bytes as they are, for requests that no library would send.

use crate::upstream::Echo;
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{
    Method,
    header::{AUTHORIZATION, HeaderMap},
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Display, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::rustls::crypto::ring;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client that sends everything to `server`.
    ///
    /// # Errors
    ///
    /// When the HTTP library cannot be set up.
    pub fn new(server: SocketAddr) -> Result<Self> {
        // An error means that it is so already.
        let _ = ring::default_provider().install_default();
        // A proxy from the environment must not stand between a test and what it tests.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { http, base: format!("http://{server}"), token: None })
    }

    /// The same, with a bearer token for every request that brings none.
    #[must_use]
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Sends a GET, with a bearer token if one is given.
    ///
    /// # Errors
    ///
    /// When no complete answer arrives; any status is an answer.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Result<Reply> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| (AUTHORIZATION.as_str(), bearer.as_str())).collect();
        self.send(Method::GET, path, &headers, Vec::new()).await
    }

    /// Sends any request.
    ///
    /// # Errors
    ///
    /// When no complete answer arrives; any status is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply> {
        let url = format!("{}{path}", self.base);
        let request = headers
            .iter()
            .fold(self.http.request(method, &url), |request, (name, value)| request.header(*name, *value));
        let own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
        let request = match &self.token {
            Some(token) if !own => request.bearer_auth(token),
            _ => request,
        };
        let response = request.body(body).send().await.with_context(|| url.clone())?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("{url}: the body"))?.to_vec();
        Ok(Reply { status, headers, body })
    }
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When it is something else; the error shows it.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{}: {}", self.status, self.text()))
    }

    /// What the upstream that answered had received.
    ///
    /// # Errors
    ///
    /// When no upstream of the harness answered; the error shows who did.
    pub fn echo(&self) -> Result<Echo> {
        serde_json::from_slice(&self.body).with_context(|| format!("{}: {}", self.status, self.text()))
    }

    /// A header's value, if it is there and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Who answered: the upstream's name, or the status code where Envoy answered itself.
    #[must_use]
    pub fn served_by(&self) -> String {
        self.echo().map_or_else(|_| self.status.to_string(), |echo| echo.name)
    }
}

/// Runs `ask` for every item, at most `concurrency` at a time; the answers keep the items' order.
///
/// # Errors
///
/// With the first that fails.
pub async fn fan_out<T, R>(
    items: impl IntoIterator<Item = T>,
    concurrency: usize,
    ask: impl AsyncFn(T) -> Result<R>,
) -> Result<Vec<R>> {
    let ask = &ask;
    stream::iter(items).map(|item| ask(item)).buffered(concurrency).try_collect().await
}

/// How often each value occurs.
#[must_use]
pub fn tally<T: Display>(values: &[T]) -> BTreeMap<String, usize> {
    values.iter().fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value.to_string()).or_default() += 1;
        counts
    })
}

/// Sends bytes as they are and reads until the server closes the connection, so the request should
/// say `connection: close`. Returns what came back, which may be nothing.
///
/// # Errors
///
/// When the connection cannot be made, or stays open until the deadline.
pub async fn send_raw(server: SocketAddr, request: &[u8], deadline: Duration) -> Result<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(request).await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        anyhow::Ok(reply)
    };
    timeout(deadline, exchange).await.with_context(|| format!("{server} kept the connection open"))?
}

/// The status code of a raw HTTP/1.1 answer.
///
/// # Errors
///
/// When it is no such answer; the error shows it.
pub fn raw_status(reply: &[u8]) -> Result<u16> {
    let text = String::from_utf8_lossy(reply);
    let code = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    code.with_context(|| format!("not an HTTP/1.1 answer: {text:?}"))
}
