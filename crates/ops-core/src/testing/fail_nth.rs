//! A store that fails at one call.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::{
    BackupStore, ByteRange, ByteStream, Capabilities, Object, ObjectKey, ObjectMeta, PutMode,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// Fails at the nth call of `put`, `get`, `list` and `delete` together, counted from 1, and at no other. What has
/// to survive a failing store is run with n = 1, 2, 3 … until [`FailNth::calls`] stays below n.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use ops_core::testing::{FailNth, MemoryStore};
/// use ops_core::{BackupStore, BackupStoreExt, Context, ObjectKey, PutMode};
///
/// let (cx, key) = (Context::new(), ObjectKey::parse("a")?);
/// for n in 1.. {
///     let store = FailNth::before(MemoryStore::new(), n);
///     let put = store.put_bytes(&cx, &key, "x".into(), PutMode::Overwrite).await;
///     assert_eq!(put.is_err(), n == 1);
///     if store.calls() < n {
///         break;
///     }
/// }
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct FailNth<S> {
    inner: S,
    nth: u64,
    moment: Moment,
    calls: AtomicU64,
}

impl<S> FailNth<S> {
    /// Fails before anything happens: the store can't be reached.
    pub fn before(inner: S, nth: u64) -> Self {
        Self { inner, nth, moment: Moment::Before, calls: AtomicU64::new(0) }
    }

    /// Fails after it has happened, with `Timeout` and `Indeterminate`; a `get` or `list` breaks off after its first
    /// piece.
    pub fn after(inner: S, nth: u64) -> Self {
        Self { inner, nth, moment: Moment::After, calls: AtomicU64::new(0) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts a call, and says whether and when this one fails.
    fn count(&self) -> Option<Moment> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        (call == self.nth).then_some(self.moment)
    }
}

fn unreachable(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unreachable, operation).because("told to fail").retry(Retry::Safe { after: None })
}

fn timed_out(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation).because("told to fail").retry(Retry::Indeterminate)
}

/// The first piece, then an error.
fn broken_off<T: Send + 'static>(
    pieces: BoxStream<'static, Result<T>>,
    operation: &'static str,
) -> BoxStream<'static, Result<T>> {
    pieces.take(1).chain(stream::iter([Err(timed_out(operation))])).boxed()
}

#[async_trait]
impl<S: BackupStore> BackupStore for FailNth<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, cx: &Context, key: &ObjectKey, bytes: ByteStream, mode: PutMode) -> Result<()> {
        match self.count() {
            Some(Moment::Before) => Err(unreachable("put an object")),
            Some(Moment::After) => {
                self.inner.put(cx, key, bytes, mode).await?;
                Err(timed_out("put an object"))
            }
            None => self.inner.put(cx, key, bytes, mode).await,
        }
    }

    async fn get(&self, cx: &Context, key: &ObjectKey, range: ByteRange) -> Result<Object> {
        let moment = self.count();
        if moment == Some(Moment::Before) {
            return Err(unreachable("get an object"));
        }
        let mut object = self.inner.get(cx, key, range).await?;
        if moment == Some(Moment::After) {
            object.bytes = broken_off(object.bytes, "get an object");
        }
        Ok(object)
    }

    fn list(&self, cx: &Context, prefix: Option<&ObjectKey>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.count() {
            Some(Moment::Before) => stream::iter([Err(unreachable("list objects"))]).boxed(),
            Some(Moment::After) => broken_off(self.inner.list(cx, prefix), "list objects"),
            None => self.inner.list(cx, prefix),
        }
    }

    async fn delete(&self, cx: &Context, key: &ObjectKey) -> Result<()> {
        match self.count() {
            Some(Moment::Before) => Err(unreachable("delete an object")),
            Some(Moment::After) => {
                self.inner.delete(cx, key).await?;
                Err(timed_out("delete an object"))
            }
            None => self.inner.delete(cx, key).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BackupStoreExt;
    use crate::testing::{MemoryStore, backup_store};
    use futures::TryStreamExt;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_fails_is_the_store_itself() {
        backup_store(&FailNth::before(MemoryStore::new(), u64::MAX)).await;
    }

    #[tokio::test]
    async fn each_call_fails_in_turn_before_or_after_it_happened() {
        let (cx, key) = (Context::new(), ObjectKey::parse("a").unwrap());
        for (moment, kinds) in [
            (FailNth::before as fn(MemoryStore, u64) -> FailNth<MemoryStore>, ErrorKind::Unreachable),
            (FailNth::after, ErrorKind::Timeout),
        ] {
            for nth in 1..=4 {
                let memory = MemoryStore::new();
                let store = moment(memory.clone(), nth);
                let mut failed = Vec::new();
                failed.push(store.put_bytes(&cx, &key, "x".into(), PutMode::Overwrite).await.err());
                if nth == 1 {
                    assert_eq!(memory.objects().contains_key(&key), kinds == ErrorKind::Timeout);
                }
                memory.put_bytes(&cx, &key, "x".into(), PutMode::Overwrite).await.unwrap();
                failed.push(store.get_bytes(&cx, &key).await.err());
                failed.push(store.list(&cx, None).try_collect::<Vec<_>>().await.err());
                failed.push(store.delete(&cx, &key).await.err());
                let failed: Vec<_> = failed.into_iter().map(|error| error.map(|e| e.kind())).collect();
                let expected: Vec<_> = (1..=4).map(|call| (call == nth).then_some(kinds)).collect();
                assert_eq!(failed, expected);
                assert_eq!(store.calls(), 4);
            }
        }
    }
}
