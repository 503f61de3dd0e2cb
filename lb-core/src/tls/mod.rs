//! STUB until merged.
pub(crate) mod cause;
