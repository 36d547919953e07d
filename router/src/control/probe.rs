//! One check of one server: connect, say `version`, read `VERSION `. Accepting without answering is no health.
//!
//! Makes its own connection, so that a check never queues behind requests or gets between them.

use crate::trouble::{FailedCheck, Trouble};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future};
use glommio::GlommioError;
use glommio::net::{TcpStream, UnixStream};
use glommio::timer::Timer;
use keyway_io_engine::Address;
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

const QUESTION: &[u8] = b"version\r\n";
const ANSWER: &[u8] = b"VERSION ";

/// Checks the server at `address`, for at most `timeout`.
pub(super) async fn probe(address: &Address, timeout: Duration) -> Result<(), FailedCheck> {
    let connected = Cell::new(false);
    let attempt = async {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout).await.map_err(connect_error)?;
                connected.set(true);
                ask(stream).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(connect_error)?;
                connected.set(true);
                ask(stream).await
            }
        }
    };
    let timer = async {
        Timer::new(timeout).await;
        let millis = timeout.as_millis();
        Err(if connected.get() {
            let words = format!("it accepts connections but did not answer `version` within {millis} ms");
            FailedCheck { trouble: Trouble::Timeout, words }
        } else {
            FailedCheck { trouble: Trouble::ConnectTimeout, words: format!("no connection within {millis} ms") }
        })
    };
    future::or(attempt, timer).await
}

/// The first of `candidates` that passes a check.
pub(super) async fn first_answering(candidates: &[SocketAddr], timeout: Duration) -> Option<SocketAddr> {
    for candidate in candidates {
        if probe(&Address::Tcp(*candidate), timeout).await.is_ok() {
            return Some(*candidate);
        }
    }
    None
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), FailedCheck> {
    let lost = |words: String| FailedCheck { trouble: Trouble::ConnectionLost, words };
    stream.write_all(QUESTION).await.map_err(|error| lost(format!("sending `version` failed: {error}")))?;
    let mut answer = [0; ANSWER.len()];
    let mut length = 0;
    while length < answer.len() {
        match stream.read(&mut answer[length..]).await {
            Ok(0) => return Err(lost("it closed the connection instead of answering `version`".to_string())),
            Ok(read) => length += read,
            Err(error) => return Err(lost(format!("reading the answer to `version` failed: {error}"))),
        }
    }
    if answer == ANSWER {
        return Ok(());
    }
    let words = format!("it answered `version` with {:?}", String::from_utf8_lossy(&answer));
    Err(FailedCheck { trouble: Trouble::Misaligned, words })
}

fn connect_error(error: GlommioError<()>) -> FailedCheck {
    match error {
        GlommioError::IoError(error) => {
            let trouble = error.raw_os_error().map_or_else(|| trouble_of(error.kind()), Trouble::from_connect_errno);
            FailedCheck { trouble, words: format!("connecting failed: {error}") }
        }
        other => FailedCheck { trouble: Trouble::Unreachable, words: format!("connecting failed: {other}") },
    }
}

/// glommio wraps some errors of the kernel and keeps no more than their kind.
fn trouble_of(kind: std::io::ErrorKind) -> Trouble {
    match kind {
        std::io::ErrorKind::ConnectionRefused => Trouble::Refused,
        std::io::ErrorKind::TimedOut => Trouble::ConnectTimeout,
        _ => Trouble::Unreachable,
    }
}
