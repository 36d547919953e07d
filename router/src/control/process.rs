//! What the kernel knows of this process. Read from /proc; zero where that can't be read.

/// CPU time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessUsage {
    pub(super) user_seconds: f64,
    pub(super) system_seconds: f64,
    pub(super) resident_bytes: u64,
}

/// `USER_HZ`, which Linux shows to programs as 100 whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

impl ProcessUsage {
    pub(super) fn read() -> ProcessUsage {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let [user_seconds, system_seconds] = cpu_seconds(&text("/proc/self/stat")).unwrap_or_default();
        let resident_bytes = resident_bytes(&text("/proc/self/status")).unwrap_or_default();
        ProcessUsage { user_seconds, system_seconds, resident_bytes }
    }
}

/// Fields 14 and 15 of /proc/self/stat. The second field is a name in parentheses that may hold anything.
fn cpu_seconds(stat: &str) -> Option<[f64; 2]> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(|field| field.parse::<f64>().ok());
    Some([ticks.next()?? / TICKS_PER_SECOND, ticks.next()?? / TICKS_PER_SECOND])
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = "42 (odd) name) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 3 0 999";
        assert_eq!(cpu_seconds(stat), Some([1.5, 0.25]));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(resident_bytes("VmPeak:\t1 kB\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        assert_eq!(resident_bytes(""), None);
        assert!(ProcessUsage::read().resident_bytes > 0);
    }
}
