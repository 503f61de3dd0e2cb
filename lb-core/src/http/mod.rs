//! HTTP/1.1, read without sockets.

pub(crate) mod cookie;
