//! The admin socket: one request a line, one reply a line, in RON.
//!
//! `request` and `reply` are the protocol, `handler` does what a request asks for, and `socket` is the server that
//! carries the lines. `hand_over` passes everything on to a successor. The protocol is pure and is what fuzz targets call.

pub(crate) mod descriptors;
mod hand_over;
mod handler;
mod reply;
mod request;
mod socket;

pub(crate) use handler::{Handler, OwnConfig};
pub use reply::{FrontendRow, HandedOver, Refusal, Reply, ServerRow, TlsMode};
pub use request::{Request, parse_request};
pub(crate) use socket::{Claim, check_place};

/// The protocol's version, as told by `Version`. It rises when a request or reply changes its meaning or loses a field.
pub const PROTOCOL: u32 = 1;

/// Longest request line in bytes, without its end.
pub const LINE_MAX: usize = 1 << 20;
