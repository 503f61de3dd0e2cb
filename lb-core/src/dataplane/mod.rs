//! What a shard's thread runs. The modules stand in the order in which a connection passes through them:
//!
//! ```text
//! accept ──▶ choose ──▶ connect ──▶ relay ──▶ close
//!    │         │ waiting    │          │         │
//!    └─────────┴────────────┴── conn ──┴─────────┘     the decisions, without sockets
//! ```
//!
//! A client of requests goes round: `requests` takes it from an answer back to where it is heard, and `links` keeps the
//! servers' connections meanwhile.
//!
//! [`shard`] is the loop that turns completions into calls of the pure machines and their actions into operations.

pub(crate) mod shard;

mod accept;
pub(crate) mod choose;
mod connect;
mod layered;
mod persist;
mod relay;
mod waiting;

mod close;
mod conn;
mod gather;
pub(crate) mod greeting;
mod handshakes;
mod key;
mod layers;
mod links;
mod outgoing;
mod recycle;
mod requests;
mod stopwatch;
mod visit;

#[cfg(any(test, feature = "internal"))]
pub(crate) mod simulation;

pub(crate) use relay::Side;
