//! What the control plane says to a shard: tables, health and addresses of servers, snapshots, drain.

use super::record::Record;
use super::session::{Ending, SessionId};
use super::upstream::{Connection, Link, Server};
use super::{Shard, TableState};
use crate::messages::{FromShard, ToShard};
use crate::metrics::CloseReason;
use crate::table::{ServerKey, Standing, Table};
use crate::trouble::{DownRules, Trouble};
use keyway_io_engine::{Address, Closing, Io, Nanos, Reading};
use keyway_policies::{Failure, ServerId};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

impl Shard {
    pub(super) fn told<I: Io>(&mut self, io: &mut I, message: ToShard) {
        match message {
            ToShard::Table(table) => {
                self.adopt_table(table);
                self.close_unused_servers(io);
            }
            ToShard::Server { key, up, why, address } => self.server_told(io, key, up, why, address),
            ToShard::Standings { generation, changes } => self.standings_told(generation, &changes),
            ToShard::Snapshot => self.send_snapshot(io),
            ToShard::Stats(stats) => {
                // Seconds are enough here: what goes by the date is told in seconds.
                self.set_clock(stats.time_seconds * 1000);
                self.stats = Some(stats);
            }
            ToShard::Drain(longest) => self.start_drain(io, longest),
            ToShard::Spooled { tickets } => self.spooled(&tickets),
        }
    }

    // --- tables ---

    /// Routes by `table` from now on. Requests in flight stay on the table they started with.
    pub(super) fn adopt_table(&mut self, table: Arc<Table>) {
        self.limits = table.limits;
        self.admin_keys = table.admin_keys;
        for server in &table.servers {
            self.ensure_server(server.key, &table.pools[server.pool]);
        }
        self.adopt_rules(&table);
        self.metrics.ensure_servers(self.servers.len());
        let servers = table.servers.len();
        let standings = vec![Standing::default(); servers];
        let route_states = table.routes.iter().map(|route| route.routes.states(self.random, table.host_id)).collect();
        let state =
            TableState { health: vec![0; servers], standings, route_states, table, live: 0, adopted_at: self.now };
        let previous = self.current;
        match self.tables.iter().position(Option::is_none) {
            Some(free) => {
                self.tables[free] = Some(state);
                self.current = free;
            }
            None => {
                self.tables.push(Some(state));
                self.current = self.tables.len() - 1;
            }
        }
        if previous != self.current {
            self.retire_table(previous);
        }
        self.refresh_health();
    }

    fn ensure_server(&mut self, key: ServerKey, pool: &crate::table::TablePool) {
        let index = key.0 as usize;
        if index >= self.servers.len() {
            self.servers.resize_with(index + 1, || None);
        }
        if self.servers[index].is_some() {
            return;
        }
        let connections = self.make_connections(index, usize::from(pool.connections));
        self.servers[index] = Some(Server {
            pool: pool.clone(),
            address: None,
            healthy: true,
            up: false,
            trouble: None,
            rules: pool.down,
            record: Record::default(),
            connections,
        });
    }

    /// A server keeps its connections across reloads, and across pools; how many failures are too many may change.
    fn adopt_rules(&mut self, table: &Table) {
        let mut rules: Vec<Option<DownRules>> = vec![None; self.servers.len()];
        for server in &table.servers {
            let of_pool = table.pools[server.pool].down;
            let rules = &mut rules[server.key.0 as usize];
            *rules = Some(rules.map_or(of_pool, |rules| rules.strictest(of_pool)));
        }
        for (server, rules) in self.servers.iter_mut().zip(rules) {
            if let (Some(server), Some(rules)) = (server, rules) {
                server.rules = rules;
            }
        }
    }

    fn make_connections(&mut self, server: usize, count: usize) -> Range<usize> {
        let limits = self.text_limits();
        if let Some(place) = self.free_connections.iter().position(|free| free.len() == count) {
            let range = self.free_connections.swap_remove(place);
            for index in range.clone() {
                // Still listed as dirty at the most; that is harmless and must not be forgotten.
                let dirty = self.connections[index].dirty;
                self.connections[index] = Connection::new(server, limits);
                self.connections[index].dirty = dirty;
            }
            return range;
        }
        let start = self.connections.len();
        self.connections.extend((0..count).map(|_| Connection::new(server, limits)));
        start..start + count
    }

    /// A request of `table` was answered; an older table goes with its last request.
    pub(super) fn table_released(&mut self, table: usize) {
        let state = self.tables[table].as_mut().expect("a table with live requests stays");
        state.live -= 1;
        if state.live == 0 && table != self.current {
            self.retire_table(table);
            self.servers_may_be_unused = true;
        }
    }

    fn retire_table(&mut self, table: usize) {
        if self.tables[table].as_ref().is_some_and(|state| state.live == 0) {
            self.collect_route_events();
            self.tables[table] = None;
        }
    }

