//! Every edge of the supervisor by name, and random orders of events with the invariants of the
//! module checked after each step. A failing seed is printed; `PROXYD_SEED` runs it alone.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const S: Duration = Duration::from_secs(1);

fn params() -> Params {
    Params {
        workers: 2,
        admin: true,
        demo: false,
        ready_timeout: 30 * S,
        stop_timeout: 30 * S,
        drain_timeout: 20 * S,
        drain_timeout_upgraded: 100 * S,
        drain_longest: 100 * S,
        drain_memory_max: 1000,
        max_generations: 3,
        drain_spread: 10 * S,
        reload_debounce: S,
        heartbeat_timeout: 10 * S,
        restart: Policy {
            delay: 5 * S,
            max: 5,
            window: 300 * S,
            alert_after: 3,
        },
    }
}

/// What the world outside the supervisor knows, and the rules it holds it to.
struct World {
    supervisor: Supervisor,
    now: Instant,
    params: Params,
    /// Children that were forked and did not end.
    alive: BTreeMap<ChildId, Known>,
    known_params: BTreeMap<u64, Params>,
    live: Option<u64>,
    loading: Option<u64>,
    starting: Option<u64>,
    stopping: bool,
    left: Option<u8>,
    outcomes: Vec<Result<u64, String>>,
    log: Vec<Action>,
}

#[derive(Clone, Debug)]
struct Known {
    role: Role,
    generation: u64,
    ready: bool,
    serving: bool,
    told: bool,
    killed: bool,
}

impl World {
    fn new() -> Self {
        Self {
            supervisor: Supervisor::new(),
            now: Instant::from_nanos(1_000_000_000_000),
            params: params(),
            alive: BTreeMap::new(),
            known_params: BTreeMap::new(),
            live: None,
            loading: None,
            starting: None,
            stopping: false,
            left: None,
            outcomes: Vec::new(),
            log: Vec::new(),
        }
    }

    /// A world with one generation that serves, its admin process included.
    fn serving(params: Params) -> Self {
        let mut world = Self::new();
        world.params = params;
        world.event(Event::Reload);
        world.load();
        world.all_ready();
        assert_eq!(world.live, Some(1));
        world.log.clear();
        world
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        match &event {
            Event::Stop | Event::Quit => self.stopping = true,
            Event::Exited(child, _) | Event::ForkFailed(child, _) => {
                assert!(self.alive.remove(child).is_some());
            }
            Event::Ready(child) => {
                if let Some(known) = self.alive.get_mut(child) {
                    known.ready = true;
                }
            }
            Event::Loaded(Ok(params)) => {
                let number = self.loading.unwrap();
                self.known_params.insert(number, (**params).clone());
                self.starting = self.loading.take();
            }
            Event::Loaded(Err(_)) => self.loading = None,
            _ => {}
        }
        let actions = self.supervisor.step(self.now, event);
        for action in &actions {
            self.check(action);
        }
        self.check_state();
        self.log.extend(actions.iter().cloned());
        actions
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now = self.now + time;
        self.event(Event::Tick)
    }

    /// Answers the wish to load.
    fn load(&mut self) -> Vec<Action> {
        let params = Box::new(self.params.clone());
        self.event(Event::Loaded(Ok(params)))
    }

    fn reload(&mut self) {
        self.event(Event::Reload);
        self.pass(S);
        assert!(self.loading.is_some(), "no reload began");
        self.load();
    }

    fn all_ready(&mut self) {
        let waiting: Vec<ChildId> = self.find(|k| !k.ready && !k.killed);
        for child in waiting {
            self.event(Event::Ready(child));
        }
        let admin: Vec<ChildId> = self.find(|k| !k.ready && !k.killed);
        for child in admin {
            self.event(Event::Ready(child));
        }
    }

    fn find(&self, wanted: impl Fn(&Known) -> bool) -> Vec<ChildId> {
        let found = self.alive.iter().filter(|(_, k)| wanted(k));
        found.map(|(id, _)| *id).collect()
    }

    fn workers(&self, generation: u64) -> Vec<ChildId> {
        self.find(|k| k.generation == generation && matches!(k.role, Role::Worker(_)))
    }

    fn crash(&mut self, child: ChildId) -> Vec<Action> {
        self.event(Event::Exited(child, Exit::Signal(11)))
    }

    fn leave(&mut self, child: ChildId) -> Vec<Action> {
        self.event(Event::Exited(child, Exit::Code(0)))
    }

