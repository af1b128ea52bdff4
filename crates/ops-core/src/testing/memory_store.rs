//! A store for as long as the process lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    BackupStore, ByteRange, ByteStream, Capabilities, Capability, Object, ObjectKey, ObjectMeta, PutMode,
    collect,
};

type Objects = BTreeMap<ObjectKey, (Bytes, DateTime<Utc>)>;

/// A [`BackupStore`] in memory. Clones share their objects. See [`BackupStore`] for an example.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    objects: Arc<Mutex<Objects>>,
    capabilities: Capabilities,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store that can do all there is.
    pub fn new() -> Self {
        Self::with_capabilities(Capabilities::none().with(Capability::IfAbsent))
    }

    /// An empty store that can do only this.
    pub fn with_capabilities(capabilities: Capabilities) -> Self {
        Self { objects: Arc::default(), capabilities }
    }

    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BackupStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn put(&self, cx: &Context, key: &ObjectKey, bytes: ByteStream, mode: PutMode) -> Result<()> {
        let failed = |kind| Error::new(kind, "put an object").on(key.as_str());
        if mode == PutMode::IfAbsent && !self.capabilities.has(Capability::IfAbsent) {
            return Err(failed(ErrorKind::Unsupported));
        }
        let bytes = cx.run("put an object", collect(bytes)).await?;
        let mut objects = self.objects();
        if mode == PutMode::IfAbsent && objects.contains_key(key) {
            return Err(failed(ErrorKind::Precondition).because("it is there already"));
        }
        objects.insert(key.clone(), (bytes, cx.now()));
        Ok(())
    }

    async fn get(&self, _cx: &Context, key: &ObjectKey, range: ByteRange) -> Result<Object> {
        let bytes = self.objects().get(key).map(|(bytes, _)| bytes.clone());
        let Some(bytes) = bytes else {
            return Err(Error::new(ErrorKind::NotFound, "get an object").on(key.as_str()));
        };
        let size = bytes.len() as u64;
        let wanted = range.within(size);
        let piece = bytes.slice(wanted.start as usize..wanted.end as usize);
        Ok(Object { size, bytes: stream::iter([Ok(piece)]).boxed() })
    }

    fn list(&self, _cx: &Context, prefix: Option<&ObjectKey>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed: Vec<_> = self
            .objects()
            .iter()
            .filter(|(key, _)| prefix.is_none_or(|prefix| key.is_below(prefix)))
            .map(|(key, (bytes, modified))| {
                Ok(ObjectMeta { key: key.clone(), size: bytes.len() as u64, modified: *modified })
            })
            .collect();
        stream::iter(listed).boxed()
    }

    async fn delete(&self, _cx: &Context, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }
}
