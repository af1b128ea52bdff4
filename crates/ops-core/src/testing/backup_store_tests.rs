use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::super::MemoryStore;
use super::super::rule::assert_refused;
use super::*;
use crate::store::{Capabilities, Object, ObjectMeta};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    LosesTheLastByte,
    TakesAnEmptyPieceForTheEnd,
    AppendsToTheOld,
    ReadsLate,
    FoldsCase,
    FoldsDots,
    IgnoresRanges,
    FailsBeyondTheEnd,
    SaysTheRangeIsTheSize,
    ListsByText,
    ListsThePrefixItself,
    ListsTwice,
    ListsNothingWithoutAPrefix,
    MissingIsEmpty,
    MissingIsFailed,
    DeletingMissingFails,
    DeletesNothing,
    DeletesSiblings,
    IfAbsentOverwrites,
    IfAbsentSaysDone,
    ChecksThenPuts,
    OverwritesThoughUndeclared,
    ShowsWhatHasCome,
    KeepsWhatHadCome,
    RemovesTheOldFirst,
    SwallowsTheError,
    IgnoresCancellation,
    KeepsWhatHadComeWhenCancelled,
    KeepsWhatHadComeWhenDropped,
}

#[derive(Clone, Debug)]
struct Broken {
    inner: MemoryStore,
    fault: Fault,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        let inner = match fault {
            Fault::OverwritesThoughUndeclared => MemoryStore::with_capabilities(Capabilities::none()),
            _ => MemoryStore::new(),
        };
        Self { inner, fault }
    }

    fn key(&self, key: &ObjectKey) -> ObjectKey {
        let name = match self.fault {
            Fault::FoldsCase => key.as_str().replace("case", "a"),
            Fault::FoldsDots => key.as_str().replace("..", "."),
            _ => return key.clone(),
        };
        ObjectKey::parse(&name).unwrap()
    }

    fn store(&self, key: &ObjectKey, bytes: Bytes) {
        self.inner.objects().insert(key.clone(), (bytes, Utc::now()));
    }

    fn has(&self, key: &ObjectKey) -> bool {
        self.inner.objects().contains_key(key)
    }

    /// Gathers a stream the way the fault would have it.
    async fn gather(
        &self,
        cx: &Context,
        key: &ObjectKey,
        mut bytes: ByteStream,
        mode: PutMode,
    ) -> Result<Bytes> {
        let mut all = Vec::new();
        let keep = |all: &[u8]| self.store(key, Bytes::copy_from_slice(all));
        loop {
            let next = tokio::select! {
                next = bytes.next() => next,
                () = cx.cancelled(), if self.fault != Fault::IgnoresCancellation => {
                    if self.fault == Fault::KeepsWhatHadComeWhenCancelled {
                        keep(&all);
                    }
                    return Err(Error::new(ErrorKind::Cancelled, "put an object"));
                }
            };
            match next {
                Some(Ok(piece)) if piece.is_empty() && self.fault == Fault::TakesAnEmptyPieceForTheEnd => {
                    break;
                }
                Some(Ok(piece)) => all.extend_from_slice(&piece),
                Some(Err(_)) if self.fault == Fault::SwallowsTheError => return Ok(all.into()),
                Some(Err(error)) => {
                    if self.fault == Fault::KeepsWhatHadCome {
                        keep(&all);
                    }
                    return Err(error);
                }
                None => break,
            }
            if self.fault == Fault::ShowsWhatHasCome && mode == PutMode::Overwrite {
                keep(&all);
            }
        }
        Ok(all.into())
    }
}

/// Keeps what had come when the future that holds it is dropped.
struct KeepOnDrop(Option<(Broken, ObjectKey)>);

impl Drop for KeepOnDrop {
    fn drop(&mut self) {
        if let Some((store, key)) = self.0.take() {
            store.store(&key, "half".into());
        }
    }
}

