//! What an operation carries so that its completion finds its way home: `user_data`, 64 bits.

use super::relay::Side;
use crate::turns::slots::Key;

const GROUP_BITS: u32 = 12;

/// What an operation is and whom it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Nobody waits for it.
    Nothing,
    /// The doorbell was rung.
    Doorbell,
    /// It is time to look at the timers.
    Alarm,
    /// A listener's accept; the key is the listener's.
    Accept(Key),
    /// A connect to a server.
    Connect(Key),
    /// A receive from this side, into buffers of this group.
    Receive(Side, Key, u16),
    /// A receive from a server by way of a link; the key is the link's.
    LinkReceive(Key, u16),
    /// A send to this side.
    Send(Side, Key),
    /// A wait until this side can be read.
    Readable(Side, Key),
    /// A wait until this side can be written.
    Writable(Side, Key),
}

impl Operation {
    /// Packs it: kind, group, generation, slot, from the high bits to the low ones.
    pub(crate) fn encode(self) -> u64 {
        let pack = |kind: u64, group: u16, key: Key| {
            kind << (Key::BITS + GROUP_BITS) | u64::from(group) << Key::BITS | key.pack()
        };
        match self {
            Self::Nothing => pack(0, 0, Key::NOBODY),
            Self::Doorbell => pack(1, 0, Key::NOBODY),
            Self::Alarm => pack(12, 0, Key::NOBODY),
            Self::Accept(key) => pack(2, 0, key),
            Self::Connect(key) => pack(3, 0, key),
            Self::Receive(Side::Client, key, group) => pack(4, group, key),
            Self::Receive(Side::Server, key, group) => pack(5, group, key),
            Self::Send(Side::Client, key) => pack(6, 0, key),
            Self::Send(Side::Server, key) => pack(7, 0, key),
            Self::Readable(Side::Client, key) => pack(8, 0, key),
            Self::Readable(Side::Server, key) => pack(9, 0, key),
            Self::Writable(Side::Client, key) => pack(10, 0, key),
            Self::Writable(Side::Server, key) => pack(11, 0, key),
            Self::LinkReceive(key, group) => pack(13, group, key),
        }
    }

    /// Unpacks it. What was never packed is nobody's.
    pub(crate) fn decode(user_data: u64) -> Self {
        let key = Key::unpack(user_data);
        let group = ((user_data >> Key::BITS) & ((1 << GROUP_BITS) - 1)) as u16;
        match user_data >> (Key::BITS + GROUP_BITS) {
            1 => Self::Doorbell,
            2 => Self::Accept(key),
            3 => Self::Connect(key),
            4 => Self::Receive(Side::Client, key, group),
            5 => Self::Receive(Side::Server, key, group),
            6 => Self::Send(Side::Client, key),
            7 => Self::Send(Side::Server, key),
            8 => Self::Readable(Side::Client, key),
            9 => Self::Readable(Side::Server, key),
            10 => Self::Writable(Side::Client, key),
            11 => Self::Writable(Side::Server, key),
            12 => Self::Alarm,
            13 => Self::LinkReceive(key, group),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::slots::{GENERATION_BITS, SLOT_BITS};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(slot in 0u32..1 << SLOT_BITS, generation in 0u32..1 << GENERATION_BITS, group in 0u16..1 << GROUP_BITS) {
            let key = Key { slot, generation };
            for operation in [
                Operation::Nothing,
                Operation::Doorbell,
                Operation::Alarm,
                Operation::Accept(key),
                Operation::Connect(key),
                Operation::Receive(Side::Client, key, group),
                Operation::Receive(Side::Server, key, group),
                Operation::LinkReceive(key, group),
                Operation::Send(Side::Client, key),
                Operation::Send(Side::Server, key),
                Operation::Readable(Side::Client, key),
                Operation::Readable(Side::Server, key),
                Operation::Writable(Side::Client, key),
                Operation::Writable(Side::Server, key),
            ] {
                prop_assert_eq!(Operation::decode(operation.encode()), operation);
            }
        }
    }
}
