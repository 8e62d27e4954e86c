//! What the master counts: reloads, restarts, alerts; and whose column of the shared table is
//! whose. Without a table it counts nothing.

use crate::base::time::Instant;
use crate::metric::bundle::{MasterMetrics, RestartMetrics, RestartSlots};
use crate::metric::label::Outcome;
use crate::metric::{Column, Columns, Full, Owner, Registry, Role, Table};
use crate::sys::{process, wall};

/// The counts of the master and the book of columns.
#[derive(Debug)]
pub struct Counts {
    table: Option<Table>,
    columns: Option<Columns>,
    own: Option<Column>,
    metrics: MasterMetrics,
    restarts: Vec<RestartSlots>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            table: None,
            columns: None,
            own: None,
            metrics: MasterMetrics::sink(),
            restarts: Vec::new(),
        }
    }
}

impl Counts {
    /// Takes the slots for a configuration with so many workers.
    ///
    /// # Errors
    /// When the table is full.
    pub fn prepare(
        &mut self,
        registry: &mut Registry,
        table: Table,
        workers: u32,
        now: Instant,
    ) -> Result<(), Full> {
        let slots = MasterMetrics::register(registry, &[])?;
        if self.own.is_none() {
            let mut columns = Columns::new(table.layout());
            let own = columns.take().map(|index| table.column(index));
            if let Some(column) = &own {
                column.take(Owner {
                    pid: u32::try_from(process::own_pid().0).unwrap_or(0),
                    role: Role::Master,
                    worker: 0,
                    thread: 0,
                    generation: 0,
                    started: now,
                    heartbeat: now,
                });
                self.metrics = slots.bind(column);
                self.metrics.start_time.set(wall::now().as_secs());
            }
            self.own = own;
            self.columns = Some(columns);
            self.table = Some(table);
        }
        for worker in self.restarts.len()..usize::try_from(workers).unwrap_or(0) {
            let slots = RestartMetrics::register(registry, &[&worker.to_string()])?;
            self.restarts.push(slots);
        }
        Ok(())
    }

    /// Columns for a new process; without a table, numbers that lead nowhere.
    ///
    /// # Errors
    /// When there are not enough.
    pub fn take(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let Some(columns) = &mut self.columns else {
            return Ok(vec![usize::MAX; count]);
        };
        let mut taken = Vec::new();
        for _ in 0..count {
            match columns.take() {
                Some(column) => taken.push(column),
                None => {
                    taken.into_iter().for_each(|c| columns.give_back(c));
                    return Err("no column of the shared table is free".to_owned());
                }
            }
        }
        Ok(taken)
    }

    /// The process that had these columns was reaped.
    pub fn give_back(&mut self, registry: Option<&Registry>, taken: &[usize]) {
        let (Some(columns), Some(table)) = (&mut self.columns, &self.table) else {
            return;
        };
        for &column in taken {
            if let Some(registry) = registry {
                registry.retire(table, column);
            }
            columns.give_back(column);
        }
    }

    /// The oldest heartbeat in these columns, in nanoseconds; `None` without a table.
    #[must_use]
    pub fn oldest_beat(&self, taken: &[usize]) -> Option<u64> {
        let table = self.table?;
        let beat = |&column: &usize| {
            let owner = table.owner(column);
            owner.map_or(0, |o| o.heartbeat.as_nanos())
        };
        taken.iter().map(beat).min()
    }

    /// Says that the master is alive.
    pub fn beat(&self, now: Instant) {
        if let Some(own) = &self.own {
            own.beat(now);
        }
    }

    /// A start or reload is over.
    pub fn outcome(&self, live: Option<u64>) {
        let (word, value) = match live {
            Some(generation) => {
                self.metrics.generation.set(generation);
                (Outcome::Ok, 1)
            }
            None => (Outcome::Failed, 0),
        };
        self.metrics.reload_successful.set(value);
        self.metrics.reload_time.set(wall::now().as_secs());
        self.metrics.reloads.inc(word);
    }

    /// So many generations have living workers.
    pub fn generations(&self, count: usize) {
        self.metrics
            .generations
            .set(u64::try_from(count).unwrap_or(0));
    }

    /// A worker is started again.
    pub fn restarted(&self, worker: u32) {
        let slots = usize::try_from(worker)
            .ok()
            .and_then(|w| self.restarts.get(w));
        if let (Some(slots), Some(own)) = (slots, &self.own) {
            slots.bind(own).restarts.inc();
        }
    }

    /// Somebody must look.
    pub fn alerted(&self) {
        self.metrics.alerts.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Layout, encode};

    fn counts() -> (Counts, Registry, Table) {
        let layout = Layout::new(6, 4096);
        let table = Table::heap_with(layout);
        let mut registry = Registry::new(layout, &[]);
        let mut counts = Counts::default();
        counts
            .prepare(&mut registry, table, 2, Instant::from_nanos(5))
            .unwrap();
        (counts, registry, table)
    }

    #[test]
    fn what_happens_can_be_scraped() {
        let (counts, registry, table) = counts();
        counts.outcome(Some(3));
        counts.outcome(None);
        counts.generations(2);
        counts.restarted(1);
        counts.restarted(99);
        counts.alerted();
        let text = String::from_utf8(encode(&registry, &table, &[]).unwrap()).unwrap();
        for line in [
            "proxyd_config_generation 3",
            "proxyd_config_generations_active 2",
            "proxyd_config_last_reload_successful 0",
            "proxyd_config_reloads_total{result=\"ok\"} 1",
            "proxyd_config_reloads_total{result=\"failed\"} 1",
            "proxyd_worker_restarts_total{worker=\"1\"} 1",
            "proxyd_alerts_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn columns_come_back_and_run_out_as_a_whole() {
        let (mut counts, registry, table) = counts();
        let first = counts.take(2).unwrap();
        let second = counts.take(2).unwrap();
        assert!(counts.take(1).is_err());
        counts.give_back(Some(&registry), &first);
        assert!(counts.take(3).is_err());
        assert_eq!(counts.take(2).unwrap(), first);
        assert_eq!(counts.oldest_beat(&second), Some(0));
        let owner = |column: usize, at| {
            let now = Instant::from_nanos(at);
            table.column(column).take(Owner {
                pid: 1,
                role: Role::Worker,
                worker: 0,
                thread: 0,
                generation: 1,
                started: now,
                heartbeat: now,
            });
        };
        owner(second[0], 70);
        assert_eq!(counts.oldest_beat(&second), Some(0));
        owner(second[1], 60);
        assert_eq!(counts.oldest_beat(&second), Some(60));
    }

    #[test]
    fn without_a_table_everything_goes_nowhere() {
        let mut counts = Counts::default();
        let taken = counts.take(3).unwrap();
        assert_eq!(taken, [usize::MAX; 3]);
        counts.give_back(None, &taken);
        assert_eq!(counts.oldest_beat(&taken), None);
        counts.outcome(Some(1));
        counts.restarted(0);
        counts.beat(Instant::ZERO);
    }
}
