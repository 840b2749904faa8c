//! How often one user may ask: a bucket of tokens for each, filled at a steady rate.
//!
//! The limits are far above what people and runtimes do (10,000 rule changes a minute are 167 a second).
//! They keep a client that has gone wild from having the daemon to itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    Refusal,
    access::{Caller, Right, is_read},
};

/// Buckets that are kept before the full ones are thrown away; a full one says nothing.
const KEPT: usize = 1024;

/// How fast tokens come, and how many can be saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    per_second: f64,
    burst: f64,
}

/// Changes by root.
const ROOT_WRITES: Rate = Rate { per_second: 2000.0, burst: 4000.0 };
/// Changes by any other user.
const WRITES: Rate = Rate { per_second: 500.0, burst: 1000.0 };
/// Questions of those who may change things anyway.
const WRITERS_READS: Rate = Rate { per_second: 2000.0, burst: 4000.0 };
/// Questions of those who may only ask: a list of flows keeps changes waiting.
const READS: Rate = Rate { per_second: 50.0, burst: 100.0 };

/// All buckets.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<(Option<u32>, bool), Bucket>>);

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let new = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate.per_second;
        (self.tokens, self.filled) = ((self.tokens + new).min(self.rate.burst), now);
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.rate.burst
    }
}

impl Rates {
    /// Takes a token of the user's, if there is one.
    fn admits(&self, uid: Option<u32>, reads: bool, rate: Rate, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEPT {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let new = || Bucket { rate, tokens: rate.burst, filled: now };
        let bucket = buckets.entry((uid, reads)).or_insert_with(new);
        bucket.fill(now);
        let admits = bucket.tokens >= 1.0;
        if admits {
            bucket.tokens -= 1.0;
        }
        admits
    }
}

/// Refuses the requests of users who ask too often.
pub(super) async fn check(
    State(rates): State<Arc<Rates>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let reads = is_read(request.method());
    let rate = match (reads, caller) {
        (true, Caller { right: Right::Write, .. }) => WRITERS_READS,
        (true, _) => READS,
        (false, Caller { uid: Some(0), .. }) => ROOT_WRITES,
        (false, _) => WRITES,
    };
    if rates.admits(caller.uid, reads, rate, Instant::now()) {
        return next.run(request).await;
    }
    let error = format!("more than {} requests a second from one user", rate.per_second);
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, error)
        .help("wait a second; put several changes into one, for example by `vnet-ctl apply` of a whole file");
    let mut response = refusal.into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 20.0 };

    #[test]
    fn tokens_come_back_at_their_rate_and_no_faster() {
        let (rates, start) = (Rates::default(), Instant::now());
        let taken = |now| (0..100).filter(|_| rates.admits(Some(7), false, RATE, now)).count();
        assert_eq!(taken(start), 20);
        assert_eq!(taken(start + Duration::from_millis(500)), 5);
        assert_eq!(taken(start + Duration::from_secs(3600)), 20);
    }

    #[test]
    fn users_do_not_share_a_bucket_and_idle_ones_have_none() {
        let (rates, start) = (Rates::default(), Instant::now());
        for uid in 0..2 * KEPT {
            let now = start + Duration::from_secs(uid as u64);
            assert!(rates.admits(u32::try_from(uid).ok(), false, RATE, now));
        }
        assert!(rates.0.lock().unwrap().len() <= KEPT);
    }

    #[test]
    fn the_limits_leave_room_for_ten_thousand_changes_a_minute() {
        assert!([ROOT_WRITES, WRITES].iter().all(|rate| rate.per_second > 2.0 * 10_000.0 / 60.0));
    }
}
