//! The laws of balancing, run over every kind.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 2] = [Kind::RoundRobin, Kind::LeastConnections];

#[derive(Clone, Debug)]
struct Server {
    weight: u32,
    usable: bool,
    backup: bool,
    in_flight: u64,
}

struct Group(Vec<Server>);

impl Group {
    fn of(weights: &[u32]) -> Self {
        Self(
            weights
                .iter()
                .map(|weight| Server {
                    weight: *weight,
                    usable: true,
                    backup: false,
                    in_flight: 0,
                })
                .collect(),
        )
    }
}

impl View for Group {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn is_usable(&self, server: usize) -> bool {
        self.0[server].usable
    }
    fn in_flight(&self, server: usize) -> u64 {
        self.0[server].in_flight
    }
    fn weight(&self, server: usize) -> u32 {
        self.0[server].weight
    }
    fn is_backup(&self, server: usize) -> bool {
        self.0[server].backup
    }
}

/// Sends `requests` through a balancer while `open` of them are in flight; the oldest ends first.
fn run(kind: Kind, group: &mut Group, requests: usize, open: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(kind, group, Place::ONLY);
    let mut flying = VecDeque::new();
    let mut counts = vec![0; group.0.len()];
    for _ in 0..requests {
        if flying.len() == open
            && let Some(server) = flying.pop_front()
        {
            let server: &mut Server = &mut group.0[server];
            server.in_flight -= 1;
        }
        let server = balancer.pick(group, &Tried::new()).unwrap();
        group.0[server].in_flight += 1;
        counts[server] += 1;
        flying.push_back(server);
    }
    counts
}

fn assert_shares(kind: Kind, counts: &[usize], weights: &[u32]) {
    let requests: usize = counts.iter().sum();
    let sum: u32 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let share = *count as f64 / requests as f64;
        let due = f64::from(*weight) / f64::from(sum);
        assert!(
            (share - due).abs() < 0.02,
            "{kind:?} {weights:?} {counts:?}"
        );
    }
}

#[test]
fn weights_are_honoured() {
    for kind in KINDS {
        for weights in [&[1, 1, 1][..], &[3, 1], &[5, 1, 1], &[10, 20, 30, 40], &[1]] {
            let counts = run(kind, &mut Group::of(weights), 10_000, 200);
            assert_shares(kind, &counts, weights);
        }
    }
}

#[test]
fn requests_one_after_another_are_spread_over_equal_servers() {
    for kind in KINDS {
        assert_eq!(run(kind, &mut Group::of(&[1, 1, 1, 1]), 400, 1), [100; 4]);
    }
}

#[test]
fn the_share_of_a_dead_server_goes_to_all_others() {
    for kind in KINDS {
        let mut group = Group::of(&[1, 1, 1, 1, 1]);
        group.0[1].usable = false;
        assert_shares(kind, &run(kind, &mut group, 20_000, 100), &[1, 0, 1, 1, 1]);
        let mut group = Group::of(&[4, 2, 1, 1]);
        group.0[0].usable = false;
        assert_shares(kind, &run(kind, &mut group, 20_000, 100), &[0, 2, 1, 1]);
    }
}

#[test]
fn a_server_tried_before_does_not_burden_one_neighbour() {
    // Every request fails at server 0 first; the second attempts have to spread.
    for kind in KINDS {
        let group = Group::of(&[1, 1, 1, 1]);
        let mut balancer = Balancer::new(kind, &group, Place::ONLY);
        let mut tried = Tried::new();
        assert!(tried.insert(0));
        let mut counts = vec![0; 4];
        for _ in 0..3000 {
            counts[balancer.pick(&group, &tried).unwrap()] += 1;
        }
        assert_shares(kind, &counts, &[0, 1, 1, 1]);
    }
}

#[test]
fn backups_stand_in_only_when_nobody_else_can() {
    for kind in KINDS {
        let mut group = Group::of(&[1, 1, 1, 1]);
        group.0[2].backup = true;
        group.0[3].backup = true;
        assert_eq!(run(kind, &mut group, 100, 1), [50, 50, 0, 0]);
        group.0[0].usable = false;
        assert_eq!(run(kind, &mut group, 100, 1), [0, 101 - 1, 0, 0]);
        group.0[1].usable = false;
        group.0.iter_mut().for_each(|s| s.in_flight = 0);
        assert_eq!(run(kind, &mut group, 100, 1), [0, 0, 50, 50]);
        group.0[0].usable = true;
        assert_eq!(run(kind, &mut group, 100, 1), [100, 0, 0, 0]);
    }
}

