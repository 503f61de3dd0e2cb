//! When a turn waits for more than its first news: the rule and its constants.
//!
//! Streams whose peers are slower than the shard are served in pieces as small as a packet (84 KiB, measured on loopback),
//! each a wake-up of everyone. If they are given a moment to bring more, four of them cost 0.8 of the CPU time, and their
//! peers have more of theirs for other things. So a turn gathers after one that spliced something, but less than
//! [`FEW_BYTES`]: streams that fill their pipes don't wait, or a single one would lose half of its throughput.
//!
//! Messages never wait. A turn gathers only once [`TURNS`] in a row brought nothing but bytes of streams. (Tried: waiting 30 µs
//! for one message more than the last turn had. It gained nothing with 64 busy connections, and with 4 to 16 it cost 15 % of
//! their throughput.)

use crate::sys::ring::Gather;

/// Bytes spliced in one turn below which streams are given time to bring more.
const FEW_BYTES: u64 = 256 << 10;
/// Turns without a message after which none is expected.
const TURNS: u32 = 8;
/// What a turn waits for: more news than streams usually have at once, no longer than 60 µs, in which 5 GB/s bring 300 KiB.
const GATHER: Gather = Gather { completions: 32, micros: 60 };

/// Remembers what turns brought.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Turns in a row that brought bytes of streams and nothing else.
    turns: u32,
    /// Bytes spliced until the last turn.
    spliced: u64,
}

impl Gathering {
    /// What the next turn gathers, after one that brought so many news of other things than streams; `spliced` are all bytes
    /// spliced until now.
    pub(super) fn after_turn(&mut self, messages: usize, spliced: u64) -> Option<Gather> {
        let bytes = spliced - self.spliced;
        self.spliced = spliced;
        match (messages, bytes) {
            (0, 0) => return None,
            (0, _) => self.turns = self.turns.saturating_add(1),
            _ => self.turns = 0,
        }
        (self.turns > TURNS && bytes < FEW_BYTES).then_some(GATHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_turns(gathering: &mut Gathering, count: u32, messages: usize, bytes: u64) -> Option<Gather> {
        (0..count).map(|_| gathering.after_turn(messages, gathering.spliced + bytes)).last().flatten()
    }

    #[test]
    fn streams_that_bring_little_are_given_time_and_those_that_bring_much_are_not() {
        let mut gathering = Gathering::default();
        assert_eq!(after_turns(&mut gathering, 8, 0, 84 << 10), None);
        assert_eq!(after_turns(&mut gathering, 1, 0, 84 << 10), Some(GATHER));
        assert_eq!(after_turns(&mut gathering, 1, 0, 512 << 10), None);
        assert_eq!(after_turns(&mut gathering, 1, 0, 84 << 10), Some(GATHER));
    }

    #[test]
    fn messages_never_wait() {
        let mut gathering = Gathering::default();
        assert_eq!(after_turns(&mut gathering, 100, 40, 0), None);
        assert_eq!(after_turns(&mut gathering, 100, 0, 84 << 10), Some(GATHER));
        assert_eq!(after_turns(&mut gathering, 1, 1, 84 << 10), None, "a message beside the streams");
        assert_eq!(after_turns(&mut gathering, 8, 0, 84 << 10), None, "which may be followed by others");
    }
}
