//! HTTP/1.1 as it is on the wire, for clients and servers alike ([`Wire`], [`Message`], [`Body`]); servers that say what they
//! have seen ([`Site`]); and a strict parser of another kind as a server ([`Referee`]). Nothing here mends what it reads.

mod body;
pub mod corpus;
mod message;
mod referee;
mod site;
mod wire;

pub use body::{Body, Chunks, Framing};
pub use message::Message;
pub use referee::{Received, Referee};
pub use site::{Seen, Site, ok, reply};
pub use wire::{Wire, request};