    /// The rules for a single action.
    fn check(&mut self, action: &Action) {
        assert!(self.left.is_none(), "{action:?} after the end");
        match action {
            Action::Load(number) => {
                assert!(
                    self.loading.is_none() && self.starting.is_none(),
                    "two reloads"
                );
                assert!(!self.stopping);
                self.loading = Some(*number);
            }
            Action::Fork {
                child,
                role,
                generation,
            } => self.check_fork(*child, *role, *generation),
            Action::Terminate(child) => {
                let known = self.alive.get_mut(child).expect("terminates the dead");
                assert!(!matches!(known.role, Role::Worker(_)));
                known.told = true;
            }
            Action::Kill(child) => {
                let known = self.alive.get_mut(child).expect("kills the dead");
                assert!(!known.killed, "kills twice");
                known.killed = true;
            }
            Action::Serve(child) => {
                let live = self.live;
                let known = self.alive.get_mut(child).expect("calls on the dead");
                assert!(known.ready && !known.serving && Some(known.generation) == live);
                known.serving = true;
            }
            Action::Drain(child, order) => {
                let known = self.alive.get_mut(child).expect("drains the dead");
                assert!(known.ready && known.serving && !known.killed);
                assert!(matches!(known.role, Role::Worker(_)));
                if !order.stopping {
                    let live = self.live.expect("drains without a live generation");
                    assert!(known.generation < live);
                }
                known.told = true;
            }
            Action::Close(child, _) => {
                let known = self.alive.get(child).expect("closes the dead");
                assert!(known.told && Some(known.generation) != self.live);
            }
            Action::Live(number) => {
                let wanted = self.known_params[number].workers as usize;
                let workers = self.workers(*number);
                assert_eq!(workers.len(), wanted);
                assert!(workers.iter().all(|w| self.alive[w].ready));
                assert_eq!(self.starting.take(), Some(*number));
                self.live = Some(*number);
            }
            Action::Discard(number) => {
                assert_ne!(self.live, Some(*number), "forgets the live generation");
                let of_it = |k: &Known| k.generation == *number && k.role != Role::Admin;
                assert!(self.find(of_it).is_empty(), "forgets the living");
                self.known_params.remove(number);
            }
            Action::Outcome(result) => {
                if result.is_err() {
                    self.starting = None;
                }
                self.outcomes.push(result.clone());
            }
            Action::Leave(code) => {
                assert!(self.alive.is_empty(), "leaves children behind");
                self.left = Some(*code);
            }
            Action::Restart { .. }
            | Action::Alert { .. }
            | Action::Silent(..)
            | Action::Stopping => {}
        }
    }

    fn check_fork(&mut self, child: ChildId, role: Role, generation: u64) {
        assert!(!self.stopping, "forks after a stop");
        let twin = self.find(|k| k.role == role && k.generation == generation && !k.killed);
        assert!(role == Role::Admin || twin.is_empty(), "{role} twice");
        let known = Known {
            role,
            generation,
            ready: false,
            serving: false,
            told: false,
            killed: false,
        };
        assert!(self.alive.insert(child, known).is_none(), "id used twice");
    }

    /// The rules between steps.
    fn check_state(&self) {
        let ids: BTreeSet<ChildId> = self.supervisor.children.keys().copied().collect();
        assert!(ids.iter().eq(self.alive.keys()), "children differ");
        if let Some(number) = self.live
            && !self.stopping
        {
            assert_eq!(self.supervisor.live(), self.live, "nobody serves");
            let wanted = self.known_params[&number].workers;
            let live = &self.supervisor.generations[&number];
            assert_eq!(live.workers.len(), wanted as usize);
            for slot in &live.workers {
                assert!(
                    slot.child.is_some() != slot.restart_at.is_some(),
                    "{slot:?}"
                );
            }
        }
        let idle = |k: &Known| {
            matches!(k.role, Role::Worker(_)) && Some(k.generation) == self.live && k.ready
        };
        assert!(
            self.find(|k| idle(k) && !k.serving).is_empty(),
            "not told to serve"
        );
        let admins = self.find(|k| k.role == Role::Admin && !k.told && !k.killed);
        assert!(admins.len() <= 2);
    }

    fn said(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.log.iter().filter(|a| wanted(a)).count()
    }
}

