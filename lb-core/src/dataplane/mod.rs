//! What a shard's thread runs. The modules stand in the order in which a connection passes through them:
//!
//! ```text
//! accept ──▶ connect ──▶ relay ──▶ close
//!    │          │           │         │
//!    └──────────┴── conn ───┴─────────┘     the decisions, without sockets
//! ```
//!
//! [`shard`] is the loop that turns completions into calls of the pure machines and their actions into operations.

pub(crate) mod shard;

mod accept;
pub(crate) mod connect;
mod relay;

mod close;
mod conn;
mod gather;
mod key;
mod recycle;
mod slots;
mod stopwatch;
mod timers;

#[cfg(any(test, feature = "internal"))]
pub(crate) mod simulation;
