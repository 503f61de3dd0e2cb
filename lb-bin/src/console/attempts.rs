//! How often somebody may try to log in: five times at once, then once in three seconds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::web::network;

/// Tries at once.
const BURST: u32 = 5;
/// After this long there is one more.
const REFILL: Duration = Duration::from_secs(3);
/// Most addresses that are told apart; beyond that new ones share one allowance.
const ADDRESSES_MAX: usize = 4096;

/// The tries of each address.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// When an address has all its tries again.
    whole_at: HashMap<IpAddr, Instant>,
    others_whole_at: Option<Instant>,
    told_at: Option<Instant>,
}

impl Attempts {
    /// Takes one try off, before the secret is looked at.
    ///
    /// # Errors
    /// There is none left: after how long there is one.
    pub(super) fn take(&mut self, ip: IpAddr, now: Instant) -> Result<(), Duration> {
        let whole_at = self.of(network(ip), now);
        let wait = whole_at.saturating_duration_since(now);
        // One less than all, as this one takes time to come back too.
        let allowed = REFILL * (BURST - 1);
        if wait > allowed {
            return Err(wait - allowed);
        }
        *whole_at = (*whole_at).max(now) + REFILL;
        Ok(())
    }

    /// Whether a refusal is to be told of. Who is refused can go on as fast as it likes, so not all are: one in three seconds.
    pub(super) fn is_to_be_told(&mut self, now: Instant) -> bool {
        let is_due = self.told_at.is_none_or(|told_at| now.duration_since(told_at) >= REFILL);
        if is_due {
            self.told_at = Some(now);
        }
        is_due
    }

    /// Gives it back to who knew the secret.
    pub(super) fn give_back(&mut self, ip: IpAddr, now: Instant) {
        let whole_at = self.of(network(ip), now);
        *whole_at = whole_at.checked_sub(REFILL).unwrap_or(now);
    }

    fn of(&mut self, ip: IpAddr, now: Instant) -> &mut Instant {
        if !self.whole_at.contains_key(&ip) && self.whole_at.len() >= ADDRESSES_MAX {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
            if self.whole_at.len() >= ADDRESSES_MAX {
                return self.others_whole_at.get_or_insert(now);
            }
        }
        self.whole_at.entry(ip).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn there_are_five_tries_and_then_one_every_three_seconds() {
        let (mut attempts, now, ip) = (Attempts::default(), Instant::now(), "192.0.2.1".parse().unwrap());
        for _ in 0..BURST {
            assert_eq!(attempts.take(ip, now), Ok(()));
        }
        assert_eq!(attempts.take(ip, now), Err(REFILL));
        assert_eq!(attempts.take(ip, now + SECOND), Err(2 * SECOND));
        assert_eq!(attempts.take(ip, now + REFILL), Ok(()));
        assert_eq!(attempts.take(ip, now + REFILL), Err(REFILL));
        assert_eq!(attempts.take("192.0.2.2".parse().unwrap(), now), Ok(()), "another address");
        let later = now + 100 * SECOND;
        let tries = (0..10).filter(|_| attempts.take(ip, later).is_ok()).count();
        assert_eq!(tries, 5, "no more than that however long it waited");
    }

    #[test]
    fn who_goes_on_does_not_fill_the_log() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let told = (0..60_u32).filter(|tenth| attempts.is_to_be_told(now + *tenth * SECOND / 10));
        assert_eq!(told.collect::<Vec<_>>(), [0, 30]);
    }

    #[test]
    fn who_knows_the_secret_is_not_held_up() {
        let (mut attempts, now, ip) = (Attempts::default(), Instant::now(), "192.0.2.1".parse().unwrap());
        for _ in 0..100 {
            assert_eq!(attempts.take(ip, now), Ok(()));
            attempts.give_back(ip, now);
        }
    }

    #[test]
    fn a_network_has_no_more_tries_than_an_address() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let tries = (0..100_u128).filter(|host| {
            let ip = IpAddr::V6((0x2001_0db8 << 96 | host).into());
            attempts.take(ip, now).is_ok()
        });
        assert_eq!(tries.count(), 5);
        let mut attempts = Attempts::default();
        let mapped = ["::ffff:192.0.2.1", "192.0.2.1"].into_iter().cycle().take(10);
        assert_eq!(mapped.filter(|ip| attempts.take(ip.parse().unwrap(), now).is_ok()).count(), 5);
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_get_no_more_tries() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let tries = (0..20_000_u32).filter(|host| attempts.take(IpAddr::V4((*host).into()), now).is_ok()).count();
        assert_eq!(tries, ADDRESSES_MAX + 5);
        assert_eq!(attempts.whole_at.len(), ADDRESSES_MAX);
        assert_eq!(attempts.take("192.0.2.1".parse().unwrap(), now + 100 * SECOND), Ok(()));
        assert_eq!(attempts.whole_at.len(), 1, "who has all tries again needs no entry");
    }
}