fn forks(actions: &[Action]) -> Vec<(Role, u64)> {
    let fork = |a: &Action| match a {
        Action::Fork {
            role, generation, ..
        } => Some((*role, *generation)),
        _ => None,
    };
    actions.iter().filter_map(fork).collect()
}

// === start ===

#[test]
fn the_first_start_is_immediate_and_serves_when_all_are_ready() {
    let mut world = World::new();
    world.params.demo = true;
    assert_eq!(world.event(Event::Reload), [Action::Load(1)]);
    let forked = forks(&world.load());
    assert_eq!(
        forked,
        [(Role::Demo, 1), (Role::Worker(0), 1), (Role::Worker(1), 1)]
    );
    let workers = world.workers(1);
    assert_eq!(world.event(Event::Ready(workers[1])), []);
    let actions = world.event(Event::Ready(workers[0]));
    let begin = [
        Action::Live(1),
        Action::Serve(workers[0]),
        Action::Serve(workers[1]),
        Action::Outcome(Ok(1)),
    ];
    assert_eq!(actions[..4], begin);
    assert_eq!(forks(&actions), [(Role::Admin, 1)]);
}

#[test]
fn a_start_with_a_bad_configuration_ends_with_code_1() {
    let mut world = World::new();
    world.event(Event::Reload);
    let actions = world.event(Event::Loaded(Err("line 3".to_owned())));
    let failed = Action::Outcome(Err("line 3".to_owned()));
    assert_eq!(actions, [failed, Action::Leave(1)]);
}

#[test]
fn a_start_in_which_a_worker_fails_ends_with_code_1() {
    let mut world = World::new();
    world.event(Event::Reload);
    world.load();
    let workers = world.workers(1);
    world.event(Event::Ready(workers[0]));
    world.event(Event::Failed(workers[1], "no key".to_owned()));
    let text = "worker 1 of generation 1: no key";
    assert_eq!(world.outcomes, [Err(text.to_owned())]);
    world.leave(workers[1]);
    assert_eq!(world.left, None);
    let actions = world.crash(workers[0]);
    assert_eq!(actions, [Action::Discard(1), Action::Leave(1)]);
}

#[test]
fn a_start_that_takes_too_long_fails() {
    let mut world = World::new();
    world.event(Event::Reload);
    world.load();
    assert_eq!(world.supervisor.deadline(), Some(world.now + 30 * S));
    world.pass(30 * S);
    let text = "worker 0 of generation 1: not ready in time";
    assert_eq!(world.outcomes, [Err(text.to_owned())]);
}

#[test]
fn a_stop_during_the_first_start_ends_it() {
    let mut world = World::new();
    world.event(Event::Reload);
    world.load();
    world.event(Event::Stop);
    for child in world.find(|k| k.killed) {
        world.crash(child);
    }
    assert_eq!(world.left, Some(0));
}

// === reload ===

#[test]
fn an_old_generation_drains_only_after_all_new_workers_are_ready() {
    let mut world = World::serving(params());
    let old = world.workers(1);
    world.reload();
    let new = world.workers(2);
    assert_eq!(world.event(Event::Ready(new[0])), []);
    let actions = world.event(Event::Ready(new[1]));
    let order = Drain {
        ordinary: Some(20 * S),
        upgraded: Some(100 * S),
        stopping: false,
    };
    assert_eq!(
        actions[..6],
        [
            Action::Live(2),
            Action::Serve(new[0]),
            Action::Serve(new[1]),
            Action::Drain(old[0], order),
            Action::Drain(old[1], order),
            Action::Outcome(Ok(2))
        ]
    );
    world.leave(old[0]);
    assert_eq!(world.leave(old[1]), [Action::Discard(1)]);
    assert_eq!(world.said(|a| matches!(a, Action::Restart { .. })), 0);
}

#[test]
fn several_requests_in_a_row_make_one_reload() {
    let mut world = World::serving(params());
    for _ in 0..5 {
        assert_eq!(world.event(Event::Reload), []);
        assert_eq!(world.pass(S / 10), []);
    }
    assert_eq!(world.pass(S / 2), [Action::Load(2)]);
    world.load();
    world.all_ready();
    world.pass(10 * S);
    assert_eq!(world.said(|a| matches!(a, Action::Load(_))), 1);
}

