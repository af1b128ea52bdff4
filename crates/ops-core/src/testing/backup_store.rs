//! The rules of [`BackupStore`].

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use futures::channel::mpsc;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::rule::{broken, done, ends, fails, holds, same};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    BackupStore, BackupStoreExt, ByteRange, ByteStream, Capability, ObjectKey, PutMode, collect,
};

/// More than one part of an S3 upload (5 MiB), and not a multiple of anything.
const LARGE: usize = 9 * 1024 * 1024 + 11;
/// What a cancelled put may take: it may have to take back what it uploaded.
const STOP: Duration = Duration::from_secs(10);

/// Checks a store. It works below a key of its own, `conformance-…`, and leaves nothing behind when it passes, so it
/// may run on a bucket that is in use. It reads and writes some 50 MiB.
///
/// - What was put is what is got: empty, in many pieces, large; an overwrite leaves nothing of the old object, and a
///   reader that has begun reads the old one to its end.
/// - Odd but legal keys are kept apart and listed as they are.
/// - Ranges are cut to the object.
/// - Listing shows each object below the prefix once, by whole segments, with its size.
/// - A missing object is `NotFound`; deleting it succeeds.
/// - If-absent has one winner, and the others leave it alone; or it is declared missing, and `Unsupported`.
/// - A put under way, broken, cancelled or dropped shows nothing, and leaves what was there.
///
/// # Panics
/// When a rule is broken.
pub async fn backup_store(store: &dyn BackupStore) {
    let root = ObjectKey::parse(&format!("conformance-{}", uuid::Uuid::now_v7()));
    let suite = Suite { store, cx: Context::new(), root: done("the suite can make a key", root) };
    suite.keeps_what_it_is_given().await;
    suite.overwrites_whole().await;
    suite.keeps_odd_keys_apart().await;
    suite.reads_ranges().await;
    suite.lists_by_segments().await;
    suite.deletes().await;
    suite.respects_if_absent().await;
    suite.has_one_winner().await;
    suite.shows_nothing_of_a_put_under_way().await;
    suite.shows_nothing_of_a_broken_put().await;
    suite.shows_nothing_of_a_stopped_put().await;
    suite.clean_up().await;
}

struct Suite<'a> {
    store: &'a dyn BackupStore,
    cx: Context,
    root: ObjectKey,
}

