//! Which server each of many clients was given: a bounded map that all shards share and that none of them waits for.
//!
//! A key has two buckets in which it may stand, and both are locked while it is put there, so it never stands in both. A
//! lock is an odd version of a bucket; who finds it taken looks again some times and then does without: a shard goes on
//! after some microseconds, and at worst a client is not remembered this time. Readers take no lock: they read
//! again if the version has changed meanwhile.
//!
//! There are half as many places again as entries, so that a key finds room while the table is not full; then
//! the entry goes that was used longest ago among [`SAMPLE`] buckets, which for small tables are all.

use std::hash::BuildHasher;
use std::thread;

use crossbeam_utils::CachePadded;

use crate::sys::sync::{AtomicU64, Ordering};
use crate::sys::zeroed::zeroed;
use crate::turns::timers::Time;

/// Places in a bucket.
const WAYS: usize = if cfg!(lb_loom) { 1 } else { 8 };
/// Words of a bucket: its version, and four for each place.
const BUCKET: usize = 1 + 4 * WAYS;
/// Buckets that are looked at for the oldest entry.
const SAMPLE: usize = 8;
/// How often a shard looks whether a bucket is free.
const TRIES: usize = if cfg!(lb_loom) { 2 } else { 128 };
/// How often the control plane does, and lets others run in between.
const PATIENT_TRIES: usize = 100_000;
/// Where the scope stands in a stamp, above the time.
const SCOPE_SHIFT: u32 = 48;

/// Keyed, so that nobody can choose addresses that stand in the same buckets.
#[cfg(not(lb_loom))]
type Hashing = std::hash::RandomState;
/// Loom repeats executions.
#[cfg(lb_loom)]
type Hashing = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// What is remembered of: a client's network, or a cookie's value as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) bits: u128,
    /// Tells groups of servers apart, as clients may use several of them.
    pub(crate) scope: u16,
}

/// One that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// The identity of its server, [`Load::id`](super::Load).
    pub(crate) server: u64,
    /// When it was used last.
    pub(crate) used: Time,
}

/// The present, and what is too old for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) now: Time,
    /// Entries that were used last before this have expired.
    pub(crate) since: Time,
}

/// The map.
pub(crate) struct Affinities {
    size: u64,
    buckets: usize,
    words: Box<[AtomicU64]>,
    hashing: Hashing,
    /// Places that are taken, or about to be. At most `size` are.
    taken: CachePadded<AtomicU64>,
    /// The bucket where the next sample begins.
    hand: AtomicU64,
}

impl Affinities {
    /// For at most `size` entries; `None` if there is no memory for them. It takes room only as it fills.
    pub(crate) fn new(size: u32) -> Option<Self> {
        let buckets = (size as usize + size as usize / 2).div_ceil(WAYS).max(1);
        Some(Self {
            size: size.into(),
            buckets,
            words: zeroed(buckets * BUCKET)?,
            hashing: Hashing::default(),
            taken: CachePadded::new(AtomicU64::new(0)),
            hand: AtomicU64::new(0),
        })
    }

    /// The most entries.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The entries, with those that have expired and were not replaced yet.
    pub(crate) fn len(&self) -> u64 {
        self.taken.load(Ordering::Relaxed).min(self.size)
    }

    /// The server of this key, which is used by that.
    pub(crate) fn get(&self, key: &Key, span: Span) -> Option<u64> {
        let (one, other) = self.buckets_of(key);
        let found = self.bucket(one).peek(key).or_else(|| self.bucket(other).peek(key));
        let (place, entry) = found.filter(|(_, entry)| entry.used >= span.since)?;
        place.renew(&entry, span.now);
        Some(entry.server)
    }

    /// Gives the key this server, unless it has another one already that is not `over`. Gives the one that it has then.
    pub(crate) fn set(&self, key: &Key, over: Option<u64>, server: u64, span: Span) -> u64 {
        self.put(&Entry { key: *key, server, used: span.now }, over, span.since)
    }