#[test]
fn a_request_during_a_reload_is_done_after_it() {
    let mut world = World::serving(params());
    world.reload();
    world.event(Event::Reload);
    world.event(Event::Reload);
    assert_eq!(world.pass(5 * S), []);
    world.all_ready();
    assert_eq!(world.live, Some(2));
    assert_eq!(world.loading, Some(3));
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let mut world = World::serving(params());
    world.event(Event::Reload);
    world.pass(S);
    let actions = world.event(Event::Loaded(Err("bad".to_owned())));
    assert_eq!(actions, [Action::Outcome(Err("bad".to_owned()))]);
    assert_eq!(world.live, Some(1));
    // The number is not used up, and the next one works.
    world.reload();
    world.all_ready();
    assert_eq!(world.live, Some(2));
}

#[test]
fn a_new_worker_that_dies_fails_the_reload_and_leaves_the_old_alone() {
    let mut world = World::serving(params());
    world.reload();
    let new = world.workers(2);
    world.event(Event::Ready(new[0]));
    let actions = world.crash(new[1]);
    let text = "worker 1 of generation 2: ended by SIGSEGV".to_owned();
    assert_eq!(actions, [Action::Kill(new[0]), Action::Outcome(Err(text))]);
    assert_eq!(world.crash(new[0]), [Action::Discard(2)]);
    assert_eq!(world.live, Some(1));
    assert_eq!(world.said(|a| matches!(a, Action::Drain(..))), 0);
}

#[test]
fn a_new_worker_that_cannot_be_forked_fails_the_reload() {
    let mut world = World::serving(params());
    world.reload();
    let new = world.workers(2);
    world.event(Event::ForkFailed(new[0], "no memory".to_owned()));
    let text = "worker 0 of generation 2: no memory";
    assert_eq!(world.outcomes.last(), Some(&Err(text.to_owned())));
}

#[test]
fn an_old_worker_that_crashes_during_a_reload_is_replaced() {
    let mut world = World::serving(params());
    world.reload();
    let old = world.workers(1);
    let actions = world.crash(old[0]);
    assert_eq!(forks(&actions), [(Role::Worker(0), 1)]);
    world.all_ready();
    assert_eq!(world.live, Some(2));
}

#[test]
fn a_replacement_that_is_not_ready_at_the_switch_is_killed() {
    let mut world = World::serving(params());
    world.reload();
    let old = world.workers(1);
    world.crash(old[1]);
    let replacement = world.workers(1)[1];
    for worker in world.workers(2) {
        world.event(Event::Ready(worker));
    }
    assert!(world.alive[&replacement].killed);
    assert!(world.alive[&old[0]].told);
}

#[test]
fn a_planned_restart_is_dropped_at_the_switch() {
    let mut world = World::serving(params());
    let first = world.workers(1)[0];
    world.crash(first);
    let second = world.workers(1)[1];
    world.crash(second); // planned for later now
    world.reload();
    world.all_ready();
    let before = world.log.len();
    world.pass(60 * S);
    assert_eq!(forks(&world.log[before..]), []);
}

// === bounds of draining ===

#[test]
fn the_oldest_generation_is_closed_when_there_are_too_many() {
    let mut world = World::serving(params());
    for _ in 0..2 {
        world.reload();
        world.all_ready();
    }
    assert_eq!(world.said(|a| matches!(a, Action::Close(..))), 0);
    world.reload();
    world.all_ready();
    let closed: Vec<Action> = world
        .workers(1)
        .iter()
        .map(|w| Action::Close(*w, 10 * S))
        .collect();
    let said: Vec<Action> = world
        .log
        .iter()
        .filter(|a| matches!(a, Action::Close(..)))
        .cloned()
        .collect();
    assert_eq!(said, closed);
    world.pass(12 * S);
    assert!(world.workers(1).iter().all(|w| world.alive[w].killed));
    assert!(world.workers(2).iter().all(|w| !world.alive[w].killed));
}

#[test]
fn memory_of_draining_generations_is_bounded_oldest_first() {
    let mut world = World::serving(params());
    for _ in 0..2 {
        world.reload();
        world.all_ready();
    }
    let (oldest, middle) = (world.workers(1), world.workers(2));
    let live = world.workers(3)[0];
    world.event(Event::Memory(live, 1_000_000));
    world.event(Event::Memory(oldest[0], 500));
    world.event(Event::Memory(middle[0], 400));
    assert_eq!(world.said(|a| matches!(a, Action::Close(..))), 0);
    world.event(Event::Memory(oldest[1], 200));
    let closed =
        |w: &World, of: &[ChildId]| w.said(|a| matches!(a, Action::Close(c, _) if of.contains(c)));
    assert_eq!((closed(&world, &oldest), closed(&world, &middle)), (2, 0));
    // What is being closed counts no more, so the next one is not touched.
    world.event(Event::Memory(middle[1], 500));
    assert_eq!(closed(&world, &middle), 0);
    world.event(Event::Memory(middle[1], 601));
    assert_eq!(closed(&world, &middle), 2);
}

