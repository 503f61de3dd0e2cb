//! An embeddable TCP load balancer.
#![deny(unsafe_code)]

pub mod balance;
mod balancer;
pub mod config;
mod control;
mod dataplane;
mod sys;
mod table;

pub use balancer::{Balancer, Builder, Control, Drain, Pending};
pub use control::{
    Applied, Change, Died, FrontendStatus, FrontendUpdate, NoStore, Options, Record, Refused, Resume, Saved,
    ServerStatus, ServerUpdate, ShardStatus, Snapshot, StartError, Status, Store, Traffic, Transaction,
};
pub use sys::socket::inherited_listener;
