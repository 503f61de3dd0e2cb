//! What the end-to-end tests share: the real `lb` program in a folder of its own ([`Place`], [`Lb`]), scripted servers
//! ([`Backend`], [`Listener`]), clients ([`client`], [`Tries`], [`crowd`]), ends of connections with TLS ([`channel`]) and certificates for
//! them ([`pki`]), HTTP as it is on the wire ([`http`]), real programs ([`program`], [`openssl`]),
//! a browser ([`browser`]), a terminal ([`Terminal`]) and faults ([`net`], [`fault`]).
//!
//! Ports are chosen by the kernel and no sleep stands for an event: what a test waits for it asks for, with
//! [`wait::until`], whose deadline only guards against a hang.
#![forbid(unsafe_code)]

mod admin;
mod backend;
pub mod browser;
pub mod channel;
pub mod client;
mod config;
pub mod crowd;
pub mod fault;
pub mod http;
mod lb;
mod log;
pub mod metrics;
pub mod modes;
pub mod net;
pub mod openssl;
mod peer;
pub mod pki;
pub mod program;
pub mod stream;
mod terminal;
pub mod tries;
pub mod wait;

pub use admin::{Admin, Confirmed, Refused, Reply};
pub use backend::{Backend, Listener, Pair, refusing_addr};
pub use channel::Channel;
pub use config::{Config, Frontend, bundle, pair};
pub use lb::{Exit, Lb, Place, health, http_count, http_refused, lb_path, text, tls, tls_failed};
pub use log::Log;
pub use peer::Peer;
pub use pki::{Authority, Identity};
pub use terminal::Terminal;
pub use tries::Tries;