#[test]
fn a_worker_that_ignores_its_drain_bound_is_killed() {
    let mut world = World::serving(params());
    let old = world.workers(1);
    world.reload();
    world.all_ready();
    world.pass(101 * S);
    assert!(!world.alive[&old[0]].killed);
    world.pass(S);
    assert!(world.alive[&old[0]].killed);
    world.crash(old[0]);
    world.crash(old[1]);
    assert_eq!(world.said(|a| matches!(a, Action::Restart { .. })), 0);
}

// === crashes and silence ===

#[test]
fn a_crash_is_replaced_at_once_then_later_and_alerts_once() {
    let mut world = World::serving(params());
    let mut delays = Vec::new();
    for _ in 0..5 {
        let worker = world.find(|k| k.role == Role::Worker(0))[0];
        for action in world.crash(worker) {
            if let Action::Restart { after, .. } = action {
                delays.push(after.as_secs());
                world.pass(after);
            }
        }
        world.all_ready();
    }
    assert_eq!(delays, [0, 5, 10, 20, 40]);
    let alerts = world.said(|a| matches!(a, Action::Alert { restarts: 3, .. }));
    assert_eq!(alerts, 1);
}

#[test]
fn a_replacement_that_never_gets_ready_is_tried_again_later() {
    let mut world = World::serving(params());
    let worker = world.workers(1)[0];
    world.crash(worker);
    let replacement = world.find(|k| !k.ready)[0];
    world.pass(30 * S);
    assert!(world.alive[&replacement].killed);
    let actions = world.crash(replacement);
    let planned = |a: &Action| {
        matches!(a, Action::Restart { after, cause, .. }
            if *after == 5 * S && cause == "not ready in time")
    };
    assert!(actions.iter().any(planned), "{actions:?}");
    assert_eq!(world.live, Some(1));
}

#[test]
fn a_silent_worker_is_killed_and_replaced() {
    let mut world = World::serving(params());
    let workers = world.workers(1);
    for beat in 1..=9 {
        world.pass(S);
        world.event(Event::Beat(workers[0], beat));
        world.event(Event::Beat(workers[1], 7));
    }
    assert_eq!(world.said(|a| matches!(a, Action::Silent(..))), 0);
    for beat in 10..=12 {
        world.pass(S);
        world.event(Event::Beat(workers[0], beat));
        world.event(Event::Beat(workers[1], 7));
    }
    assert!(world.alive[&workers[1]].killed && !world.alive[&workers[0]].killed);
    let actions = world.event(Event::Exited(workers[1], Exit::Signal(9)));
    assert_eq!(forks(&actions), [(Role::Worker(1), 1)]);
}

#[test]
fn a_master_that_slept_does_not_blame_its_workers() {
    let mut world = World::serving(params());
    let worker = world.workers(1)[0];
    world.pass(S);
    world.event(Event::Beat(worker, 5));
    world.pass(100 * S);
    world.event(Event::Beat(worker, 5));
    assert_eq!(world.said(|a| matches!(a, Action::Silent(..))), 0);
}

// === helpers ===

#[test]
fn the_admin_process_may_die_and_comes_back() {
    let mut world = World::serving(params());
    let admin = world.find(|k| k.role == Role::Admin)[0];
    let actions = world.crash(admin);
    assert_eq!(forks(&actions), [(Role::Admin, 1)]);
    assert_eq!(
        world.said(|a| matches!(a, Action::Drain(..) | Action::Kill(_))),
        0
    );
    let again = world.find(|k| k.role == Role::Admin)[0];
    world.crash(again);
    assert_eq!(world.find(|k| k.role == Role::Admin).len(), 0);
    world.pass(5 * S);
    assert_eq!(world.find(|k| k.role == Role::Admin).len(), 1);
}

