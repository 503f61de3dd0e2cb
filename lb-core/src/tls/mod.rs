//! TLS: what certificates are, how a session is accepted and dialled, and what failures mean. Used by both planes.

pub(crate) mod session;
