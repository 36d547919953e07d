//! Any bytes as a configuration, of ours or of another router: no panic, faults with places in the file, a table for
//! whatever is accepted, and printed YAML that is taken again.

#![no_main]

use keyway::config::{Config, MAX_FAULTS, Overrides, Place};
use keyway::import::{Source, import};
use keyway::table::ServerKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As YAML or what it looks like, as JSON with macros, and as every other router's.
    for file in ["fuzz.yaml", "fuzz.json"] {
        read(bytes, file);
    }
    for source in Source::ALL {
        if let Ok(imported) = import(bytes, "fuzz.yaml", Some(source), &Overrides::default())
            && imported.refused.is_none()
        {
            let printed = Config::parse(imported.yaml.as_bytes(), "fuzz.yaml", &Overrides::default());
            assert!(printed.is_ok(), "{printed:?}\n{}", imported.yaml);
        }
    }
});

fn read(bytes: &[u8], file: &str) {
    match Config::parse(bytes, file, &Overrides::default()) {
        Ok(config) => {
            let mut next = 0;
            let table = config.table(1, &mut |_| {
                next += 1;
                ServerKey(next)
            });
            assert_eq!(table.listener_routes.len(), config.listeners.len());
            assert!(!table.listener_routes.is_empty());
            for route in &table.listener_routes {
                for server in table.routes[*route].routes.servers() {
                    assert!(table.servers[server.0 as usize].pool < table.pools.len());
                }
            }
            assert!(config.memory_bound(1).bytes() > 0);
        }
        Err(errors) => {
            assert!((1..=MAX_FAULTS).contains(&errors.faults.len()));
            // The end of the file counts as a line of its own.
            let lines = 2 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
            for fault in &errors.faults {
                assert!(!fault.problem.is_empty());
                if let Place::At(position) = fault.place {
                    assert!((1..=lines).contains(&position.line) && position.column >= 1, "{errors}");
                }
            }
            assert!(errors.to_string().starts_with(file));
        }
    }
}
