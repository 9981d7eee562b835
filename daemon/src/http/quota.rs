//! Quotas: how often somebody may ask, and how many jobs they may have at once.
//!
//! A rate of N in a period allows N at once and gives one back every Nth of the period (GCRA: an
//! account is nothing but the time until which it is spent). Invariants: accounts are bounded, and
//! one that is dropped for room is one that nothing was spent from; a permit is given back when
//! its job is over, however it ended.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use piston_client::api::Code;
use piston_client::units::Rate;

use crate::error::Error;
use crate::job::queue::Requester;

/// Accounts at once; some 100 bytes each.
const MAX_ACCOUNTS: usize = 100_000;

/// The accounts of everybody who has a quota.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    accounts: Mutex<HashMap<Requester, Account>>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    /// Requests up to then are spent.
    spent: Instant,
    /// Jobs running or waiting.
    jobs: u32,
}

/// Where somebody stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    rate: Rate,
    /// Requests that could come right now.
    remaining: u32,
    /// Until as many could come as ever.
    reset: Duration,
    /// Until another one can come, when this one could not.
    wait: Option<Duration>,
}

/// A job that counts; none where jobs are not counted.
#[derive(Debug)]
pub(super) struct Permit(Option<(Arc<Quotas>, Requester)>);

impl Quotas {
    /// Spends a request.
    pub(super) fn spend(&self, who: Requester, rate: Rate, now: Instant) -> Standing {
        let each = rate.period() / rate.times();
        let mut accounts = self.lock();
        let Some(account) = enter(&mut accounts, who, now) else {
            return Standing {
                rate,
                remaining: 0,
                reset: rate.period(),
                wait: Some(rate.period()),
            };
        };
        let before = account.spent.saturating_duration_since(now);
        let after = before + each;
        let wait = after
            .checked_sub(rate.period())
            .filter(|wait| !wait.is_zero());
        let reset = if wait.is_none() {
            account.spent = now + after;
            after
        } else {
            before
        };
        let room = rate.period().saturating_sub(reset).as_nanos() / each.as_nanos().max(1);
        Standing {
            rate,
            remaining: u32::try_from(room).unwrap_or(u32::MAX),
            reset,
            wait,
        }
    }

    /// Lets a job in, when there are not `most` already.
    pub(super) fn job(
        self: &Arc<Self>,
        who: Requester,
        most: Option<u32>,
    ) -> Result<Permit, Error> {
        let Some(most) = most else {
            return Ok(Permit(None));
        };
        let who = holder(who);
        let mut accounts = self.lock();
        let account = enter(&mut accounts, who, Instant::now());
        match account {
            Some(account) if account.jobs < most => {
                account.jobs += 1;
                Ok(Permit(Some((Arc::clone(self), who))))
            }
            _ => {
                let text = format!("{most} jobs at once are allowed, and as many run or wait");
                let error = Error::new(Code::QuotaExceeded, text);
                Err(error.after(Duration::from_secs(1)))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Requester, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((quotas, who)) = self.0.take()
            && let Some(account) = quotas.lock().get_mut(&who)
        {
            account.jobs = account.jobs.saturating_sub(1);
        }
    }
}

/// The account of somebody; none when there is no room for another one.
fn enter(
    accounts: &mut HashMap<Requester, Account>,
    who: Requester,
    now: Instant,
) -> Option<&mut Account> {
    let who = holder(who);
    if accounts.len() >= MAX_ACCOUNTS && !accounts.contains_key(&who) {
        accounts.retain(|_, account| account.jobs > 0 || account.spent > now);
        if accounts.len() >= MAX_ACCOUNTS {
            return None;
        }
    }
    let new = Account {
        spent: now,
        jobs: 0,
    };
    Some(accounts.entry(who).or_insert(new))
}

/// Whose account it is: whoever has one address of IPv6 has 2^64 of them.
fn holder(who: Requester) -> Requester {
    match who {
        Requester::Address(IpAddr::V6(address)) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Requester::Address(IpAddr::V6(Ipv6Addr::from_bits(network)))
        }
        other => other,
    }
}

impl Standing {
    /// Why the request is refused, when it is.
    pub(super) fn refusal(&self) -> Option<Error> {
        let wait = self.wait?;
        let text = format!("more than {} requests", self.rate);
        Some(Error::new(Code::RateLimited, text).after(seconds(wait)))
    }