#[test]
fn the_old_admin_process_stays_until_the_new_one_is_ready() {
    let mut world = World::serving(params());
    let old = world.find(|k| k.role == Role::Admin)[0];
    world.reload();
    for worker in world.workers(2) {
        world.event(Event::Ready(worker));
    }
    let new = world.find(|k| k.role == Role::Admin && k.generation == 2)[0];
    assert!(!world.alive[&old].told);
    world.crash(new);
    assert!(!world.alive[&old].told);
    let new = world.find(|k| k.role == Role::Admin && k.generation == 2)[0];
    assert_eq!(world.event(Event::Ready(new)), [Action::Terminate(old)]);
    assert_eq!(world.pass(5 * S), [Action::Kill(old)]);
}

#[test]
fn an_admin_process_that_is_not_wanted_any_more_ends() {
    let mut world = World::serving(params());
    let old = world.find(|k| k.role == Role::Admin)[0];
    world.params.admin = false;
    world.reload();
    world.all_ready();
    assert!(world.alive[&old].told);
    let before = world.log.len();
    world.leave(old);
    assert_eq!(world.log.len(), before);
}

#[test]
fn demo_servers_outlive_the_workers_of_their_generation() {
    let with_demo = Params {
        demo: true,
        ..params()
    };
    let mut world = World::serving(with_demo);
    let demo = world.find(|k| k.role == Role::Demo)[0];
    let actions = world.crash(demo);
    assert_eq!(forks(&actions), [(Role::Demo, 1)]);
    let demo = world.find(|k| k.role == Role::Demo)[0];
    world.params.demo = false;
    world.reload();
    world.all_ready();
    let old = world.workers(1);
    world.leave(old[0]);
    assert!(!world.alive[&demo].told);
    assert_eq!(world.leave(old[1]), [Action::Terminate(demo)]);
    assert_eq!(world.leave(demo), [Action::Discard(1)]);
}

// === stop ===

#[test]
fn a_stop_is_graceful_and_bounded() {
    let mut world = World::serving(params());
    let workers = world.workers(1);
    let admin = world.find(|k| k.role == Role::Admin)[0];
    let order = Drain {
        ordinary: Some(30 * S),
        upgraded: Some(30 * S),
        stopping: true,
    };
    assert_eq!(
        world.event(Event::Stop),
        [
            Action::Stopping,
            Action::Drain(workers[0], order),
            Action::Drain(workers[1], order)
        ]
    );
    assert_eq!(world.leave(workers[0]), []);
    assert_eq!(world.pass(31 * S), []);
    assert_eq!(world.pass(S), [Action::Kill(workers[1])]);
    assert_eq!(world.crash(workers[1]), [Action::Terminate(admin)]);
    assert_eq!(world.leave(admin), [Action::Leave(0)]);
}

#[test]
fn the_second_stop_is_at_once() {
    let mut world = World::serving(params());
    world.event(Event::Stop);
    world.event(Event::Stop);
    assert!(world.alive.values().all(|k| k.killed));
}

#[test]
fn a_graceful_stop_has_no_bound_until_one_is_asked_for() {
    let mut world = World::serving(params());
    world.event(Event::Quit);
    assert_eq!(world.pass(100_000 * S), []);
    assert_eq!(world.event(Event::Quit), []);
    let actions = world.event(Event::Stop);
    assert_eq!(actions.len(), 2, "{actions:?}");
    world.pass(32 * S);
    assert!(world.workers(1).iter().all(|w| world.alive[w].killed));
}

#[test]
fn a_stop_ends_a_reload_and_also_drains_old_generations() {
    let mut world = World::serving(params());
    world.reload();
    world.all_ready();
    world.reload();
    world.event(Event::Stop);
    assert!(world.workers(3).iter().all(|w| world.alive[w].killed));
    for generation in [1, 2] {
        assert!(
            world
                .workers(generation)
                .iter()
                .all(|w| world.alive[w].told)
        );
    }
    assert!(world.outcomes.last().unwrap().is_err());
    world.event(Event::Reload);
    assert_eq!(world.loading, None);
}

#[test]
fn nothing_is_restarted_during_a_stop() {
    let mut world = World::serving(params());
    let workers = world.workers(1);
    world.crash(workers[0]);
    let again = world.workers(1);
    world.crash(*again.last().unwrap());
    world.event(Event::Stop);
    world.crash(again[0]);
    world.pass(1000 * S);
    assert_eq!(world.workers(1), []);
}

// === random orders ===

/// A small generator: the same seed makes the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let sides = u64::try_from(from.len()).ok().filter(|&n| n > 0)?;
        from.get(usize::try_from(self.roll(sides)).ok()?).copied()
    }
}

