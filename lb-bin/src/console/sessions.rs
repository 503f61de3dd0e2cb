//! Who is logged in. Sessions are in memory only: they end with the process.

use std::time::{Duration, Instant};

use super::token::{Token, same};

/// Most sessions at once; for one more the one that was not used for the longest time ends.
const SESSIONS_MAX: usize = 64;
/// Most cookies of a request that are looked at.
const COOKIES_MAX: usize = 8;
/// How long a session may go unused.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long it lasts at most.
const AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// The sessions of the console.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Vec<Session>,
    /// How many there were.
    count: u64,
}

#[derive(Debug)]
struct Session {
    number: u64,
    /// What the cookie holds.
    id: Token,
    csrf: Token,
    begun: Instant,
    used: Instant,
}

/// What a session is given at its begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) number: u64,
    pub(super) id: Token,
    pub(super) csrf: Token,
}

impl Sessions {
    /// Begins a session for who has logged in.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn begin(&mut self, now: Instant) -> Result<Given, String> {
        self.forget_old(now);
        if self.open.len() >= SESSIONS_MAX {
            let oldest = self.open.iter().enumerate().min_by_key(|(_, session)| session.used);
            oldest.map(|(index, _)| index).map(|index| self.open.swap_remove(index));
        }
        self.count += 1;
        let given = Given { number: self.count, id: Token::random()?, csrf: Token::random()? };
        let Given { number, id, csrf } = given.clone();
        self.open.push(Session { number, id, csrf, begun: now, used: now });
        Ok(given)
    }

    /// The session of the first cookie value that is one's, which thereby is used.
    pub(super) fn find<'a>(&mut self, said: impl Iterator<Item = &'a str>, now: Instant) -> Option<Given> {
        self.forget_old(now);
        let index = said.take(COOKIES_MAX).find_map(|said| self.index_of(said))?;
        let session = &mut self.open[index];
        session.used = now;
        Some(Given { number: session.number, id: session.id.clone(), csrf: session.csrf.clone() })
    }

    /// Ends a session.
    pub(super) fn end(&mut self, number: u64) {
        self.open.retain(|session| session.number != number);
    }

    /// All are compared, so that the time that takes tells nothing.
    fn index_of(&self, said: &str) -> Option<usize> {
        let same: Vec<bool> = self.open.iter().map(|session| same(session.id.expose(), said)).collect();
        same.iter().position(|same| *same)
    }

    fn forget_old(&mut self, now: Instant) {
        self.open.retain(|session| now.duration_since(session.used) < IDLE && now.duration_since(session.begun) < AGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_id_until_it_ends() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let (one, two) = (sessions.begin(now).unwrap(), sessions.begin(now).unwrap());
        assert!(one.id != two.id && one.csrf != two.csrf && one.id != one.csrf);
        let mut find = |said: &[&str]| sessions.find(said.iter().copied(), now);
        assert_eq!(find(&[one.id.expose()]), Some(one.clone()));
        // A cookie that somebody else has set beside it does no harm.
        assert_eq!(find(&["", "x", two.id.expose()]), Some(two.clone()));
        assert_eq!(find(&["", one.csrf.expose(), &one.id.expose()[1..]]), None);
        sessions.end(one.number);
        assert_eq!(sessions.find([one.id.expose()].into_iter(), now), None);
        assert_eq!(sessions.find([two.id.expose()].into_iter(), now), Some(two));
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
        let (mut sessions, begun) = (Sessions::default(), Instant::now());
        let session = sessions.begin(begun).unwrap();
        let mut is_open = |after: Duration| sessions.find([session.id.expose()].into_iter(), begun + after).is_some();
        let step = IDLE - Duration::from_secs(1);
        let mut after = Duration::ZERO;
        while after + step < AGE {
            after += step;
            assert!(is_open(after), "{after:?}");
        }
        assert!(!is_open(AGE));
        let session = sessions.begin(begun).unwrap();
        assert!(sessions.find([session.id.expose()].into_iter(), begun + IDLE).is_none());
    }

    #[test]
    fn there_are_never_more_than_allowed_and_the_one_used_last_stays() {
        let (mut sessions, begun) = (Sessions::default(), Instant::now());
        let first = sessions.begin(begun).unwrap();
        let second = sessions.begin(begun).unwrap();
        for number in 0..SESSIONS_MAX as u64 - 1 {
            let now = begun + Duration::from_secs(number);
            sessions.find([first.id.expose()].into_iter(), now);
            sessions.begin(now).unwrap();
        }
        assert_eq!(sessions.open.len(), SESSIONS_MAX);
        let now = begun + Duration::from_secs(100);
        assert!(sessions.find([first.id.expose()].into_iter(), now).is_some());
        assert!(sessions.find([second.id.expose()].into_iter(), now).is_none());
    }
}