    /// Puts it into a reply (draft-ietf-httpapi-ratelimit-headers, in the form that is deployed).
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let window = self.rate.period().as_secs();
        let times = self.rate.times();
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("ratelimit-limit", times.to_string());
        put("ratelimit-remaining", self.remaining.to_string());
        put("ratelimit-reset", seconds(self.reset).as_secs().to_string());
        put("ratelimit-policy", format!("{times};w={window}"));
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Requester = Requester::User(1);

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn a_rate_allows_its_number_at_once_and_gives_one_back_after_each_part_of_the_period() {
        let quotas = Quotas::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for remaining in [3, 2, 1, 0] {
            let standing = quotas.spend(ANN, rate("4/s"), at(0));
            assert_eq!((standing.remaining, standing.wait), (remaining, None));
        }
        let refused = quotas.spend(ANN, rate("4/s"), at(100));
        assert_eq!(refused.wait, Some(Duration::from_millis(150)));
        let error = refused.refusal().expect("refused");
        assert_eq!(error.code(), Code::RateLimited);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        // What is refused costs nothing.
        assert_eq!(quotas.spend(ANN, rate("4/s"), at(250)).wait, None);
        assert!(quotas.spend(ANN, rate("4/s"), at(250)).wait.is_some());
        // Others have accounts of their own, and a long rest fills one up and not over.
        assert_eq!(
            quotas
                .spend(Requester::User(2), rate("4/s"), at(250))
                .remaining,
            3
        );
        assert_eq!(quotas.spend(ANN, rate("4/s"), at(60_000)).remaining, 3);
    }

    #[test]
    fn headers_say_how_many_and_when() {
        let quotas = Quotas::default();
        let mut headers = HeaderMap::new();
        let standing = quotas.spend(ANN, rate("60/m"), Instant::now());
        standing.tell(&mut headers);
        for (name, value) in [
            ("ratelimit-limit", "60"),
            ("ratelimit-remaining", "59"),
            ("ratelimit-reset", "1"),
            ("ratelimit-policy", "60;w=60"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
    }

    #[test]
    fn jobs_at_once_are_counted_until_their_permits_are_dropped() {
        let quotas = Arc::new(Quotas::default());
        let enter = |who| quotas.job(who, Some(2));
        let (first, _second) = (enter(ANN).expect("room"), enter(ANN).expect("room"));
        let refused = enter(ANN).expect_err("full");
        assert_eq!(refused.code(), Code::QuotaExceeded);
        drop(enter(Requester::User(2)).expect("another one's"));
        drop(first);
        drop(enter(ANN).expect("room again"));
        drop(quotas.job(ANN, None).expect("not counted"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_requester_and_neighbours_are_others() {
        let quotas = Quotas::default();
        let now = Instant::now();
        let spend = |address: &str| {
            let address = address.parse().expect("an address");
            quotas
                .spend(Requester::Address(address), rate("9/s"), now)
                .remaining
        };
        assert_eq!([spend("2001:db8::1"), spend("2001:db8::ffff:2")], [8, 7]);
        assert_eq!([spend("2001:db8:0:1::1"), spend("192.0.2.1")], [8, 8]);
        assert_eq!(spend("192.0.2.2"), 8);
    }

    #[test]
    fn a_full_house_makes_room_of_what_is_not_needed_and_lets_nobody_else_in() {
        let quotas = Quotas::default();
        let now = Instant::now();
        let spend = |user, at| quotas.spend(Requester::User(user), rate("1/m"), at);
        let most = u32::try_from(MAX_ACCOUNTS).expect("fits");
        for user in 0..most {
            spend(user, now);
        }
        assert!(spend(most, now).wait.is_some(), "no room");
        assert!(spend(0, now).wait.is_some(), "its own account is there");
        assert_eq!(spend(most, now + Duration::from_mins(1)).wait, None);
        assert_eq!(quotas.lock().len(), 1);
    }
}