impl Suite<'_> {
    fn key(&self, name: &str) -> ObjectKey {
        done("the suite can make a key", self.root.child(name))
    }

    async fn put(&self, rule: &str, key: &ObjectKey, bytes: impl Into<Bytes>) {
        done(rule, self.store.put_bytes(&self.cx, key, bytes.into(), PutMode::Overwrite).await);
    }

    /// An object must be exactly this, in its bytes and in its size.
    async fn holds(&self, rule: &str, key: &ObjectKey, expected: &[u8]) {
        let object = done(rule, self.store.get(&self.cx, key, ByteRange::Whole).await);
        let size = object.size;
        let bytes = done(rule, collect(object.bytes).await);
        equal(rule, key, &bytes, expected);
        same(rule, size, expected.len() as u64);
    }

    /// An object must not be there, by get and by list.
    async fn is_missing(&self, rule: &str, key: &ObjectKey) {
        fails(rule, self.store.get(&self.cx, key, ByteRange::Whole).await, ErrorKind::NotFound);
        let listed = self.listed(rule, &self.root).await;
        holds(rule, !listed.contains_key(key), format!("{key} is listed"));
    }

    async fn listed(&self, rule: &str, prefix: &ObjectKey) -> BTreeMap<ObjectKey, u64> {
        let mut sizes = BTreeMap::new();
        let mut listing = self.store.list(&self.cx, Some(prefix));
        while let Some(meta) = done(rule, listing.try_next().await) {
            let age = (Utc::now() - meta.modified).num_hours().abs();
            holds(rule, age < 24, format!("{} was modified {}", meta.key, meta.modified));
            holds(rule, sizes.insert(meta.key.clone(), meta.size).is_none(), format!("{} twice", meta.key));
        }
        sizes
    }

    async fn keeps_what_it_is_given(&self) {
        let rule = "what was put is what is got";
        for (name, bytes) in [("small", b"some bytes".to_vec()), ("empty", vec![]), ("large", noise(LARGE))] {
            let key = self.key(name);
            let pieces = pieces(&bytes, 300_000);
            done(rule, self.store.put(&self.cx, &key, pieces, PutMode::Overwrite).await);
            self.holds(rule, &key, &bytes).await;
        }
        let key = self.key("nothing");
        done(rule, self.store.put(&self.cx, &key, stream::empty().boxed(), PutMode::Overwrite).await);
        self.holds(rule, &key, b"").await;
    }

    async fn overwrites_whole(&self) {
        let rule = "an overwrite leaves nothing of the old object";
        let key = self.key("overwritten");
        self.put(rule, &key, "a long first version").await;
        self.put(rule, &key, "short").await;
        self.holds(rule, &key, b"short").await;

        let rule = "a reader that has begun reads the old object to its end";
        let old = noise(LARGE);
        self.put(rule, &key, old.clone()).await;
        let begun = done(rule, self.store.get(&self.cx, &key, ByteRange::Whole).await);
        self.put(rule, &key, "new").await;
        equal(rule, &key, &done(rule, collect(begun.bytes).await), &old);
    }

    async fn keeps_odd_keys_apart(&self) {
        let rule = "odd but legal keys are kept apart";
        let longest = "n".repeat(255);
        let below = done("the suite can make a key", self.root.child("odd"));
        let names = [
            "a",
            "b.c",
            "b..c",
            "b-c",
            "b_c",
            "x=1,y=2",
            "a+b",
            "a:b",
            "a@b",
            "a'b",
            "(a)",
            "a&b",
            "a!$;b",
            "-a",
            "trailing.",
            "00000001.history",
            "deep/1/2/3/4/5/6/7/8/9/x",
            "case",
            &longest,
        ];
        let mut expected = BTreeMap::new();
        for name in names {
            let key = done("the suite can make a key", below.child(name));
            self.put(rule, &key, format!("content of {name}")).await;
            expected.insert(key, name);
        }
        for (key, name) in &expected {
            self.holds(rule, key, format!("content of {name}").as_bytes()).await;
        }
        let listed: Vec<_> = self.listed(rule, &below).await.into_keys().collect();
        same(rule, listed, expected.into_keys().collect());
    }

    async fn reads_ranges(&self) {
        let rule = "a range is cut to the object";
        let bytes = noise(300_001);
        let size = bytes.len() as u64;
        let key = self.key("ranges");
        self.put(rule, &key, bytes.clone()).await;
        for range in [
            ByteRange::Between { start: 0, end: 1 },
            ByteRange::Between { start: 70_000, end: 200_000 },
            ByteRange::Between { start: size - 1, end: size + 5 },
            ByteRange::Between { start: size + 1, end: size + 5 },
            ByteRange::Between { start: 5, end: 5 },
            ByteRange::From(0),
            ByteRange::From(size - 1),
            ByteRange::From(size),
            ByteRange::From(size + 1),
            ByteRange::Last(0),
            ByteRange::Last(70_000),
            ByteRange::Last(size + 1),
        ] {
            let rule = &format!("{rule} ({range:?} of {size})");
            let object = done(rule, self.store.get(&self.cx, &key, range).await);
            same(rule, object.size, size);
            let wanted = range.within(size);
            let read = done(rule, collect(object.bytes).await);
            equal(rule, &key, &read, &bytes[wanted.start as usize..wanted.end as usize]);
        }
        let empty = self.key("empty-ranges");
        self.put(rule, &empty, "").await;
        for range in [ByteRange::Between { start: 0, end: 9 }, ByteRange::From(0), ByteRange::Last(9)] {
            let object = done(rule, self.store.get(&self.cx, &empty, range).await);
            equal(rule, &empty, &done(rule, collect(object.bytes).await), b"");
        }
    }

    async fn lists_by_segments(&self) {
        let rule = "a listing shows what is below its prefix, by whole segments";
        let keys: Vec<_> =
            ["list/a/1", "list/a/b/2", "list/ab/3", "list/c"].map(|name| self.key(name)).into();
        for (index, key) in keys.iter().enumerate() {
            self.put(rule, key, vec![b'x'; index]).await;
        }
        for (prefix, expected) in
            [("list", vec![0, 1, 2, 3]), ("list/a", vec![0, 1]), ("list/c", vec![]), ("list/none", vec![])]
        {
            let expected: BTreeMap<_, _> =
                expected.into_iter().map(|i| (keys[i].clone(), i as u64)).collect();
            same(rule, self.listed(rule, &self.key(prefix)).await, expected);
        }
        let rule = "a listing without a prefix shows everything";
        let mut everything = self.store.list(&self.cx, None);
        let mut found = 0;
        while let Some(meta) = done(rule, everything.try_next().await) {
            found += usize::from(keys.contains(&meta.key));
        }
        same(rule, found, keys.len());
    }

    async fn deletes(&self) {
        let rule = "a missing object is NotFound";
        for name in ["never", "never/was/there"] {
            self.is_missing(rule, &self.key(name)).await;
            let rule = "deleting what is missing succeeds";
            done(rule, self.store.delete(&self.cx, &self.key(name)).await);
        }
        let (gone, sibling) = (self.key("deleted/gone"), self.key("deleted/stays"));
        let rule = "what was deleted is gone, and nothing else";
        self.put(rule, &gone, "x").await;
        self.put(rule, &sibling, "y").await;
        done(rule, self.store.delete(&self.cx, &gone).await);
        self.is_missing(rule, &gone).await;
        self.holds(rule, &sibling, b"y").await;
        done("deleting what is missing succeeds", self.store.delete(&self.cx, &gone).await);
        self.put("what was deleted can be put anew", &gone, "z").await;
        self.holds("what was deleted can be put anew", &gone, b"z").await;
    }

    fn can_put_if_absent(&self) -> bool {
        self.store.capabilities().has(Capability::IfAbsent)
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: &'static [u8]) -> Result<()> {
        self.store.put_bytes(&self.cx, key, Bytes::from_static(bytes), PutMode::IfAbsent).await
    }

    async fn respects_if_absent(&self) {
        let key = self.key("if-absent");
        if !self.can_put_if_absent() {
            let rule = "a capability that is not declared is Unsupported";
            fails(rule, self.put_if_absent(&key, b"x").await, ErrorKind::Unsupported);
            self.is_missing(rule, &key).await;
            return;
        }
        let rule = "if-absent keeps what is there";
        done(rule, self.put_if_absent(&key, b"first").await);
        for bytes in [b"second" as &[u8], b"first", b""] {
            fails(rule, self.put_if_absent(&key, bytes).await, ErrorKind::Precondition);
            self.holds(rule, &key, b"first").await;
        }
        let rule = "if-absent puts what was deleted";
        done(rule, self.store.delete(&self.cx, &key).await);
        done(rule, self.put_if_absent(&key, b"again").await);
        self.holds(rule, &key, b"again").await;
    }

    async fn has_one_winner(&self) {
        let rule = "of puts at once one wins whole";
        let contents: [&'static [u8]; 8] =
            [b"0", b"11", b"222", b"3333", b"44444", b"555555", b"6666666", b"77"];
        let key = self.key("race/overwrite");
        let overwrite =
            |bytes| self.store.put_bytes(&self.cx, &key, Bytes::from_static(bytes), PutMode::Overwrite);
        for result in futures::future::join_all(contents.map(overwrite)).await {
            done(rule, result);
        }
        let kept = done(rule, self.store.get_bytes(&self.cx, &key).await);
        holds(rule, contents.contains(&&*kept), format!("{kept:?} was put by nobody"));
        if !self.can_put_if_absent() {
            return;
        }
        let rule = "of puts at once if-absent has one winner";
        for round in 0..5 {
            let key = self.key(&format!("race/{round}"));
            let results = futures::future::join_all(contents.map(|c| self.put_if_absent(&key, c))).await;
            let mut winners = Vec::new();
            for (result, content) in results.into_iter().zip(contents) {
                match result {
                    Ok(()) => winners.push(content),
                    lost => drop(fails(rule, lost, ErrorKind::Precondition)),
                }
            }
            same(rule, winners.len(), 1);
            self.holds(rule, &key, winners[0]).await;
        }
    }

    /// Both of a new object and of one that takes the place of an old one.
    async fn on_new_and_old(&self, rule: &str, name: &str) -> [(ObjectKey, Option<&'static [u8]>); 2] {
        let (new, old) = (self.key(&format!("{name}/new")), self.key(&format!("{name}/old")));
        self.put(rule, &old, "the old version").await;
        [(new, None), (old, Some(b"the old version"))]
    }

    async fn is_still(&self, rule: &str, key: &ObjectKey, old: Option<&[u8]>) {
        match old {
            Some(old) => self.holds(rule, key, old).await,
            None => self.is_missing(rule, key).await,
        }
    }

    async fn shows_nothing_of_a_put_under_way(&self) {
        let rule = "a put under way shows nothing";
        let bytes = noise(LARGE);
        for (key, old) in self.on_new_and_old(rule, "under-way").await {
            let (mut to, from) = mpsc::channel(0);
            let put = self.store.put(&self.cx, &key, from.boxed(), PutMode::Overwrite);
            let feed = async {
                for (index, piece) in bytes.chunks(1024 * 1024).enumerate() {
                    if futures::SinkExt::send(&mut to, Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                        return;
                    }
                    if index % 4 == 3 {
                        self.is_still(rule, &key, old).await;
                    }
                }
                drop(to);
            };
            let (put, ()) = futures::join!(put, feed);
            done(rule, put);
            self.holds(rule, &key, &bytes).await;
        }
    }

    async fn shows_nothing_of_a_broken_put(&self) {
        let rule = "a broken put leaves what was there";
        for size in [0, 10, 6 * 1024 * 1024] {
            for (key, old) in self.on_new_and_old(rule, &format!("broken-{size}")).await {
                for mode in [PutMode::Overwrite, PutMode::IfAbsent] {
                    if mode == PutMode::IfAbsent && (old.is_some() || !self.can_put_if_absent()) {
                        continue;
                    }
                    let cause = Error::new(ErrorKind::Corrupt, "read the source");
                    let broken_off = pieces(&noise(size), 1 << 20).chain(stream::iter([Err(cause)])).boxed();
                    let put = self.store.put(&self.cx, &key, broken_off, mode).await;
                    fails("a broken put passes its stream's error on", put, ErrorKind::Corrupt);
                    self.is_still(rule, &key, old).await;
                }
            }
        }
    }

    async fn shows_nothing_of_a_stopped_put(&self) {
        let rule = "a cancelled put ends, and leaves what was there";
        for (key, old) in self.on_new_and_old(rule, "cancelled").await {
            let cx = Context::new();
            let put = self.store.put(&cx, &key, endless(), PutMode::Overwrite);
            let stop = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                cx.cancel();
            };
            let stopped = ends(rule, STOP, async { futures::join!(put, stop).0 }).await;
            fails(rule, stopped, ErrorKind::Cancelled);
            self.is_still(rule, &key, old).await;
        }
        let rule = "a dropped put leaves what was there";
        for (key, old) in self.on_new_and_old(rule, "dropped").await {
            let put = self.store.put(&self.cx, &key, endless(), PutMode::Overwrite);
            drop_after(Duration::from_millis(50), put).await;
            self.is_still(rule, &key, old).await;
            self.put("after a dropped put the key is free", &key, "next").await;
            self.holds("after a dropped put the key is free", &key, b"next").await;
        }
    }

    async fn clean_up(&self) {
        let rule = "what was put can be deleted";
        for key in self.listed(rule, &self.root).await.into_keys() {
            done(rule, self.store.delete(&self.cx, &key).await);
        }
        same(rule, self.listed(rule, &self.root).await.len(), 0);
    }
}

