//! What the measuring programs have in common. `README.md` says what is measured and how.
//!
//! `peers` starts the balancers, `load` is the traffic, `net` the event loop that carries it, `slice` measures one
//! balancer for a moment, `contest` takes turns among all of them, `report` prints what came out.
#![forbid(unsafe_code)]

pub mod contest;
pub mod cpu;
pub mod load;
pub mod net;
pub mod peers;
pub mod report;
pub mod slice;
pub mod spread;

/// Measuring programs stop at the first thing that goes wrong and say it; nobody handles it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