    fn put(&self, entry: &Entry, over: Option<u64>, since: Time) -> u64 {
        let (one, other) = self.buckets_of(&entry.key);
        let Some(pair) = self.lock(one, other) else {
            // Most probably it is this key that somebody sets.
            let held = self.get(&entry.key, Span { now: entry.used, since });
            return held.filter(|held| Some(*held) != over).unwrap_or(entry.server);
        };
        if let Some((place, held)) = pair.find(&entry.key) {
            if held.used >= since && Some(held.server) != over {
                place.renew(&held, entry.used);
                return held.server;
            }
            place.write(entry);
        } else if let Some(place) = self.room(&pair, entry, since) {
            place.write(entry);
        }
        entry.server
    }

    /// Forgets all, or those of a server. Gives how many. For the control plane: it may have to wait for a shard.
    pub(crate) fn clear(&self, server: Option<u64>) -> u64 {
        let mut cleared = 0;
        for index in 0..self.buckets {
            let Some(locked) = self.bucket(index).lock_patiently() else { continue };
            for place in locked.bucket.places() {
                if place.entry().is_some_and(|entry| server.is_none_or(|server| entry.server == server)) {
                    place.free();
                    cleared += 1;
                    self.taken.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        cleared
    }

    /// Calls `tell` for each that has not expired. For the control plane, as [`Affinities::clear`].
    pub(crate) fn for_each(&self, since: Time, mut tell: impl FnMut(Entry)) {
        for index in 0..self.buckets {
            let entries = self.bucket(index).read_patiently();
            entries.into_iter().flatten().flatten().filter(|entry| entry.used >= since).for_each(&mut tell);
        }
    }

    /// Takes over what fits of what another one remembers, the latest, each under the key that `rename` gives it. For the
    /// control plane.
    pub(crate) fn adopt(&self, other: &Self, since: Time, rename: impl Fn(Key) -> Option<Key>) {
        other.for_each(since, |entry| {
            if let Some(key) = rename(entry.key) {
                self.put(&Entry { key, ..entry }, None, since);
            }
        });
    }

    fn bucket(&self, index: usize) -> Bucket<'_> {
        Bucket(&self.words[index * BUCKET..(index + 1) * BUCKET])
    }

    /// The two in which a key may stand; they may be the same.
    fn buckets_of(&self, key: &Key) -> (usize, usize) {
        let hash = self.hashing.hash_one(key);
        let index = |half: u32| ((u64::from(half) * self.buckets as u64) >> 32) as usize;
        (index(hash as u32), index((hash >> 32) as u32))
    }

    /// Locks two buckets. Always in the same order, so that two shards don't each get one.
    fn lock(&self, one: usize, other: usize) -> Option<Pair<'_>> {
        let first = self.bucket(one.min(other)).lock()?;
        let second = if one == other { None } else { Some(self.bucket(one.max(other)).lock()?) };
        Some(Pair { first, second })
    }

    /// Where a new entry may be put. `None` if everybody else was used later, or is being changed.
    fn room<'a>(&'a self, pair: &Pair<'a>, entry: &Entry, since: Time) -> Option<Place<'a>> {
        let (mut free, mut oldest): (Option<Place<'_>>, Option<(Time, Place<'_>)>) = (None, None);
        for place in pair.emptier_first().flat_map(|bucket| bucket.places()) {
            match place.entry() {
                Some(other) if other.used < since => return Some(place),
                Some(other) if oldest.as_ref().is_none_or(|(used, _)| other.used < *used) => {
                    oldest = Some((other.used, place));
                }
                Some(_) => {}
                None => free = free.or(Some(place)),
            }
        }
        let Some(free) = free else { return oldest.filter(|(used, _)| *used <= entry.used).map(|(_, place)| place) };
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.size {
            return Some(free);
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        let limit = oldest.as_ref().map_or(entry.used.saturating_add(1), |(used, _)| *used);
        // One that is freed elsewhere makes room for this one.
        match self.free_one_before(limit) {
            true => Some(free),
            false => oldest.filter(|(used, _)| *used <= entry.used).map(|(_, place)| place),
        }
    }

    /// Frees the place of the sample that was used longest ago, if that was before `limit`. The caller takes it over in the
    /// count.
    fn free_one_before(&self, limit: Time) -> bool {
        let hand = self.hand.fetch_add(SAMPLE as u64, Ordering::Relaxed) as usize;
        let sample = (0..SAMPLE.min(self.buckets)).map(|step| self.bucket(hand.wrapping_add(step) % self.buckets));
        let entries = sample.flat_map(|bucket| {
            bucket.places().filter_map(move |place| place.entry().map(|entry| (entry, bucket, place)))
        });
        let Some((entry, bucket, place)) = entries.min_by_key(|(entry, ..)| entry.used) else { return false };
        if entry.used >= limit {
            return false;
        }
        // Not again if it is locked: this shard holds a lock itself, or it is one of those.
        let Some(_locked) = bucket.lock_once() else { return false };
        let is_same = place.entry() == Some(entry);
        if is_same {
            place.free();
        }
        is_same
    }
}

/// One bucket.
#[derive(Clone, Copy)]
struct Bucket<'a>(&'a [AtomicU64]);

