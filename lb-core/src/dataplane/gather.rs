//! How long a turn waits for more than its first news: the rule and its constants.
//!
//! Fewer turns do the same work, and peers are woken less often too, which costs more than a turn does. But whoever waits for
//! an answer must not wait for others' sake while there is little to do. So a turn gathers only after one that shows that
//! there is more:
//!
//! * It brought [`LOADED_FROM`] news or more. Measured with round trips of 64 B over 64 connections: 0.85 of HAProxy's CPU time
//!   without gathering, 0.79 with it.
//! * It spliced something, but less than [`FEW_BYTES`]. Streams whose peers are slower than the shard would else be served in
//!   pieces as small as a packet (84 KiB, measured on loopback), each a wake-up of everyone. Measured with four streams of a
//!   busy peer: 0.8 of the CPU time, for the peer as well. Streams that fill their pipes don't wait: a single one would lose
//!   half of its throughput.

use crate::sys::ring::Gather;

/// News of a turn from which on the shard counts as loaded: a lone conversation is never held up.
const LOADED_FROM: usize = 2;
/// Most news that a turn waits for beyond the first.
const NEWS_MAX: usize = 32;
/// Under load, a turn waits no longer for them than this.
const LOADED_MICROS: u32 = 30;
/// Bytes spliced in one turn below which streams are given time to bring more.
const FEW_BYTES: u64 = 256 << 10;
/// How long: at 5 GB/s it brings 300 KiB.
const STREAM_MICROS: u32 = 60;

/// What the next turn gathers after one that brought so much `news` and `spliced` so many bytes.
pub(crate) fn after_turn(news: usize, spliced: u64) -> Option<Gather> {
    if (1..FEW_BYTES).contains(&spliced) {
        return Some(Gather { completions: 1 + NEWS_MAX, micros: STREAM_MICROS });
    }
    (news >= LOADED_FROM).then(|| Gather { completions: 1 + news.min(NEWS_MAX), micros: LOADED_MICROS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_conversation_and_a_fast_stream_are_never_held_up() {
        assert_eq!(after_turn(0, 0), None);
        assert_eq!(after_turn(1, 0), None);
        assert_eq!(after_turn(1, 512 << 10), None);
    }

    #[test]
    fn a_loaded_shard_waits_for_one_more_than_it_just_had_up_to_a_limit() {
        let completions = |news| after_turn(news, 0).map(|gather| gather.completions);
        assert_eq!([completions(2), completions(10), completions(1000)], [Some(3), Some(11), Some(33)]);
    }

    #[test]
    fn streams_that_bring_little_are_given_time() {
        assert_eq!(after_turn(1, 84 << 10).map(|gather| gather.micros), Some(60));
        assert_eq!(after_turn(40, 84 << 10).map(|gather| gather.micros), Some(60));
    }
}
