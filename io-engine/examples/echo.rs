//! An echo server on every allowed CPU: the engine's parts put together as a program does it.
//!
//! `cargo run -p keyway-io-engine --example echo -- 127.0.0.1:7777`, then `nc 127.0.0.1 7777`.

use keyway_io_engine::placement::{Placement, raise_limits};
use keyway_io_engine::{
    Address, Batching, BatchingMode, Closing, Conn, ConnectError, Ended, Handler, Io, Listener, ListenerId, RingConfig,
    RingEngine, RingIo, Wait, bind,
};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Sends back what comes; what comes while a send is in flight waits for it.
#[derive(Default)]
struct Echo {
    outputs: Vec<Output>,
}

#[derive(Default)]
struct Output {
    waiting: Vec<u8>,
    sending: bool,
    ended: bool,
}

/// A client that doesn't read what it sent isn't read from beyond this.
const MOST_WAITING_BYTES: usize = 1 << 20;

impl Echo {
    fn output(&mut self, conn: Conn) -> &mut Output {
        let index = conn.index as usize;
        if self.outputs.len() <= index {
            self.outputs.resize_with(index + 1, Output::default);
        }
        &mut self.outputs[index]
    }
}

impl Handler<RingIo> for Echo {
    fn accepted(&mut self, _: &mut RingIo, _: ListenerId, conn: Conn) {
        *self.output(conn) = Output::default();
    }

    fn connected(&mut self, _: &mut RingIo, _: Conn, _: Result<(), ConnectError>) {}

    fn received(&mut self, io: &mut RingIo, conn: Conn, bytes: &[u8]) {
        let output = self.output(conn);
        output.waiting.extend_from_slice(bytes);
        if !output.sending {
            output.sending = true;
            io.send(conn, std::mem::take(&mut output.waiting));
        } else if output.waiting.len() > MOST_WAITING_BYTES {
            io.set_reading(conn, keyway_io_engine::Reading::Off);
        }
    }

    fn ended(&mut self, io: &mut RingIo, conn: Conn, _: Ended) {
        let output = self.output(conn);
        output.ended = true;
        if !output.sending {
            io.close(conn, Closing::Now);
        }
    }

    fn sent(&mut self, io: &mut RingIo, conn: Conn, mut bytes: Vec<u8>, result: Result<(), i32>) {
        let output = self.output(conn);
        output.sending = false;
        bytes.clear();
        let waiting = std::mem::replace(&mut output.waiting, bytes);
        if result.is_err() || (waiting.is_empty() && output.ended) {
            io.close(conn, Closing::Now);
        } else if !waiting.is_empty() {
            output.sending = true;
            io.send(conn, waiting);
            io.set_reading(conn, keyway_io_engine::Reading::On);
        }
    }

    fn doorbell(&mut self, _: &mut RingIo) {}

    fn turn_ended(&mut self, _: &mut RingIo) {}
}

fn serve(listener: Listener) -> Result<(), Box<dyn Error>> {
    let batching = Batching { mode: BatchingMode::Off, max_delay_us: 0 };
    let mut engine = RingEngine::new(RingConfig::default(), vec![listener], batching)?;
    let mut echo = Echo::default();
    loop {
        engine.turn(&mut echo, Wait { deadline: None, immediate: false, in_flight: 0 })?;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).ok_or("usage: echo ADDRESS:PORT")?.parse()?;
    raise_limits();
    let placement = Placement::new(None)?;
    let listeners = bind(&Address::Tcp(address), placement.cpus().len(), 1024)?;
    println!("echo on {address}, shards on CPUs {:?}", placement.cpus());
    // Each shard takes the listener of its index.
    let listeners: Arc<Mutex<Vec<Option<Listener>>>> = Arc::new(Mutex::new(listeners.into_iter().map(Some).collect()));
    let shards = placement.spawn_shards("echo", move |index| {
        let listener = listeners.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index).and_then(Option::take);
        async move {
            if let Some(Err(error)) = listener.map(serve) {
                eprintln!("shard {index}: {error}");
            }
        }
    })?;
    shards.join();
    Ok(())
}
