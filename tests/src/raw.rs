//! HTTP/1.1 written and read byte by byte, over connections that stay open: for many requests that
//! no library would send, and for answers that none would complain about.

use anyhow::{Context as _, Result, ensure};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longest line of an answer's head: everything that answers here stays far below.
const LINE: u64 = 1 << 20;

/// A well-formed answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sends requests over a connection that is kept, each when the one before is answered: Envoy takes
/// more than two answers in its queue for an attack. It may close after any answer: what is then
/// left goes over a new connection. The requests must not ask for the end of the connection.
///
/// # Errors
///
/// When an answer is not well-formed, or a request got none.
pub async fn ask_all(server: SocketAddr, requests: &[Vec<u8>], deadline: Duration) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while let Some(first) = requests.get(answers.len()) {
        let got = converse(server, &requests[answers.len()..], deadline).await?;
        ensure!(!got.is_empty(), "no answer to {:?}", start(first));
        answers.extend(got);
    }
    Ok(answers)
}

/// Answers until the server closes, at most one for each request.
async fn converse(server: SocketAddr, requests: &[Vec<u8>], deadline: Duration) -> Result<Vec<Answer>> {
    let mut stream = BufReader::new(TcpStream::connect(server).await?);
    // A request is one write, and none should wait for the acknowledgement of another.
    stream.get_ref().set_nodelay(true)?;
    let mut answers: Vec<Answer> = Vec::new();
    for request in requests {
        let exchange = async {
            // A server that has answered before it read everything makes this fail, and has answered.
            let _ = stream.get_mut().write_all(request).await;
            read_answer(&mut stream, request.starts_with(b"HEAD ")).await
        };
        let answer = timeout(deadline, exchange).await;
        let answer =
            answer.with_context(|| format!("waited {deadline:?} for the answer to {:?}", start(request)))?;
        let answer = answer.with_context(|| format!("the answer to {:?}", start(request)))?;
        let Some(answer) = answer else { break };
        let close = answer.header("connection") == Some("close");
        answers.push(answer);
        if close {
            break;
        }
    }
    Ok(answers)
}

/// As much of a request as a message should show.
fn start(request: &[u8]) -> String {
    String::from_utf8_lossy(&request[..request.len().min(2_000)]).into_owned()
}

/// One answer; nothing when the server has closed before its first byte.
async fn read_answer(reader: &mut BufReader<TcpStream>, to_head: bool) -> Result<Option<Answer>> {
    match reader.fill_buf().await {
        Ok([]) | Err(_) => return Ok(None),
        Ok(_) => {}
    }
    let status_line = line(reader).await?;
    let status =
        status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..4)?.trim_end().parse().ok());
    let status: u16 = status.with_context(|| format!("not a status line: {status_line:?}"))?;
    ensure!((200..600).contains(&status), "{status_line:?}");
    let mut headers = Vec::new();
    loop {
        let line = line(reader).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(": ").or(line.split_once(':')).with_context(|| format!("{line:?}"))?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        ensure!(!name.is_empty() && name.bytes().all(token), "a header's name: {line:?}");
        ensure!(!value.chars().any(|char| char.is_control() && char != '\t'), "a header's value: {line:?}");
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if !to_head && status != 204 && status != 304 {
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        answer.body = vec![0; length.with_context(|| format!("no length: {answer:?}"))?];
        reader.read_exact(&mut answer.body).await.context("a body cut short")?;
    }
    Ok(Some(answer))
}

/// A line without its end, which must be CR LF.
async fn line(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = Vec::new();
    reader.take(LINE).read_until(b'\n', &mut line).await?;
    let text = line.strip_suffix(b"\r\n").with_context(|| format!("a line cut short: {line:?}"))?;
    // One character for each byte, so that none is lost.
    Ok(text.iter().copied().map(char::from).collect())
}
