//! Whether a request may be sent once more (http-rules §15): the conditions, and the budget that
//! keeps retries from multiplying an outage. Pure; who is asked next is the balancer's business.

use std::time::Duration;

use crate::base::time::Instant;

/// What a route allows (`retry = {...}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts after the first.
    pub attempts: u32,
    /// Connecting or the TLS handshake failed.
    pub on_connect: bool,
    /// A reused connection broke before a response byte.
    pub on_reset: bool,
    /// No response head in time.
    pub on_timeout: bool,
    /// Responses with these statuses.
    pub on_status: Vec<u16>,
    /// Retries in percent of requests; 0 none.
    pub budget_percent: u32,
    /// Requests that are not idempotent may be sent twice.
    pub non_idempotent: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 2,
            on_connect: true,
            on_reset: true,
            on_timeout: false,
            on_status: Vec::new(),
            budget_percent: 20,
            non_idempotent: false,
        }
    }
}

/// How an attempt ended without a response that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 15.1 (a): connecting or the TLS handshake failed.
    ConnectFailed,
    /// 15.1 (b): the connection broke before a byte of the request was written.
    NotSent,
    /// 15.1 (c): a reused connection was closed or reset without a response byte.
    ReusedBroke,
    /// A new connection was closed or reset without a response byte.
    FreshBroke,
    /// 15.1 (d): the server said that it did not process the request (HTTP/2).
    NotProcessed,
    /// No response head in time.
    TimedOut,
    /// A whole response head that can be given up.
    Status(u16),
    /// Bytes of a response came and it is no use: malformed, or cut short.
    Spoilt,
}

/// What of the request body is still in hand (15.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// All: there is none, it was kept, or nothing of it was taken yet.
    Whole,
    /// Some of it is gone.
    Partial,
}

/// One attempt that did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the method is idempotent (9110 9.2.2).
    pub idempotent: bool,
    /// What is left of the body.
    pub body: Body,
    /// Attempts made after the first one.
    pub retries: u32,
    /// Whether the client is known to have gone (15.5).
    pub client_gone: bool,
    /// When the whole request has to be done.
    pub deadline: Instant,
}

/// Why a request is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client has gone.
    ClientGone,
    /// The route does not ask for it in this case.
    NotCovered,
    /// The server may have acted on it, and the method is not idempotent.
    NotIdempotent,
    /// The body cannot be sent again.
    BodyGone,
    /// All attempts are made.
    Attempts,
    /// The request's time is over.
    Late,
    /// The upstream had too many retries lately.
    Budget,
}

impl Policy {
    /// Decides, and takes from the budget when the answer is yes.
    ///
    /// # Errors
    /// Why not; the order of the reasons is that of the list.
    pub fn decide(
        &self,
        attempt: &Attempt,
        budget: &mut Budget,
        now: Instant,
    ) -> Result<(), Refusal> {
        if attempt.client_gone {
            return Err(Refusal::ClientGone);
        }
        let safe = self.is_covered(attempt.outcome)?;
        if safe == Safety::MaySendTwice && !attempt.idempotent && !self.non_idempotent {
            return Err(Refusal::NotIdempotent);
        }
        if attempt.body == Body::Partial {
            return Err(Refusal::BodyGone);
        }
        if attempt.retries >= self.attempts {
            return Err(Refusal::Attempts);
        }
        if now >= attempt.deadline {
            return Err(Refusal::Late);
        }
        if attempt.outcome == Outcome::NotSent {
            // Nothing reached a server, so nothing is multiplied.
            return Ok(());
        }
        if budget.take(self.budget_percent, now) {
            Ok(())
        } else {
            Err(Refusal::Budget)
        }
    }

