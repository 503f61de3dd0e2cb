//! HTTP/1.1 as a shard reads and writes it.

pub(crate) mod cookie;

/// What a request's head may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of its first line.
    pub(crate) line: u32,
    /// Header fields.
    pub(crate) fields: u16,
    /// Bytes of all of it.
    pub(crate) head: u32,
}