fn random_params(dice: &mut Dice) -> Params {
    let mut random = params();
    random.workers = u32::try_from(1 + dice.roll(3)).unwrap();
    random.admin = dice.roll(3) > 0;
    random.demo = dice.roll(3) == 0;
    random.max_generations = u32::try_from(1 + dice.roll(4)).unwrap();
    random.drain_longest = S * u32::try_from(1 + dice.roll(200)).unwrap();
    random
}

fn random_step(world: &mut World, dice: &mut Dice, may_stop: bool) {
    if world.loading.is_some() {
        if dice.roll(5) == 0 {
            world.event(Event::Loaded(Err("bad".to_owned())));
        } else {
            world.params = random_params(dice);
            world.load();
        }
        return;
    }
    let all: Vec<ChildId> = world.alive.keys().copied().collect();
    let unready = world.find(|k| !k.ready && !k.killed);
    let going = world.find(|k| k.killed || k.told);
    match dice.roll(20) {
        0..=1 => drop(world.event(Event::Reload)),
        2..=5 => drop(world.pass(S * u32::try_from(dice.roll(8)).unwrap())),
        6..=11 => {
            if let Some(child) = dice.pick(&unready) {
                world.event(Event::Ready(child));
            }
        }
        12..=14 => {
            if let Some(child) = dice.pick(&going) {
                world.leave(child);
            }
        }
        15 => {
            if let Some(child) = dice.pick(&all) {
                world.crash(child);
            }
        }
        16 => {
            if let Some(child) = dice.pick(&unready) {
                match dice.roll(2) {
                    0 => drop(world.event(Event::ForkFailed(child, "no room".to_owned()))),
                    _ => drop(world.event(Event::Failed(child, "no key".to_owned()))),
                }
            }
        }
        17 => {
            if let Some(child) = dice.pick(&all) {
                let beat = dice.roll(3);
                world.event(Event::Beat(child, beat));
            }
        }
        18 => {
            if let Some(child) = dice.pick(&all) {
                let bytes = dice.roll(700);
                world.event(Event::Memory(child, bytes));
            }
        }
        _ => {
            if may_stop && dice.roll(10) == 0 {
                let event = if dice.roll(2) == 0 {
                    Event::Stop
                } else {
                    Event::Quit
                };
                world.event(event);
            }
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = World::new();
    let may_stop = dice.roll(2) == 0;
    world.event(Event::Reload);
    for _ in 0..600 {
        if world.left.is_some() {
            return;
        }
        random_step(&mut world, &mut dice, may_stop);
    }
    // Whatever the state is, two stops end it, and a deadline is never forgotten.
    if world.loading.is_some() {
        world.load();
    }
    world.event(Event::Stop);
    world.event(Event::Stop);
    let mut rounds = 0;
    while world.left.is_none() {
        let children: Vec<ChildId> = world.alive.keys().copied().collect();
        for child in children {
            assert!(world.alive[&child].killed || world.alive[&child].told);
            world.crash(child);
        }
        rounds += 1;
        assert!(rounds < 5, "does not end");
    }
}

#[test]
fn random_orders_keep_the_invariants() {
    if let Ok(seed) = std::env::var("PROXYD_SEED") {
        run(seed.parse().unwrap());
        return;
    }
    for seed in 0..1500 {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(
            result.is_ok(),
            "seed {seed}: run again with PROXYD_SEED={seed}"
        );
    }
}

#[test]
fn a_healthy_world_always_finishes_its_reload() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut world = World::serving(params());
        for _ in 0..dice.roll(200) {
            random_step(&mut world, &mut dice, false);
            if world.left.is_some() {
                break;
            }
        }
        assert!(world.left.is_none(), "seed {seed} left without a stop");
        // From here on everybody does as told.
        world.event(Event::Reload);
        let before = world.live;
        for _ in 0..400 {
            if world.loading.is_some() {
                world.params = params();
                world.load();
            }
            world.all_ready();
            for child in world.find(|k| k.killed || k.told) {
                if world.alive.contains_key(&child) {
                    world.leave(child);
                }
            }
            world.pass(S);
        }
        assert!(world.live > before, "seed {seed}: stuck at {before:?}");
        assert!(!world.supervisor.is_reloading());
        assert_eq!(world.supervisor.generations.len(), 1, "seed {seed}");
        assert_eq!(world.workers(world.live.unwrap()).len(), 2);
    }
}
