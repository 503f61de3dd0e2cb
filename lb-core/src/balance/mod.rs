//! stub
use crate::config::Name;
use std::sync::Arc;
/// Builds a policy.
pub trait PolicyBuilder: Send + Sync + 'static {}
#[derive(Default)]
pub(crate) struct Policies;
impl Policies {
    pub(crate) fn register(&mut self, _name: Name, _builder: Arc<dyn PolicyBuilder>) {}
}
