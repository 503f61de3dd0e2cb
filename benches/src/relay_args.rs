//! The arguments of the relays that are built here to be compared with.

use std::net::SocketAddr;

use clap::Parser;

/// Where to relay from and to.
#[derive(Debug, Parser)]
pub struct RelayArgs {
    /// Where to listen, on all addresses.
    #[arg(long)]
    pub port: u16,
    /// The servers, comma-separated, which take turns.
    #[arg(long, value_delimiter = ',', required = true)]
    pub servers: Vec<SocketAddr>,
}