    /// Closes the connections of servers that no table in use names.
    pub(super) fn close_unused_servers<I: Io>(&mut self, io: &mut I) {
        let mut used = vec![false; self.servers.len()];
        for state in self.tables.iter().flatten() {
            for server in &state.table.servers {
                used[server.key.0 as usize] = true;
            }
        }
        for (index, used) in used.into_iter().enumerate() {
            if used {
                continue;
            }
            if let Some(server) = self.servers[index].take() {
                for connection in server.connections.clone() {
                    self.give_up_connection(io, connection);
                }
                self.free_connections.push(server.connections);
            }
        }
        self.servers_may_be_unused = false;
    }

    // --- servers ---

    fn server_told<I: Io>(
        &mut self,
        io: &mut I,
        key: ServerKey,
        up: bool,
        why: Option<Trouble>,
        address: Option<Address>,
    ) {
        let Some(server) = self.servers.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        let moved = server.address.is_some() && server.address != address;
        server.healthy = up;
        server.trouble = why;
        server.address = address;
        let connections = server.connections.clone();
        for index in connections {
            if moved {
                self.lose_connection(io, index, Failure::ConnectionLost);
            }
            let connection = &mut self.connections[index];
            if up && matches!(connection.link, Link::Idle { .. }) {
                connection.link = Link::Idle { not_before: self.now };
                connection.reset_backoff();
                self.mark_connection_dirty(index);
            }
        }
        // Last: the connections closed above were to an address that no longer matters.
        if let Some(server) = self.servers[key.0 as usize].as_mut().filter(|server| server.healthy) {
            server.record = Record::default();
        }
        self.refresh_health();
    }

    /// A table that is gone by now needs none of it; requests that finish on an older one do so by what was known.
    fn standings_told(&mut self, generation: u64, changes: &[(ServerId, Standing)]) {
        let told = self.tables.iter_mut().flatten().find(|state| state.table.generation == generation);
        let Some(state) = told else { return };
        for (server, standing) in changes {
            state.standings[server.0 as usize] = *standing;
        }
        self.refresh_health();
    }

    /// Recomputes which servers take requests, for every table in use.
    pub(super) fn refresh_health(&mut self) {
        for server in self.servers.iter_mut().flatten() {
            server.up = server.healthy && server.address.is_some();
        }
        for state in self.tables.iter_mut().flatten() {
            for ((health, standing), place) in state.health.iter_mut().zip(&state.standings).zip(&state.table.servers) {
                let Some(server) = self.servers[place.key.0 as usize].as_mut() else { continue };
                let has_address = server.address.is_some();
                let share = standing.share_now(server.healthy);
                *health = if has_address { share } else { 0 };
                server.up |= has_address && standing.is_asked(server.healthy);
            }
        }
    }

    fn send_snapshot<I: Io>(&mut self, io: &mut I) {
        self.metrics.clients = self.sessions.len() as u64;
        self.metrics.in_flight = self.in_flight as u64;
        self.metrics.slots = self.requests.len() as u64;
        self.metrics.engine = io.counters();
        self.collect_route_events();
        for (server, metrics) in self.servers.iter().zip(&mut self.metrics.servers) {
            let connections = server.as_ref().map_or(&[][..], |server| &self.connections[server.connections.clone()]);
            let queued: usize = connections.iter().map(|connection| connection.fifo.len()).sum();
            let unsent: usize = connections.iter().map(|connection| connection.unsent).sum();
            metrics.pending = unsent as u64;
            metrics.in_flight = queued.saturating_sub(unsent) as u64;
            metrics.failures_in_row = server.as_ref().map_or(0, |server| u64::from(server.record.failures_in_row()));
        }
        let metrics = Box::new(self.metrics.clone());
        self.report(FromShard::Snapshot { shard: self.number, metrics });
    }

    fn collect_route_events(&mut self) {
        for state in self.tables.iter_mut().flatten().flat_map(|table| &mut table.route_states) {
            self.metrics.route_events(&state.take_events());
        }
    }

    // --- drain ---

    fn start_drain<I: Io>(&mut self, io: &mut I, longest: Duration) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(self.now + longest.as_nanos() as Nanos);
        io.stop_accepting();
        self.each_session(|shard, id| {
            let session = &mut shard.sessions[id];
            if session.ending == Ending::No {
                session.ending = Ending::AfterInput;
                session.why = Some(CloseReason::Drained);
            }
            if let Some(conn) = session.conn
                && !session.reading_off
            {
                session.reading_off = true;
                io.set_reading(conn, Reading::Off);
            }
            shard.mark_session_dirty(id);
        });
    }

    pub(super) fn finish_drain<I: Io>(&mut self, io: &mut I) {
        if self.servers_may_be_unused {
            self.close_unused_servers(io);
        }
        let Some(until) = self.draining else { return };
        if self.finished || (self.sessions.len() > 0 && self.now < until) {
            return;
        }
        let cut = self.sessions.len();
        self.each_session(|shard, id| shard.close_session(io, id, Closing::Now, CloseReason::Drained));
        for index in 0..self.connections.len() {
            self.give_up_connection(io, index);
        }
        self.finished = true;
        self.report(FromShard::Drained { shard: self.number, cut });
    }

    fn each_session(&mut self, mut act: impl FnMut(&mut Shard, SessionId)) {
        for index in 0..self.sessions.capacity() {
            if let Some(id) = self.sessions.id_at(index) {
                act(self, id);
            }
        }
    }
}
