//! Metrics and readiness over HTTP/1.1: GET and HEAD of a few paths, one request per connection.
//!
//! Knows nothing of what it serves: questions go to the control loop, which owns the answers.
//! Bounds: `CONNECTIONS` at once, `HEAD_BYTES` and `HEAD_TIMEOUT` for a request, `BODY_TIMEOUT` for an answer.

use crate::config::ListenAddress;
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::GlommioError;
use glommio::channels::local_channel::{self, LocalSender};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Most connections at once on one address; more are closed at once.
const CONNECTIONS: usize = 64;
/// Longest request head.
const HEAD_BYTES: usize = 8 * 1024;
/// Most header lines.
const HEADERS: usize = 64;
/// Longest time for a request to come in.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for an answer to be taken.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the peer is given to close first, so that no reset cuts the answer.
const LINGER: Duration = Duration::from_secs(1);
/// How often a port in use is tried again at start, and the pause before each: one second in all.
const BIND_RETRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a failed accept: out of descriptors passes, spinning doesn't help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `/metrics`
    Metrics,
    /// `/events`
    Events,
    /// `/healthz`
    Alive,
    /// `/readyz`
    Ready,
    /// `/`
    Index,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The text.
    pub body: String,
}

/// A question on its way to the control loop, and where the answer is awaited.
pub type Asked = (Question, LocalSender<Answer>);

/// Binds `address`, and says what stands against it.
pub fn bind(address: &ListenAddress) -> Result<TcpListener, String> {
    let bound = match address {
        ListenAddress::Tcp(address) => bind_patiently(*address),
        ListenAddress::AllTcp(port) => match bind_patiently(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port)) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                bind_patiently(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port))
            }
            bound => bound,
        },
        ListenAddress::Unix(_) => Err(io::Error::other("metrics are served over TCP only")),
    };
    bound.map_err(|error| format!("can't serve metrics on {address}: {error}"))
}

/// The kernel tears the rings of a process that ended down a moment after it, and a listening socket with them: a restart
/// at once may meet it. Called before anything is served, so it may block.
fn bind_patiently(address: SocketAddr) -> io::Result<TcpListener> {
    for _ in 0..BIND_RETRIES {
        match bind_tcp(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(BIND_PAUSE),
            bound => return bound,
        }
    }
    bind_tcp(address)
}

/// glommio binds with SO_REUSEPORT, which would let a second process take the port silently; binding it without first
/// finds that out.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    match std::net::TcpListener::bind(address) {
        Ok(probe) => drop(probe),
        // Connections of the process before us that linger in TIME_WAIT keep the probe out, but not glommio's socket.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_refused(address) => {}
        Err(error) => return Err(error),
    }
    TcpListener::bind(address).map_err(|error| match error {
        GlommioError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

/// True when nobody listens there.
fn is_refused(mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    let connected = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Serves for ever. `ask` hands a question to the control loop; false when it can't take one.
pub(super) async fn serve(listener: TcpListener, ask: impl Fn(Asked) -> bool + Clone + 'static) {
    let open = Rc::new(Cell::new(0usize));
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                log::warn!("accepting a metrics connection failed: {error}");
                Timer::new(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if open.get() >= CONNECTIONS {
            continue;
        }
        open.set(open.get() + 1);
        let (open, ask) = (open.clone(), ask.clone());
        glommio::spawn_local(async move {
            converse(stream, ask).await;
            open.set(open.get() - 1);
        })
        .detach();
    }
}

async fn converse(mut stream: TcpStream, ask: impl Fn(Asked) -> bool) {
    let request = within(HEAD_TIMEOUT, read_request(&mut stream)).await;
    let (answer, with_body) = match request {
        Some(Ok((question, with_body))) => (put(question, ask).await, with_body),
        Some(Err(Some(refusal))) => (refusal, true),
        Some(Err(None)) => return,
        None => (Answer::plain(408, "the request took too long\n"), true),
    };
    let response = encode(&answer, with_body);
    let sent = within(BODY_TIMEOUT, async {
        stream.write_all(&response).await?;
        stream.flush().await
    });
    if let Some(Ok(())) = sent.await
        && stream.shutdown(Shutdown::Write).await.is_ok()
    {
        let mut rest = [0; 512];
        within(LINGER, async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} }).await;
    }
}

async fn put(question: Question, ask: impl Fn(Asked) -> bool) -> Answer {
    let (sender, receiver) = local_channel::new_bounded(1);
    if !ask((question, sender)) {
        return Answer::plain(503, "too many questions at once\n");
    }
    receiver.recv().await.unwrap_or_else(|| Answer::plain(503, "the process is ending\n"))
}

/// The question and whether the body is wanted; the refusal; or `None` when there is nobody to answer.
async fn read_request(stream: &mut TcpStream) -> Result<(Question, bool), Option<Answer>> {
    let mut head = vec![0; HEAD_BYTES];
    let mut length = 0;
    loop {
        match parse(&head[..length]) {
            Parsed::Question { question, with_body } => return Ok((question, with_body)),
            Parsed::Refused(refusal) => return Err(Some(refusal)),
            Parsed::NeedMore if length == head.len() => {
                return Err(Some(Answer::plain(431, "the request's head is too long\n")));
            }
            Parsed::NeedMore => {}
        }
        match stream.read(&mut head[length..]).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(read) => length += read,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    NeedMore,
    Question { question: Question, with_body: bool },
    Refused(Answer),
}

fn parse(head: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Parsed::NeedMore,
        Err(error) => return Parsed::Refused(Answer::plain(400, &format!("no HTTP request: {error}\n"))),
    }
    let path = request.path.unwrap_or_default();
    let question = match path.split('?').next().unwrap_or_default() {
        "/metrics" => Question::Metrics,
        "/events" => Question::Events,
        "/healthz" => Question::Alive,
        "/readyz" => Question::Ready,
        "/" => Question::Index,
        _ => return Parsed::Refused(Answer::plain(404, "there are /metrics, /events, /healthz and /readyz\n")),
    };
    match request.method {
        Some("GET") => Parsed::Question { question, with_body: true },
        Some("HEAD") => Parsed::Question { question, with_body: false },
        _ => Parsed::Refused(Answer::plain(405, "only GET and HEAD\n")),
    }
}

impl Answer {
    /// With this status and text.
    pub fn plain(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_string() }
    }
}