impl<'a> Bucket<'a> {
    fn version(self) -> &'a AtomicU64 {
        &self.0[0]
    }

    fn places(self) -> impl Iterator<Item = Place<'a>> {
        self.0[1..].chunks_exact(4).map(Place)
    }

    /// The place of a key; one moment's reading unless the bucket is locked.
    fn find(self, key: &Key) -> Option<(Place<'a>, Entry)> {
        let mut entries = self.places().filter_map(|place| Some((place, place.entry()?)));
        entries.find(|(_, entry)| entry.key == *key)
    }

    /// The place of a key, without the lock. `None` also if the bucket does not come to rest: who then sets the key finds it.
    fn peek(self, key: &Key) -> Option<(Place<'a>, Entry)> {
        (0..TRIES).find_map(|_| self.read(|bucket| bucket.find(key))).flatten()
    }

    /// What is read without anybody writing meanwhile.
    fn read<T>(self, read: impl Fn(Self) -> T) -> Option<T> {
        // Acquire pairs with the release by which a lock is given up.
        let before = self.version().load(Ordering::Acquire);
        if !before.is_multiple_of(2) {
            return pause();
        }
        let read = read(self);
        // After the reads of `entry`, each of which acquires: who has read something of a later writer sees its version too.
        (self.version().load(Ordering::Relaxed) == before).then_some(read)
    }

    fn read_patiently(self) -> Option<[Option<Entry>; WAYS]> {
        let all = |bucket: Self| {
            let mut entries = [None; WAYS];
            entries.iter_mut().zip(bucket.places()).for_each(|(entry, place)| *entry = place.entry());
            entries
        };
        (0..PATIENT_TRIES).find_map(|_| self.read(all).or_else(yield_now))
    }

    fn lock(self) -> Option<Locked<'a>> {
        (0..TRIES).find_map(|_| self.lock_once().or_else(pause))
    }

    fn lock_patiently(self) -> Option<Locked<'a>> {
        (0..PATIENT_TRIES).find_map(|_| self.lock_once().or_else(yield_now))
    }

    fn lock_once(self) -> Option<Locked<'a>> {
        let version = self.version().load(Ordering::Relaxed);
        let is_free = version.is_multiple_of(2);
        let lock = || self.version().compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed);
        (is_free && lock().is_ok()).then(|| Locked { bucket: self, version })
    }
}

/// A bucket that nobody else writes to.
struct Locked<'a> {
    bucket: Bucket<'a>,
    /// Before it was locked.
    version: u64,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.bucket.version().store(self.version.wrapping_add(2), Ordering::Release);
    }
}

