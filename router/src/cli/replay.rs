//! The verb `replay` on the command line.

use crate::async_log::ReplayOptions;
use argh::FromArgs;
use std::path::PathBuf;
use std::time::Duration;

/// Most entries a second when no flag says otherwise.
const PER_SECOND: u32 = 5000;
/// Longest wait for a server: nobody waits for this but who started it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Send the deletes of an async log, of this router or of mcrouter, to the servers that missed them.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "replay", help_triggers("-h", "--help"))]
pub(super) struct ReplayArguments {
    /// send all of them to this server, instead of those that missed them
    #[argh(option, arg_name = "host:port")]
    to: Option<String>,

    /// only count them
    #[argh(switch)]
    dry_run: bool,

    /// remove each file that was replayed whole
    #[argh(switch)]
    remove: bool,

    /// most entries a second, to each server (default: 5000)
    #[argh(option, arg_name = "count", from_str_fn(rate_flag))]
    rate: Option<u32>,

    /// a file or a directory
    #[argh(positional)]
    path: PathBuf,
}

impl ReplayArguments {
    pub(super) fn options(self) -> ReplayOptions {
        ReplayOptions {
            path: self.path,
            to: self.to,
            dry_run: self.dry_run,
            remove: self.remove,
            per_second: self.rate.unwrap_or(PER_SECOND),
            timeout: TIMEOUT,
        }
    }
}

fn rate_flag(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rate @ 1..=1_000_000) => Ok(rate),
        Ok(_) | Err(_) => Err(format!("{text} is no rate (allowed: 1 to 1000000)")),
    }
}
