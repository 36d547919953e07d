//! SIGHUP reloads, SIGTERM and SIGINT drain and end. The second SIGTERM or SIGINT ends the process at once.
//!
//! A thread of its own waits for signals and passes them on. That the second one ends the process is left to the signal
//! handler itself, so that it works however stuck the rest is.

use keyway_io_engine::mailbox::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read the configuration again.
    Reload,
    /// Drain and end.
    Stop,
}

/// Passes signals on to `wishes` from now on.
pub fn listen(wishes: Sender<Wish>) -> io::Result<()> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it.
        flag::register_conditional_default(signal, stopping.clone())?;
        flag::register(signal, stopping.clone())?;
    }
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let pass_on = move || {
        for signal in signals.forever() {
            let wish = if signal == SIGHUP { Wish::Reload } else { Wish::Stop };
            if wishes.send(wish).is_err() {
                log::error!("nobody takes signal {signal}: the control plane is gone or stuck");
            }
        }
    };
    std::thread::Builder::new().name("keyway-signals".to_string()).spawn(pass_on)?;
    Ok(())
}
