//! To be written.
use super::{Destination, PublishError, Sink, SinkError};
use crate::config::NatsConfig;
use crate::event::{EventId, Record, Timestamp};
use futures_util::future::BoxFuture;
use std::{collections::HashSet, sync::Arc};
/// x
#[derive(Debug)]
pub struct NatsSink;
impl NatsSink {
    /// x
    pub fn new(_: &NatsConfig) -> Result<Self, SinkError> {
        Ok(Self)
    }
}
impl Sink for NatsSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Destination, SinkError>> {
        unreachable!()
    }
    fn held(&mut self, _: Timestamp) -> BoxFuture<'_, Result<HashSet<EventId>, SinkError>> {
        unreachable!()
    }
    fn publish<'a>(&'a mut self, _: &'a [Arc<Record>]) -> BoxFuture<'a, Result<(), PublishError>> {
        unreachable!()
    }
    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        unreachable!()
    }
}