    fn is_covered(&self, outcome: Outcome) -> Result<Safety, Refusal> {
        let (asked, safety) = match outcome {
            Outcome::ConnectFailed => (self.on_connect, Safety::SentOnce),
            Outcome::NotSent | Outcome::NotProcessed => {
                (self.on_connect || self.on_reset, Safety::SentOnce)
            }
            Outcome::ReusedBroke => (self.on_reset, Safety::MaySendTwice),
            Outcome::TimedOut => (self.on_timeout, Safety::MaySendTwice),
            Outcome::Status(status) => (self.on_status.contains(&status), Safety::MaySendTwice),
            // A request that kills a server must not be carried to the next one.
            Outcome::FreshBroke | Outcome::Spoilt => (false, Safety::MaySendTwice),
        };
        if asked {
            Ok(safety)
        } else {
            Err(Refusal::NotCovered)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Safety {
    SentOnce,
    MaySendTwice,
}

/// Requests and retries of one upstream group in one worker over the last ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    seconds: [Second; Self::SECONDS],
    /// The second that the newest entry stands for.
    newest: u64,
    sum: Second,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// The window.
    pub const SECONDS: usize = 10;
    /// Retries that are always allowed within the window.
    pub const LEAST: u64 = 10;

    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request (not its retries).
    pub fn request(&mut self, now: Instant) {
        self.sum.requests += 1;
        self.at(now).requests += 1;
    }

    /// Takes one retry, if there is one left.
    #[must_use]
    pub fn take(&mut self, percent: u32, now: Instant) -> bool {
        self.advance(now);
        let share = self.sum.requests.saturating_mul(u64::from(percent)) / 100;
        if percent == 0 || self.sum.retries >= share.max(Self::LEAST) {
            return false;
        }
        self.sum.retries += 1;
        self.at(now).retries += 1;
        true
    }

    fn at(&mut self, now: Instant) -> &mut Second {
        self.advance(now);
        let [first, ..] = &mut self.seconds;
        first
    }

    /// Drops the seconds that have left the window; the newest one stands first.
    fn advance(&mut self, now: Instant) {
        let second = now.saturating_since(Instant::ZERO).as_secs();
        let passed = second.saturating_sub(self.newest);
        if passed == 0 {
            return;
        }
        self.newest = second;
        let gone = usize::try_from(passed)
            .unwrap_or(Self::SECONDS)
            .min(Self::SECONDS);
        self.seconds.rotate_right(gone);
        for entry in self.seconds.iter_mut().take(gone) {
            self.sum.requests -= entry.requests;
            self.sum.retries -= entry.retries;
            *entry = Second::default();
        }
    }
}

/// The total time of a request that was retried and has no limit of its own (http-rules §21).
pub const RETRIED_TOTAL: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn attempt(outcome: Outcome) -> Attempt {
        Attempt {
            outcome,
            idempotent: true,
            body: Body::Whole,
            retries: 0,
            client_gone: false,
            deadline: Instant::FAR,
        }
    }

    fn decide(policy: &Policy, attempt: Attempt) -> Result<(), Refusal> {
        policy.decide(&attempt, &mut Budget::new(), at(0))
    }

    fn everything() -> Policy {
        Policy {
            on_timeout: true,
            on_status: vec![502, 503],
            ..Policy::default()
        }
    }

    #[test]
    fn rule_15_1_and_15_2_every_case() {
        use Outcome::*;
        use Refusal::{NotCovered, NotIdempotent};
        let defaults = Policy::default();
        let all = everything();
        let twice = Policy {
            non_idempotent: true,
            ..everything()
        };
        let ok = Ok(());
        let cover = Err(NotCovered);
        let idem = Err(NotIdempotent);
        // outcome; default: idempotent, not; everything on: idempotent, not; non_idempotent: not
        let table = [
            (ConnectFailed, [ok, ok, ok, ok, ok]),
            (NotSent, [ok, ok, ok, ok, ok]),
            (ReusedBroke, [ok, idem, ok, idem, ok]),
            (FreshBroke, [cover, cover, cover, cover, cover]),
            (NotProcessed, [ok, ok, ok, ok, ok]),
            (TimedOut, [cover, cover, ok, idem, ok]),
            (Status(502), [cover, cover, ok, idem, ok]),
            (Status(504), [cover, cover, cover, cover, cover]),
            (Spoilt, [cover, cover, cover, cover, cover]),
        ];
        for (outcome, want) in table {
            let yes = attempt(outcome);
            let no = Attempt {
                idempotent: false,
                ..yes
            };
            let got = [
                decide(&defaults, yes),
                decide(&defaults, no),
                decide(&all, yes),
                decide(&all, no),
                decide(&twice, no),
            ];
            assert_eq!(got, want, "{outcome:?}");
        }
    }

    #[test]
    fn a_route_can_switch_each_condition_off() {
        let none = Policy {
            on_connect: false,
            on_reset: false,
            ..Policy::default()
        };
        for outcome in [
            Outcome::ConnectFailed,
            Outcome::NotSent,
            Outcome::ReusedBroke,
            Outcome::NotProcessed,
        ] {
            assert_eq!(decide(&none, attempt(outcome)), Err(Refusal::NotCovered));
        }
        let connect = Policy {
            on_reset: false,
            ..Policy::default()
        };
        assert_eq!(decide(&connect, attempt(Outcome::ConnectFailed)), Ok(()));
        assert_eq!(decide(&connect, attempt(Outcome::NotSent)), Ok(()));
        assert_eq!(
            decide(&connect, attempt(Outcome::ReusedBroke)),
            Err(Refusal::NotCovered)
        );
    }

    #[test]
    fn rule_15_3_the_body_must_still_be_there() {
        for outcome in [
            Outcome::ConnectFailed,
            Outcome::NotSent,
            Outcome::ReusedBroke,
        ] {
            let partial = Attempt {
                body: Body::Partial,
                ..attempt(outcome)
            };
            assert_eq!(decide(&everything(), partial), Err(Refusal::BodyGone));
        }
    }

    #[test]
    fn rule_15_4_attempts_and_time_are_bounded() {
        let p = Policy::default();
        for (retries, want) in [(0, Ok(())), (1, Ok(())), (2, Err(Refusal::Attempts))] {
            let a = Attempt {
                retries,
                ..attempt(Outcome::ConnectFailed)
            };
            assert_eq!(decide(&p, a), want);
        }
        let a = Attempt {
            deadline: at(5000),
            ..attempt(Outcome::ConnectFailed)
        };
        assert_eq!(p.decide(&a, &mut Budget::new(), at(4999)), Ok(()));
        assert_eq!(
            p.decide(&a, &mut Budget::new(), at(5000)),
            Err(Refusal::Late)
        );
    }

    #[test]
    fn rule_15_5_not_after_the_client_has_gone() {
        let gone = Attempt {
            client_gone: true,
            ..attempt(Outcome::NotSent)
        };
        assert_eq!(decide(&everything(), gone), Err(Refusal::ClientGone));
    }

    #[test]
    fn the_budget_has_a_minimum() {
        let mut budget = Budget::new();
        let taken = (0..100).filter(|_| budget.take(20, at(0))).count();
        assert_eq!(taken, 10);
        assert!(!budget.take(20, at(9_999)));
        assert!(budget.take(20, at(10_000)), "ten seconds later");
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests() {
        let mut budget = Budget::new();
        (0..1000).for_each(|i| budget.request(at(i * 5)));
        let taken = (0..1000).filter(|_| budget.take(20, at(5000))).count();
        assert_eq!(taken, 200);
        assert!(!budget.take(0, at(60_000)), "0 percent is none at all");
    }

    #[test]
    fn a_request_that_was_never_sent_costs_nothing() {
        let mut budget = Budget::new();
        let p = Policy::default();
        for _ in 0..100 {
            assert_eq!(
                p.decide(&attempt(Outcome::NotSent), &mut budget, at(0)),
                Ok(())
            );
        }
        assert_eq!(budget, Budget::new());
        let refused = (0..11)
            .filter(|_| {
                p.decide(&attempt(Outcome::ConnectFailed), &mut budget, at(0))
                    .is_err()
            })
            .count();
        assert_eq!(refused, 1);
    }

    #[test]
    fn a_refused_request_takes_nothing() {
        let mut budget = Budget::new();
        let a = Attempt {
            idempotent: false,
            ..attempt(Outcome::ReusedBroke)
        };
        for _ in 0..50 {
            assert!(Policy::default().decide(&a, &mut budget, at(0)).is_err());
        }
        assert!(budget.take(20, at(0)));
    }

    proptest! {
        /// The budget against a list of everything that happened.
        #[test]
        fn the_budget_agrees_with_a_plain_list(
            steps in prop::collection::vec((any::<bool>(), 0_u64..1500), 0..300),
            percent in 1_u32..100,
        ) {
            let mut budget = Budget::new();
            let (mut requests, mut retries): (Vec<u64>, Vec<u64>) = Default::default();
            let mut now = 0;
            for (is_retry, pause) in steps {
                now += pause;
                let window = |list: &[u64]| {
                    list.iter().filter(|t| **t / 1000 + 10 > now / 1000).count() as u64
                };
                if is_retry {
                    let share = window(&requests) * u64::from(percent) / 100;
                    let want = window(&retries) < share.max(10);
                    prop_assert_eq!(budget.take(percent, at(now)), want);
                    if want {
                        retries.push(now);
                    }
                } else {
                    budget.request(at(now));
                    requests.push(now);
                }
            }
        }
    }
}
