//! An embeddable TCP load balancer.
#![deny(unsafe_code)]

pub mod balance;
mod balancer;
pub mod config;
mod control;

pub use balancer::{Balancer, Builder, Control, Drain, Pending};
pub use control::{
    Applied, Change, Died, FrontendStatus, FrontendUpdate, NoStore, Options, Record, Refused, Resume, Saved,
    ServerStatus, ServerUpdate, ShardStatus, Snapshot, StartError, Status, Store, Traffic, Transaction,
};