async fn drop_after<T>(time: Duration, work: impl Future<Output = T>) {
    if tokio::time::timeout(time, work).await.is_ok() {
        broken("a dropped put leaves what was there", "it returned before its stream ended");
    }
}

/// Compares without printing megabytes.
fn equal(rule: &str, key: &ObjectKey, seen: &[u8], expected: &[u8]) {
    if seen != expected {
        let at = seen.iter().zip(expected).position(|(a, b)| a != b);
        let (seen, expected) = (seen.len(), expected.len());
        let differ = at.map_or(String::new(), |at| format!(", and they differ at byte {at}"));
        broken(rule, format!("{key} has {seen} bytes instead of {expected}{differ}"));
    }
}

/// Bytes without a period, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn pieces(bytes: &[u8], size: usize) -> ByteStream {
    let mut pieces: Vec<_> = bytes.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    // An empty piece is not the end.
    pieces.insert(pieces.len() / 2, Ok(Bytes::new()));
    stream::iter(pieces).boxed()
}

/// Some bytes, and then neither more nor an end.
fn endless() -> ByteStream {
    stream::iter([Ok(Bytes::from(noise(6 * 1024 * 1024)))]).chain(stream::pending()).boxed()
}

#[cfg(test)]
#[path = "backup_store_tests.rs"]
mod tests;
