//! What the measuring programs have in common. `README.md` says what is measured and how.
//!
//! `peers` starts the balancers, `load` is the traffic, `net` the event loops that carry it, `slice` measures one balancer for
//! a moment, `contest` takes turns among all of them, `ladder` does so at rising rates, `report` and `plot` show what came
//! out. `wrk` loads by a program of others. `tls` has the certificates and the sessions of both ends. `steps` counts instructions, for the guard. `simulation`
//! needs no balancer but its policies.
#![forbid(unsafe_code)]

pub mod contest;
pub mod cpu;
pub mod ladder;
pub mod latency;
pub mod load;
pub mod net;
pub mod peers;
pub mod plot;
pub mod relay_args;
pub mod report;
pub mod simulation;
pub mod slice;
pub mod spread;
pub mod steps;
pub mod tls;
pub mod wrk;

/// Measuring programs stop at the first thing that goes wrong and say it; nobody handles it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
