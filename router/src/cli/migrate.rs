//! The verbs `import` and `moved-keys` on the command line.

use super::{ConfigParams, Exit, Invocation, fail, params_flag, refuse, say, whole};
use crate::config::{Config, Overrides};
use crate::import::{self, Imported, Source};
use crate::moved_keys::{MAX_SAMPLE_KEYS, SAMPLE_KEYS, Sample, moved_keys};
use argh::FromArgs;
use std::path::Path;

/// Print another router's configuration as one for keyway, and on standard error what of it isn't carried over.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "import", help_triggers("-h", "--help"))]
pub(super) struct ImportArguments {
    /// whose it is, when its text doesn't tell: nutcracker, mcrouter, gomcrouter or overlord
    #[argh(option, arg_name = "router", from_str_fn(source_flag))]
    from: Option<Source>,

    /// parameters for the macros of an mcrouter file: name:value,name:value
    #[argh(option, arg_name = "params", from_str_fn(params_flag))]
    config_params: Option<ConfigParams>,

    /// the file
    #[argh(positional)]
    file: String,
}

/// Print which share of keys changes its server between two configurations, of keyway or of the routers import knows.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "moved-keys", help_triggers("-h", "--help"))]
pub(super) struct MovedKeysArguments {
    /// a file with the keys to try, one in each line
    #[argh(option, arg_name = "file")]
    keys: Option<String>,

    /// how many keys to make up and try (default: 100000)
    #[argh(option, arg_name = "count", from_str_fn(sample_flag))]
    sample: Option<usize>,

    /// print JSON
    #[argh(switch)]
    json: bool,

    /// the configuration as it is
    #[argh(positional)]
    old: String,

    /// the configuration as it is to be
    #[argh(positional)]
    new: String,
}

impl ImportArguments {
    /// `keyway import`
    pub(super) fn answer(self, mut overrides: Overrides) -> Invocation {
        overrides.config_params.extend(self.config_params.unwrap_or_default());
        let path = Path::new(&self.file);
        let imported =
            Config::read_file(path).and_then(|bytes| import::import(&bytes, &self.file, self.from, &overrides));
        match imported {
            Err(errors) => fail(errors.to_string()),
            Ok(Imported { yaml, notes, refused, .. }) => {
                let code = u8::from(refused.is_some());
                let refused = refused.map(|errors| format!("{errors}\n")).unwrap_or_default();
                Invocation::Exit(Exit { code, out: yaml, error: format!("{notes}{refused}") })
            }
        }
    }
}

impl MovedKeysArguments {
    /// `keyway moved-keys`
    pub(super) fn answer(&self, overrides: &Overrides) -> Invocation {
        let sample = match (&self.keys, self.sample) {
            (Some(_), Some(_)) => return refuse("--keys and --sample can't stand together".to_owned()),
            (None, count) => Sample::Generated(count.unwrap_or(SAMPLE_KEYS)),
            (Some(file), None) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("can't be read: {error}"));
                match text.and_then(|text| Sample::from_lines(&text)) {
                    Ok(sample) => sample,
                    Err(problem) => return fail(format!("{file}: {problem}")),
                }
            }
        };
        let load = |file: &str| import::load_any(Path::new(file), overrides);
        match (load(&self.old), load(&self.new)) {
            (Ok(old), Ok(new)) => {
                let moved = moved_keys(&old, &new, &sample);
                say(if self.json { moved.to_json() } else { moved.to_string() })
            }
            (Err(errors), Ok(_)) | (Ok(_), Err(errors)) => fail(errors.to_string()),
            (Err(old), Err(new)) => fail(format!("{old}\n{new}")),
        }
    }
}

fn source_flag(text: &str) -> Result<Source, String> {
    let names = || Source::ALL.map(Source::name).join(", ");
    Source::from_name(text).ok_or_else(|| format!("{text} is no router that is known (allowed: {})", names()))
}

fn sample_flag(text: &str) -> Result<usize, String> {
    let count = usize::try_from(whole(text)?).unwrap_or(usize::MAX);
    let is_good = (1..=MAX_SAMPLE_KEYS).contains(&count);
    if is_good { Ok(count) } else { Err(format!("{text} is out of range (allowed: 1 to {MAX_SAMPLE_KEYS})")) }
}
