//! To be written.
use super::{Destination, PublishError, Sink, SinkError};
use crate::config::FileConfig;
use crate::event::{EventId, Record, Timestamp};
use futures_util::future::BoxFuture;
use std::{collections::HashSet, sync::Arc};
/// x
#[derive(Debug)]
pub struct FileSink;
impl FileSink {
    /// x
    pub fn new(_: &FileConfig) -> Self {
        Self
    }
}
impl Sink for FileSink {
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
