//! An embeddable TCP, TLS and HTTP load balancer for Linux: io_uring, a thread per core, changed while it runs.
//!
//! # A connection's way
//!
//! ```text
//!  control plane: one thread                     data plane: one thread per core
//!  ─────────────────────────                     ────────────────────────────────────────────
//!  change ─▶ desired state ─▶ store ─▶ table ──▶ accept ─▶ balance ─▶ connect ─▶ relay ─▶ close
//!     ▲                                  │
//!     └── confirmed when every shard ◀───┘
//!         uses the new table
//! ```
//!
//! A *shard* is a thread with an io_uring and listening sockets of its own. It reads an immutable table of frontends and
//! servers, takes no lock, and shares nothing else with the other shards. A *change* is checked, stored, published, and
//! confirmed only when every shard has acknowledged its revision. So no connection that is accepted after the confirmation
//! goes to a replaced address, while connections that exist go on undisturbed.
//!
//! # Use
//!
//! ```
//! use lb_core::config::{Bind, Config, Frontend, Server};
//! use lb_core::{Balancer, Drain};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse()?))?
//!     .with_server(Server::new("app1", "127.0.0.1:9001".parse()?)?);
//! let balancer = Balancer::builder().config(Config::default().frontend(frontend)).start()?;
//!
//! // From any thread, and as a future in any runtime.
//! let control = balancer.control();
//! let applied = control.add_server("web", Server::new("app2", "127.0.0.1:9002".parse()?)?).wait()?;
//! assert_eq!(applied.revision, 2);
//!
//! balancer.shutdown(Drain::now())?;
//! # Ok(())
//! # }
//! ```
//!
//! Policies of your own implement [`balance::Policy`]; `examples/tokio_policy.rs` has one. Where changes are kept is up to
//! a [`Store`].
//!
//! # Needs
//!
//! Linux 6.1 or newer with io_uring allowed. [`check_kernel`] and [`Builder::start`] say what to change where it is not.
//!
//! # Reading order
//!
//! `balancer` is the door. `dataplane` is what a shard runs; its `conn` and `relay::half` decide, without sockets or
//! clock, and are tested by simulation. `http` reads requests and answers, `tls` knows rustls, `balance` has the policies. `table` is where the planes meet. `control` owns the desired state. `sys` has all
//! the unsafe code.
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

#[cfg(not(target_os = "linux"))]
compile_error!("lb-core is built on io_uring and runs on Linux only");

pub mod access;
pub mod balance;
mod balancer;
pub mod config;
mod control;
mod dataplane;
mod http;
#[cfg(feature = "internal")]
#[doc(hidden)]
pub mod internal;
mod machine;
mod sys;
mod table;
mod tls;
mod turns;

pub use balancer::{Balancer, Builder, Control, Drain, Pending};
pub use config::{FrontendUpdate, ServerUpdate};
pub use control::{
    Applied, CertificateStatus, Change, ChangeCounts, Died, FrontendStatus, FrontendTimings, HttpResponses, HttpStatus,
    Listener, Metrics, NoStore, Options, PersistenceStatus, Record, Refused, RememberedClient, RememberedClients,
    Resume, Saved, ServerFailures, ServerHealth, ServerStatus, ServerTimings, ServerTlsStatus, Service, ShardStatus,
    Snapshot, StartError, Status, Store, TlsStatus, Traffic, Transaction,
};
pub use http::Cause as HttpCause;
pub use machine::{DescriptorCheck, KernelCheck, Obstacle, check_bind, check_descriptors, check_kernel};
pub use sys::limits::raise_descriptors;
pub use sys::socket::inherited_listener;
pub use table::timings::{Histogram, Quantiles};
pub use tls::cause::Cause;
