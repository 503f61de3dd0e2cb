//! Relaying: two directions, each a [`Half`], and how the shard turns their steps into operations.

mod copy;
mod gauge;
mod half;
mod pipe;
mod splice;

pub(super) use copy::SentAtOnce;
pub(crate) use half::{Filled, Half, ReceiveEnd, Step};
pub(super) use pipe::{Pipe, Pipes};
pub(super) use splice::ReadyStream;

/// Whom a socket connects us with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who dialled us.
    Client,
    /// Whom we dialled.
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub(crate) struct Relay {
    to_server: Half,
    to_client: Half,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self { to_server: Half::new(), to_client: Half::new() }
    }

    /// The direction whose source is `side`.
    pub(crate) fn from(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        }
    }

    /// The direction whose sink is `side`.
    pub(crate) fn to(&mut self, side: Side) -> &mut Half {
        self.from(side.other())
    }

    /// As [`Relay::to`], to look only.
    pub(crate) fn towards(&self, side: Side) -> &Half {
        match side {
            Side::Client => &self.to_client,
            Side::Server => &self.to_server,
        }
    }

    /// True if both directions have come to their end, but for a last end that closing the sockets passes on by itself; or
    /// one has, and nobody is there any more whom the other could reach.
    pub(crate) fn is_complete(&self) -> bool {
        let is_over = |half: &Half| half.is_complete() || half.is_about_to_end() || half.is_sink_broken();
        let (one, other) = (&self.to_server, &self.to_client);
        (one.is_complete() && is_over(other)) || (other.is_complete() && is_over(one))
    }

    /// True if a peer broke off and what it had sent before is delivered.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.to_server.is_broken_off() || self.to_client.is_broken_off()
    }

    pub(crate) fn in_kernel(&self) -> usize {
        self.to_server.in_kernel() + self.to_client.in_kernel()
    }
}
