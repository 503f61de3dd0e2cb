//! What a connection says before it is relayed: the readers. Pure: they are given all that has come so far, and answer what
//! it says, that more is needed, or that it is wrong.

pub(crate) mod client_hello;
pub(crate) mod proxy;