fn encode(answer: &Answer, with_body: bool) -> Vec<u8> {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Answer",
    };
    let allow = if answer.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut response = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         {allow}Connection: close\r\n\r\n",
        answer.status,
        answer.body.len(),
    );
    if with_body {
        response.push_str(&answer.body);
    }
    response.into_bytes()
}

/// `None` when it took longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let timer = async {
        Timer::new(limit).await;
        None
    };
    future::or(async { Some(work.await) }, timer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let asked = |question, with_body| Parsed::Question { question, with_body };
        let refused = |head: &str| match parse(head.as_bytes()) {
            Parsed::Refused(answer) => answer.status,
            other => panic!("{head:?}: {other:?}"),
        };
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", asked(Question::Metrics, true)),
            ("GET /events HTTP/1.1\r\n\r\n", asked(Question::Events, true)),
            ("GET /metrics?name=a HTTP/1.0\r\n\r\n", asked(Question::Metrics, true)),
            ("HEAD /healthz HTTP/1.1\r\n\r\n", asked(Question::Alive, false)),
            ("GET /readyz HTTP/1.1\r\n\r\nmore", asked(Question::Ready, true)),
            ("GET / HTTP/1.1\r\n\r\n", asked(Question::Index, true)),
            ("", Parsed::NeedMore),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Parsed::NeedMore),
        ] {
            assert_eq!(parse(head.as_bytes()), expected, "{head:?}");
        }
        assert_eq!(refused("GET /nothing HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(refused("POST /metrics HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(refused("get key\r\n"), 400);
        assert_eq!(refused("\0\0\0\0"), 400);
        let many = "X: y\r\n".repeat(HEADERS + 1);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 400);
    }

    #[test]
    fn every_cut_of_a_request_needs_more() {
        let head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(parse(&head[..cut]), Parsed::NeedMore, "{cut}");
        }
    }

    #[test]
    fn responses() {
        let text =
            |status, body, with_body| String::from_utf8(encode(&Answer::plain(status, body), with_body)).expect("text");
        let ok = text(200, "ok\n", true);
        assert!(ok.starts_with("HTTP/1.1 200 OK\r\n") && ok.ends_with("\r\n\r\nok\n"), "{ok}");
        let head = text(200, "ok\n", false);
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(text(405, "", true).contains("Allow: GET, HEAD\r\n"));
    }
}