/// Both buckets of a key, locked.
struct Pair<'a> {
    first: Locked<'a>,
    /// `None` if it is the same one.
    second: Option<Locked<'a>>,
}

impl<'a> Pair<'a> {
    fn find(&self, key: &Key) -> Option<(Place<'a>, Entry)> {
        let second = || self.second.as_ref().and_then(|second| second.bucket.find(key));
        self.first.bucket.find(key).or_else(second)
    }

    /// So that both fill alike.
    fn emptier_first(&self) -> impl Iterator<Item = Bucket<'a>> + use<'a> {
        let taken = |bucket: Bucket<'_>| bucket.places().filter(|place| place.entry().is_some()).count();
        let (first, second) = (self.first.bucket, self.second.as_ref().map(|second| second.bucket));
        let (first, second) = match second {
            Some(second) if taken(second) < taken(first) => (second, Some(first)),
            second => (first, second),
        };
        [Some(first), second].into_iter().flatten()
    }
}

/// Room for one entry: its key, its server, and a stamp of its scope and when it was used. The server is 0 if it is free,
/// else one more than its identity.
#[derive(Clone, Copy)]
struct Place<'a>(&'a [AtomicU64]);

impl Place<'_> {
    fn entry(&self) -> Option<Entry> {
        let [high, low, server, stamp] = [0, 1, 2, 3].map(|word| self.0[word].load(Ordering::Acquire));
        let key = Key { bits: u128::from(high) << 64 | u128::from(low), scope: (stamp >> SCOPE_SHIFT) as u16 };
        let used = stamp & ((1 << SCOPE_SHIFT) - 1);
        server.checked_sub(1).map(|server| Entry { key, server, used })
    }

    /// Only with the lock.
    fn write(&self, entry: &Entry) {
        let words = [(entry.key.bits >> 64) as u64, entry.key.bits as u64, entry.server.wrapping_add(1), stamp(entry)];
        // Release pairs with the acquire in `entry`: see `Bucket::read`.
        self.0.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Release));
    }

    /// Only with the lock.
    fn free(&self) {
        self.0[2].store(0, Ordering::Release);
    }

    /// Notes that it was used, unless it is another one's by now. Without the lock.
    fn renew(&self, entry: &Entry, now: Time) {
        if entry.used < now {
            let renewed = stamp(&Entry { used: now, ..*entry });
            // If it fails, somebody else has used or replaced it.
            let _ = self.0[3].compare_exchange(stamp(entry), renewed, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn stamp(entry: &Entry) -> u64 {
    u64::from(entry.key.scope) << SCOPE_SHIFT | entry.used & ((1 << SCOPE_SHIFT) - 1)
}

fn pause<T>() -> Option<T> {
    #[cfg(lb_loom)]
    loom::thread::yield_now();
    std::hint::spin_loop();
    None
}

fn yield_now<T>() -> Option<T> {
    thread::yield_now();
    None
}

#[cfg(all(test, not(lb_loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Nothing has expired.
    fn at(now: Time) -> Span {
        Span { now, since: 0 }
    }

    fn key(number: u128) -> Key {
        Key { bits: number, scope: 0 }
    }

    fn remembered(map: &Affinities, keys: std::ops::Range<u128>) -> Vec<u128> {
        // Looking must not renew.
        keys.filter(|number| map.get(&key(*number), at(0)).is_some()).collect()
    }

    #[test]
    fn who_is_first_gives_a_key_its_server() {
        let map = Affinities::new(100).unwrap();
        assert_eq!(map.get(&key(1), at(5)), None);
        assert_eq!(map.set(&key(1), None, 10, at(5)), 10);
        assert_eq!(map.set(&key(1), None, 11, at(6)), 10, "it has one");
        assert_eq!((map.get(&key(1), at(7)), map.get(&key(2), at(7)), map.len()), (Some(10), None, 1));
        assert_eq!(map.set(&key(1), Some(12), 11, at(7)), 10, "that is not the one that is gone");
        assert_eq!(map.set(&key(1), Some(10), 11, at(7)), 11);
        assert_eq!(map.set(&key(1), Some(10), 12, at(7)), 11, "another shard was first");
        assert_eq!((map.get(&key(1), at(7)), map.len()), (Some(11), 1));
    }

    #[test]
    fn keys_of_other_groups_and_all_bits_of_a_key_count() {
        let map = Affinities::new(100).unwrap();
        let keys = [(1, 0), (1, 1), (1 << 64, 0), (1 << 127, 0), (u128::MAX, u16::MAX), (0, 0)];
        for (server, (bits, scope)) in keys.into_iter().enumerate() {
            assert_eq!(map.set(&Key { bits, scope }, None, server as u64, at(1 << 40)), server as u64);
        }
        for (server, (bits, scope)) in keys.into_iter().enumerate() {
            assert_eq!(map.get(&Key { bits, scope }, at(1 << 41)), Some(server as u64));
        }
    }

    #[test]
    fn use_renews_and_what_is_not_used_expires() {
        let map = Affinities::new(100).unwrap();
        map.set(&key(1), None, 10, at(1_000));
        let with_ttl = |now| Span { now, since: now - 100 };
        assert_eq!(map.get(&key(1), with_ttl(1_100)), Some(10));
        assert_eq!(map.get(&key(1), with_ttl(1_200)), Some(10), "it was used at 1100");
        assert_eq!(map.get(&key(1), with_ttl(1_301)), None);
        assert_eq!(map.set(&key(1), None, 11, with_ttl(1_301)), 11, "the old one counts no more");
        assert_eq!(map.len(), 1, "and its place is taken over");
    }

    #[test]
    fn a_small_table_is_full_at_its_size_and_then_the_oldest_goes() {
        for size in [1, 2, 7, 40] {
            let map = Affinities::new(size).unwrap();
            let size = u128::from(size);
            for number in 0..3 * size {
                map.set(&key(number), None, number as u64, at(number as Time + 1));
                assert_eq!(u128::from(map.len()), size.min(number + 1));
            }
            assert_eq!(remembered(&map, 0..3 * size), (2 * size..3 * size).collect::<Vec<_>>(), "of {size}");
        }
    }

    #[test]
    fn who_was_used_last_stays_when_the_oldest_goes() {
        let map = Affinities::new(3).unwrap();
        (0..3).for_each(|number| _ = map.set(&key(number), None, 1, at(number as Time + 1)));
        map.get(&key(0), at(10));
        map.set(&key(3), None, 1, at(11));
        assert_eq!(remembered(&map, 0..4), [0, 2, 3]);
    }

    #[test]
    fn a_large_table_holds_what_it_is_for_and_evicts_old_ones() {
        const SIZE: u32 = 100_000;
        let map = Affinities::new(SIZE).unwrap();
        (0..SIZE.into()).for_each(|number| _ = map.set(&key(number), None, 1, at(number as Time + 1)));
        assert_eq!(remembered(&map, 0..SIZE.into()).len(), SIZE as usize, "all find room");
        let half = u128::from(SIZE / 2);
        let twice = u128::from(SIZE)..u128::from(SIZE) + half;
        twice.clone().for_each(|number| _ = map.set(&key(number), None, 1, at(number as Time + 1)));
        assert_eq!(map.len(), u64::from(SIZE));
        assert_eq!(remembered(&map, twice).len() as u128, half, "no new one went");
        let young = remembered(&map, half * 3 / 2..SIZE.into()).len() as f64 / (half as f64 / 2.0);
        assert!(young > 0.99, "{young} of the younger quarter are there");
    }

    #[test]
    fn an_expired_entry_makes_room_before_one_that_is_used() {
        let map = Affinities::new(2).unwrap();
        map.set(&key(1), None, 1, at(10));
        map.set(&key(2), None, 1, at(500));
        map.set(&key(3), None, 1, Span { now: 600, since: 400 });
        assert_eq!(remembered(&map, 0..9), [2, 3]);
    }

    #[test]
    fn all_or_those_of_a_server_are_forgotten() {
        let map = Affinities::new(1000).unwrap();
        (0..500).for_each(|number| _ = map.set(&key(number), None, number as u64 % 5, at(1)));
        assert_eq!((map.clear(Some(3)), map.len()), (100, 400));
        assert_eq!((map.get(&key(3), at(1)), map.get(&key(4), at(1))), (None, Some(4)));
        assert_eq!((map.clear(None), map.len(), map.clear(None)), (400, 0, 0));
        assert_eq!(map.set(&key(3), None, 9, at(2)), 9);
    }

    #[test]
    fn all_that_have_not_expired_are_listed_once() {
        let map = Affinities::new(1000).unwrap();
        (0..500).for_each(|number| _ = map.set(&key(number), None, number as u64, at(number as Time)));
        let mut listed = Vec::new();
        map.for_each(100, |entry| listed.push(entry));
        listed.sort_by_key(|entry| entry.used);
        let entry = |number: u64| Entry { key: key(number.into()), server: number, used: number };
        assert_eq!(listed, (100..500).map(entry).collect::<Vec<_>>());
    }

    #[test]
    fn a_table_of_another_size_takes_over_the_latest() {
        let old = Affinities::new(100).unwrap();
        (0..100).for_each(|number| _ = old.set(&key(number), None, number as u64, at(number as Time + 1)));
        let (larger, smaller) = (Affinities::new(200).unwrap(), Affinities::new(40).unwrap());
        smaller.set(&key(99), None, 7, at(150));
        for map in [&larger, &smaller] {
            map.adopt(&old, 0, Some);
        }
        assert_eq!(remembered(&larger, 0..100).len(), 100);
        // All 40 places, but where both buckets of a key are full: then the oldest in them goes.
        let latest = remembered(&smaller, 60..100).len();
        assert!(latest >= 36 && remembered(&smaller, 0..100).len() <= 40, "{latest} of the latest 40");
        assert_eq!(smaller.get(&key(99), at(0)), Some(7), "who was there first stays");
        let odd = Affinities::new(200).unwrap();
        odd.adopt(&old, 51, |key| (key.bits % 2 == 1).then_some(Key { scope: 3, ..key }));
        assert_eq!(odd.len(), 25, "of those that have not expired");
        assert_eq!(odd.get(&Key { bits: 99, scope: 3 }, at(0)), Some(99));
    }

    #[test]
    fn an_entry_takes_at_most_64_bytes_and_an_empty_table_hardly_any() {
        for size in [1_000, 65_537, 1_000_000] {
            let map = Affinities::new(size).unwrap();
            let bytes = (size_of_val(&*map.words) + size_of::<Affinities>()) as f64 / f64::from(size);
            println!("{bytes:.1} bytes per entry of {size}");
            assert!(bytes <= 64.0);
        }
        // Far more memory than most machines have.
        let huge = Affinities::new(100_000_000).unwrap();
        assert_eq!(huge.set(&key(1), None, 2, at(1)), 2);
    }

    /// What several threads do for the same clients at the same time.
    fn race(threads: usize, work: impl Fn(usize) + Sync) {
        let barrier = Barrier::new(threads);
        thread::scope(|scope| {
            for number in 0..threads {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(number);
                });
            }
        });
    }

    #[test]
    fn shards_that_choose_for_the_same_address_at_once_end_on_one_server() {
        const KEYS: usize = 50_000;
        let map = Affinities::new(2 * KEYS as u32).unwrap();
        let answers: Vec<_> = (0..KEYS).map(|_| [const { AtomicUsize::new(0) }; 4]).collect();
        race(4, |shard| {
            for (number, answers) in answers.iter().enumerate() {
                let server = map.set(&key(number as u128), None, shard as u64 + 1, at(1));
                answers[shard].store(server as usize, Ordering::Relaxed);
            }
        });
        let mut alone = 0;
        for (number, answers) in answers.iter().enumerate() {
            let held = map.get(&key(number as u128), at(1)).expect("one of them has set it") as usize;
            for (shard, answer) in answers.iter().enumerate() {
                let answer = answer.load(Ordering::Relaxed);
                assert!(answer == held || answer == shard + 1, "an answer is what is held, or one's own");
                alone += usize::from(answer != held);
            }
        }
        // Who is put to sleep with a lock in hand leaves others without. Shards have a core each, these threads have not.
        assert!(alone <= KEYS / 20, "{alone} of {KEYS} were given two servers");
        assert_eq!(map.len(), KEYS as u64);
    }

    #[test]
    fn whatever_happens_at_once_the_size_holds_and_no_key_gets_another_ones_server() {
        const SIZE: u64 = 500;
        let map = Affinities::new(SIZE as u32).unwrap();
        // A key's server says which key it is; every key is set and replaced, cleared and listed by many.
        race(4, |thread| {
            let mut random = fastrand::Rng::with_seed(thread as u64);
            for step in 0..60_000u64 {
                let number = random.u64(..2_000);
                let (own, span) = (key(number.into()), Span { now: step, since: step.saturating_sub(20_000) });
                if let Some(server) = map.get(&own, span) {
                    assert_eq!(server / 2, number, "a server of another key");
                }
                let over = (number % 3 == 0).then_some(2 * number);
                assert_eq!(map.set(&own, over, 2 * number + step % 2, span) / 2, number);
                if thread == 0 && step % 5_000 == 0 {
                    map.clear(random.bool().then_some(2 * number));
                    map.for_each(0, |entry| assert_eq!(u128::from(entry.server / 2), entry.key.bits));
                }
                assert!(map.len() <= SIZE);
            }
        });
        let (mut seen, mut count) = (HashSet::new(), 0);
        map.for_each(0, |entry| {
            assert!(seen.insert(entry.key), "{:?} stands there twice", entry.key);
            count += 1;
        });
        assert_eq!(count, map.len(), "every place that is taken is counted");
        assert!(count <= SIZE && count > SIZE / 2);
    }
}