#[async_trait]
impl BackupStore for Broken {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, cx: &Context, key: &ObjectKey, bytes: ByteStream, mode: PutMode) -> Result<()> {
        let key = &self.key(key);
        if self.fault == Fault::RemovesTheOldFirst && mode == PutMode::Overwrite {
            self.inner.delete(cx, key).await?;
        }
        let dropped = (self.fault == Fault::KeepsWhatHadComeWhenDropped).then(|| (self.clone(), key.clone()));
        let mut guard = KeepOnDrop(dropped);
        let gathered = self.gather(cx, key, bytes, mode).await;
        guard.0 = None;
        let mut bytes = gathered?;
        match self.fault {
            Fault::LosesTheLastByte => bytes.truncate(bytes.len().saturating_sub(1)),
            Fault::AppendsToTheOld if self.has(key) => {
                let mut old = self.inner.get_bytes(cx, key).await?.to_vec();
                let keep = bytes.len().max(old.len());
                old.splice(..bytes.len().min(old.len()), bytes);
                old.truncate(keep);
                bytes = old.into();
            }
            _ => {}
        }
        if mode == PutMode::IfAbsent {
            match self.fault {
                Fault::IfAbsentOverwrites | Fault::OverwritesThoughUndeclared => {
                    self.store(key, bytes);
                    return Ok(());
                }
                Fault::IfAbsentSaysDone if self.has(key) => return Ok(()),
                Fault::ChecksThenPuts => {
                    let there = self.has(key);
                    tokio::task::yield_now().await;
                    if !there {
                        self.store(key, bytes);
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        self.inner.put_bytes(cx, key, bytes, mode).await
    }

    async fn get(&self, cx: &Context, key: &ObjectKey, range: ByteRange) -> Result<Object> {
        let key = &self.key(key);
        let error = |kind| Err(Error::new(kind, "get an object"));
        match self.fault {
            Fault::MissingIsEmpty if !self.has(key) => {
                return Ok(Object { size: 0, bytes: stream::empty().boxed() });
            }
            Fault::MissingIsFailed if !self.has(key) => return error(ErrorKind::Failed),
            Fault::IgnoresRanges => return self.inner.get(cx, key, ByteRange::Whole).await,
            _ => {}
        }
        let mut object = self.inner.get(cx, key, range).await?;
        let wanted = range.within(object.size);
        match self.fault {
            Fault::FailsBeyondTheEnd if wanted.is_empty() && object.size > 0 => {
                return error(ErrorKind::InvalidInput);
            }
            Fault::SaysTheRangeIsTheSize => object.size = wanted.end - wanted.start,
            Fault::ReadsLate => {
                let (store, cx, key) = (self.inner.clone(), cx.clone(), key.clone());
                let late = async move { store.get(&cx, &key, range).await.map(|object| object.bytes) };
                object.bytes = stream::once(late).try_flatten().boxed();
            }
            _ => {}
        }
        Ok(object)
    }

    fn list(&self, cx: &Context, prefix: Option<&ObjectKey>) -> BoxStream<'static, Result<ObjectMeta>> {
        let all = self.inner.list(cx, None);
        let Some(prefix) = prefix.cloned() else {
            return if self.fault == Fault::ListsNothingWithoutAPrefix {
                stream::empty().boxed()
            } else {
                all
            };
        };
        let fault = self.fault;
        let below = move |meta: &ObjectMeta| match fault {
            Fault::ListsByText => meta.key.as_str().starts_with(prefix.as_str()) && meta.key != prefix,
            Fault::ListsThePrefixItself => meta.key.is_below(&prefix) || meta.key == prefix,
            _ => meta.key.is_below(&prefix),
        };
        let listed = all.try_filter(move |meta| std::future::ready(below(meta)));
        match fault {
            Fault::ListsTwice => {
                listed.map_ok(|m| stream::iter([Ok(m.clone()), Ok(m)])).try_flatten().boxed()
            }
            _ => listed.boxed(),
        }
    }

    async fn delete(&self, cx: &Context, key: &ObjectKey) -> Result<()> {
        match self.fault {
            Fault::DeletesNothing => return Ok(()),
            Fault::DeletingMissingFails if !self.has(key) => {
                return Err(Error::new(ErrorKind::NotFound, "delete an object"));
            }
            Fault::DeletesSiblings => {
                let folder = key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                self.inner.objects().retain(|key, _| !key.as_str().starts_with(&folder));
            }
            _ => {}
        }
        self.inner.delete(cx, &self.key(key)).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_passes_with_and_without_its_capabilities() {
    backup_store(&MemoryStore::new()).await;
    backup_store(&MemoryStore::with_capabilities(Capabilities::none())).await;
    let boxed: Box<dyn BackupStore> = Box::new(Arc::new(MemoryStore::new()));
    backup_store(&boxed).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_behind() {
    let store = MemoryStore::new();
    backup_store(&store).await;
    assert!(store.objects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_broken_store_is_refused_by_its_rule() {
    let segments = "a listing shows what is below its prefix, by whole segments";
    let odd = "odd but legal keys are kept apart";
    let got = "what was put is what is got";
    let cancelled = "a cancelled put ends, and leaves what was there";
    for (fault, rule) in [
        (Fault::LosesTheLastByte, got),
        (Fault::TakesAnEmptyPieceForTheEnd, got),
        (Fault::AppendsToTheOld, "an overwrite leaves nothing of the old object"),
        (Fault::ReadsLate, "a reader that has begun reads the old object to its end"),
        (Fault::FoldsCase, odd),
        (Fault::FoldsDots, odd),
        (Fault::IgnoresRanges, "a range is cut to the object (Between { start: 0, end: 1 } of 300001)"),
        (
            Fault::FailsBeyondTheEnd,
            "a range is cut to the object (Between { start: 300002, end: 300006 } of 300001)",
        ),
        (
            Fault::SaysTheRangeIsTheSize,
            "a range is cut to the object (Between { start: 0, end: 1 } of 300001)",
        ),
        (Fault::ListsByText, segments),
        (Fault::ListsThePrefixItself, segments),
        (Fault::ListsTwice, odd),
        (Fault::ListsNothingWithoutAPrefix, "a listing without a prefix shows everything"),
        (Fault::MissingIsEmpty, "a missing object is NotFound"),
        (Fault::MissingIsFailed, "a missing object is NotFound"),
        (Fault::DeletingMissingFails, "deleting what is missing succeeds"),
        (Fault::DeletesNothing, "what was deleted is gone, and nothing else"),
        (Fault::DeletesSiblings, "what was deleted is gone, and nothing else"),
        (Fault::IfAbsentOverwrites, "if-absent keeps what is there"),
        (Fault::IfAbsentSaysDone, "if-absent keeps what is there"),
        (Fault::ChecksThenPuts, "of puts at once if-absent has one winner"),
        (Fault::OverwritesThoughUndeclared, "a capability that is not declared is Unsupported"),
        (Fault::ShowsWhatHasCome, "a put under way shows nothing"),
        (Fault::RemovesTheOldFirst, "a put under way shows nothing"),
        (Fault::KeepsWhatHadCome, "a broken put leaves what was there"),
        (Fault::SwallowsTheError, "a broken put passes its stream's error on"),
        (Fault::IgnoresCancellation, cancelled),
        (Fault::KeepsWhatHadComeWhenCancelled, cancelled),
        (Fault::KeepsWhatHadComeWhenDropped, "a dropped put leaves what was there"),
    ] {
        assert_refused(fault, rule, backup_store(&Broken::new(fault))).await;
    }
}