#[test]
fn a_busy_server_is_left_alone_by_least_connections() {
    let mut group = Group::of(&[1, 1, 2]);
    group.0[0].in_flight = 10;
    group.0[2].in_flight = 3;
    let mut balancer = Balancer::new(Kind::LeastConnections, &group, Place::ONLY);
    assert_eq!(balancer.pick(&group, &Tried::new()), Some(1));
    group.0[1].in_flight = 2;
    assert_eq!(balancer.pick(&group, &Tried::new()), Some(2), "4/2 < 3/1");
    group.0[2].in_flight = u64::MAX;
    assert_eq!(balancer.pick(&group, &Tried::new()), Some(1));
}

#[test]
fn workers_begin_with_different_servers() {
    for kind in KINDS {
        let group = Group::of(&[1, 1, 1, 1]);
        let mut first: Vec<_> = (0..4)
            .map(|index| Place { index, count: 4 })
            .filter_map(|place| Balancer::new(kind, &group, place).pick(&group, &Tried::new()))
            .collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3], "{kind:?}");
    }
}

#[test]
fn no_server_no_candidate() {
    for kind in KINDS {
        let group = Group::of(&[]);
        assert_eq!(
            Balancer::new(kind, &group, Place::ONLY).pick(&group, &Tried::new()),
            None
        );
        let group = Group::of(&[0, 0]);
        assert_eq!(
            Balancer::new(kind, &group, Place::ONLY).pick(&group, &Tried::new()),
            None
        );
    }
}

#[test]
fn a_shrunken_group_is_not_read_out_of_range() {
    for kind in KINDS {
        let mut group = Group::of(&[1, 1, 1]);
        let mut balancer = Balancer::new(kind, &group, Place::ONLY);
        group.0.truncate(1);
        for _ in 0..10 {
            assert_eq!(balancer.pick(&group, &Tried::new()), Some(0));
        }
    }
}

#[test]
fn tried_remembers_a_bounded_number() {
    let mut tried = Tried::new();
    assert!(tried.is_empty());
    assert!((0..Tried::MAX).all(|server| tried.insert(server * 1000)));
    assert!(tried.insert(0), "known already");
    assert!(!tried.insert(1));
    assert_eq!(tried.len(), Tried::MAX);
    assert!(tried.contains(15_000) && !tried.contains(1));
}

fn servers() -> impl Strategy<Value = Vec<Server>> {
    let server = (0_u32..6, any::<bool>(), any::<bool>(), 0_u64..5).prop_map(
        |(weight, usable, backup, in_flight)| Server {
            weight,
            usable,
            backup,
            in_flight,
        },
    );
    prop::collection::vec(server, 0..9)
}

proptest! {
    #[test]
    fn a_pick_is_always_a_candidate_and_found_if_there_is_one(
        servers in servers(),
        tries in prop::collection::vec(0_usize..9, 0..4),
        index in 0_usize..5,
        warm in 0_usize..20,
    ) {
        let group = Group(servers);
        let mut tried = Tried::new();
        tries.iter().for_each(|t| { tried.insert(*t); });
        let may = |i: &usize| {
            let s = &group.0[*i];
            s.usable && s.weight > 0 && !tries.contains(i)
        };
        let candidates: Vec<usize> = (0..group.0.len()).filter(may).collect();
        let primaries = candidates.iter().any(|i| !group.0[*i].backup);
        for kind in KINDS {
            let mut balancer = Balancer::new(kind, &group, Place { index, count: 3 });
            for _ in 0..warm {
                balancer.pick(&group, &Tried::new());
            }
            match balancer.pick(&group, &tried) {
                None => prop_assert!(candidates.is_empty()),
                Some(server) => {
                    prop_assert!(candidates.contains(&server));
                    prop_assert!(!primaries || !group.0[server].backup);
                }
            }
        }
    }

    #[test]
    fn the_same_place_gives_the_same_order(servers in servers(), index in 0_usize..4) {
        let group = Group(servers);
        for kind in KINDS {
            let place = Place { index, count: 4 };
            let mut one = Balancer::new(kind, &group, place);
            let mut two = Balancer::new(kind, &group, place);
            for _ in 0..30 {
                prop_assert_eq!(one.pick(&group, &Tried::new()), two.pick(&group, &Tried::new()));
            }
        }
    }

    #[test]
    fn attempts_visit_every_candidate_once(weights in prop::collection::vec(1_u32..5, 1..10)) {
        let group = Group::of(&weights);
        for kind in KINDS {
            let mut balancer = Balancer::new(kind, &group, Place::ONLY);
            let mut tried = Tried::new();
            while let Some(server) = balancer.pick(&group, &tried) {
                prop_assert!(!tried.contains(server));
                prop_assert!(tried.insert(server));
            }
            prop_assert_eq!(tried.len(), weights.len());
        }
    }
}
