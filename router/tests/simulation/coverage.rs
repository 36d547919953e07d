//! What happened over all seeds, so that no property holds for want of occasions.

/// Counts of one run, or of all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    /// Depends on everything that happened; of one run.
    pub(crate) history: u64,
    pub(crate) replies: u64,
    pub(crate) errors: u64,
    pub(crate) timeouts: u64,
    pub(crate) lost: u64,
    pub(crate) misaligned: u64,
    pub(crate) unavailable: u64,
    pub(crate) queue_full: u64,
    pub(crate) not_replayable: u64,
    pub(crate) deadlines: u64,
    pub(crate) no_healthy_server: u64,
    pub(crate) failovers: u64,
    pub(crate) late_replies: u64,
    pub(crate) tombstones: u64,
    pub(crate) repeats: u64,
    pub(crate) refused_requests: u64,
    pub(crate) paused: u64,
    pub(crate) slow_clients: u64,
    pub(crate) told_off: u64,
    pub(crate) turned_away: u64,
    pub(crate) idle_clients: u64,
    pub(crate) suspects: u64,
    pub(crate) standings: u64,
    pub(crate) reloads: u64,
    pub(crate) old_tables: u64,
    pub(crate) drains: u64,
    pub(crate) drained_clients: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Coverage) {
        for ((_, mine), (_, theirs)) in self.all().into_iter().zip(other.clone().all()) {
            *mine += *theirs;
        }
    }

    /// The names of what never happened.
    pub(crate) fn missing(&mut self) -> Vec<&'static str> {
        self.all().into_iter().filter(|(_, count)| **count == 0).map(|(name, _)| name).collect()
    }

    fn all(&mut self) -> [(&'static str, &mut u64); 26] {
        [
            ("replies", &mut self.replies),
            ("errors", &mut self.errors),
            ("timeouts", &mut self.timeouts),
            ("lost", &mut self.lost),
            ("misaligned", &mut self.misaligned),
            ("unavailable", &mut self.unavailable),
            ("queue full", &mut self.queue_full),
            ("not replayable", &mut self.not_replayable),
            ("deadlines", &mut self.deadlines),
            ("no healthy server", &mut self.no_healthy_server),
            ("failovers", &mut self.failovers),
            ("late replies", &mut self.late_replies),
            ("tombstones", &mut self.tombstones),
            ("repeats", &mut self.repeats),
            ("refused requests", &mut self.refused_requests),
            ("paused clients", &mut self.paused),
            ("slow clients cut", &mut self.slow_clients),
            ("clients told off", &mut self.told_off),
            ("clients turned away", &mut self.turned_away),
            ("idle clients closed", &mut self.idle_clients),
            ("suspects", &mut self.suspects),
            ("standings", &mut self.standings),
            ("reloads", &mut self.reloads),
            ("requests on an older table", &mut self.old_tables),
            ("drains", &mut self.drains),
            ("clients drained", &mut self.drained_clients),
        ]
    }
}