#[cfg(all(test, lb_loom))]
mod loom_model {
    use super::*;
    use loom::sync::Arc;

    const SPAN: Span = Span { now: 5, since: 0 };

    /// Every order of events in which threads are interrupted up to three times, which takes a second instead of hours.
    fn explore(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    fn key(bits: u128) -> Key {
        Key { bits, scope: 0 }
    }

    /// Two shards choose for one new address: it is remembered once, and who has been answered by the map agrees.
    #[test]
    fn loom_a_key_that_two_shards_set_has_one_server() {
        explore(|| {
            let map = Arc::new(Affinities::new(1).unwrap());
            let other = Arc::clone(&map);
            let other = loom::thread::spawn(move || other.set(&key(1), None, 20, SPAN));
            let one = map.set(&key(1), None, 10, SPAN);
            let other = other.join().unwrap();
            let held = map.get(&key(1), SPAN).unwrap();
            assert!(one == held || one == 10);
            assert!(other == held || other == 20);
            assert_eq!(map.len(), 1);
        });
    }

    /// A shard reads while another one gives the place to another key: no key gets another one's server.
    #[test]
    fn loom_a_reader_never_sees_half_an_entry() {
        explore(|| {
            let map = Arc::new(Affinities::new(1).unwrap());
            map.set(&key(1), None, 10, Span { now: 1, since: 0 });
            let other = Arc::clone(&map);
            let writer = loom::thread::spawn(move || other.set(&key(1 << 64 | 2), None, 20, SPAN));
            assert!(matches!(map.get(&key(1), SPAN), None | Some(10)));
            assert!(matches!(map.get(&key(1 << 64 | 2), SPAN), None | Some(20)));
            writer.join().unwrap();
        });
    }
}
