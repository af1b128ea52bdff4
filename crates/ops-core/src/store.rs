//! Where backups are kept: named bytes that are there as a whole or not at all.

use std::fmt::{self, Debug};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};

/// Bytes on their way, in pieces of any size. It ends at the first error.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// The name of an object: one or more segments between slashes, such as `wal/00000001/000000010000000000000002`.
///
/// A segment is not empty, does not begin with a dot, has at most 255 bytes, and is made of ASCII letters, digits
/// and `! $ & ' ( ) + , - . : ; = @ _`: what every file system and every object store keeps as it is. A key has at
/// most 1024 bytes. Names are case-sensitive, but two keys that differ in case alone are one file on some laptops.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Reads a key.
    ///
    /// ```
    /// use ops_core::ObjectKey;
    /// assert_eq!(ObjectKey::parse("wal/1/a.zst")?.segments().count(), 3);
    /// for bad in ["", "/wal", "wal/", "wal//a", "wal/../a", "wal/.a", "a b", "é"] {
    ///     assert!(ObjectKey::parse(bad).is_err());
    /// }
    /// # Ok::<(), ops_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Err(Error::new(ErrorKind::InvalidInput, format!("read the object key {text:?}")).because(why))
        };
        if text.len() > 1024 {
            return invalid("it is longer than 1024 bytes");
        }
        for segment in text.split('/') {
            if segment.is_empty() {
                return invalid("a segment is empty");
            }
            if segment.len() > 255 {
                return invalid("a segment is longer than 255 bytes");
            }
            if segment.starts_with('.') {
                return invalid("a segment begins with a dot");
            }
            if let Some(odd) = segment.chars().find(|c| !legal(*c)) {
                return invalid(&format!("{odd:?} is not allowed"));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The key below this one.
    ///
    /// # Errors
    /// `InvalidInput` as for [`ObjectKey::parse`].
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::parse(&format!("{self}/{name}"))
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether this key lies below `prefix`, by whole segments: `a/b` below `a`, but neither `a` nor `ab`.
    pub fn is_below(&self, prefix: &ObjectKey) -> bool {
        self.0.strip_prefix(&prefix.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!$&'()+,-.:;=@_".contains(c)
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ObjectKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

/// What [`BackupStore::put`] does about an object that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PutMode {
    /// Takes its place.
    Overwrite,
    /// Leaves it, and fails with `Precondition`; of several at once exactly one succeeds.
    IfAbsent,
}

/// Which bytes of an object [`BackupStore::get`] reads. What lies outside the object is left out; no range is an
/// error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ByteRange {
    /// All of them.
    #[default]
    Whole,
    /// From `start` up to and without `end`.
    Between {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
    },
    /// From this byte on.
    From(u64),
    /// This many at the end.
    Last(u64),
}

impl ByteRange {
    /// The bytes meant in an object of `size`.
    ///
    /// ```
    /// use ops_core::ByteRange;
    /// assert_eq!(ByteRange::Between { start: 6, end: 99 }.within(10), 6..10);
    /// assert_eq!(ByteRange::Last(3).within(10), 7..10);
    /// assert!(ByteRange::From(11).within(10).is_empty());
    /// ```
    pub fn within(self, size: u64) -> Range<u64> {
        let (start, end) = match self {
            ByteRange::Whole => (0, size),
            ByteRange::Between { start, end } => (start.min(size), end.min(size)),
            ByteRange::From(start) => (start.min(size), size),
            ByteRange::Last(count) => (size.saturating_sub(count), size),
        };
        start..end.max(start)
    }
}

/// An object being read.
pub struct Object {
    /// The size of the whole object in bytes, whatever range was asked for.
    pub size: u64,
    /// The bytes asked for, of the object as it was when `get` returned, also if it is replaced or deleted
    /// meanwhile. An object that comes to its end too early is an error in the stream, never a short read.
    pub bytes: ByteStream,
}

impl Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("size", &self.size).finish_non_exhaustive()
    }
}

/// An object, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// Its name.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put, by the store's own clock.
    pub modified: DateTime<Utc>,
}

/// Something that not every store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// [`PutMode::IfAbsent`]. A store without it answers `Unsupported`, and never overwrites instead.
    IfAbsent,
}

/// What a store can do beyond what every store can.
///
/// ```
/// use ops_core::{Capabilities, Capability};
/// let able = Capabilities::none().with(Capability::IfAbsent);
/// assert!(able.has(Capability::IfAbsent));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    if_absent: bool,
}

impl Capabilities {
    /// Nothing more.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, capability: Capability) -> Self {
        match capability {
            Capability::IfAbsent => self.if_absent = true,
        }
        self
    }

    /// Whether it has this one.
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::IfAbsent => self.if_absent,
        }
    }
}

/// Keeps named bytes.
///
/// **Atomic visibility.** An object is seen as a whole or not at all, by `get` and by `list`. A `put` that fails,
/// is cancelled, or is dropped leaves what was there before, or all of the new object; what it wrote on the way is
/// never seen. When `put` has returned, the object is there for every reader, and as durable as the medium makes
/// it.
///
/// **No key is also a folder.** Callers don't use a key that lies below another key (`a` and `a/b`); a store may
/// refuse it.
///
/// Retry is outside: every method makes one attempt.
///
/// # Errors
/// - `NotFound` from `get`, only when the store proves that the object is not there: an unreachable store, or a
///   directory that is not mounted, is `Unreachable`. For `ops-wal fetch` the difference is a lost database.
/// - `Precondition` from `put` with `IfAbsent` when the object is there.
/// - `Unsupported` for a [`Capability`] that the store does not declare.
/// - From `put`, the first error of its stream, as it is.
/// - After `Timeout` and `Cancelled`, a put or a delete may have happened (`Indeterminate`).
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use ops_core::testing::MemoryStore;
/// use ops_core::{BackupStore, BackupStoreExt, Context, ErrorKind, ObjectKey, PutMode};
///
/// let store = MemoryStore::new();
/// let cx = Context::new();
/// let key = ObjectKey::parse("wal/000000010000000000000002")?;
/// store.put_bytes(&cx, &key, "segment".into(), PutMode::IfAbsent).await?;
/// assert_eq!(store.get_bytes(&cx, &key).await?, "segment");
/// let again = store.put_bytes(&cx, &key, "other".into(), PutMode::IfAbsent).await;
/// assert_eq!(again.unwrap_err().kind(), ErrorKind::Precondition);
/// store.delete(&cx, &key).await?;
/// store.delete(&cx, &key).await?;
/// # Ok::<(), ops_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait BackupStore: Send + Sync + Debug {
    /// What it can do beyond what every store can.
    fn capabilities(&self) -> Capabilities;

    /// Keeps an object.
    async fn put(&self, cx: &Context, key: &ObjectKey, bytes: ByteStream, mode: PutMode) -> Result<()>;

    /// Reads an object.
    async fn get(&self, cx: &Context, key: &ObjectKey, range: ByteRange) -> Result<Object>;

    /// The objects below `prefix` (see [`ObjectKey::is_below`]), or all, in no particular order, each once. What is
    /// put or deleted meanwhile may be shown or not. Where there is nothing, the listing is empty.
    fn list(&self, cx: &Context, prefix: Option<&ObjectKey>) -> BoxStream<'static, Result<ObjectMeta>>;

    /// Removes an object; to remove what is not there succeeds.
    async fn delete(&self, cx: &Context, key: &ObjectKey) -> Result<()>;
}

macro_rules! forward_store {
    ($pointer:ident) => {
        #[async_trait]
        impl<S: BackupStore + ?Sized> BackupStore for $pointer<S> {
            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }
            async fn put(
                &self,
                cx: &Context,
                key: &ObjectKey,
                bytes: ByteStream,
                mode: PutMode,
            ) -> Result<()> {
                (**self).put(cx, key, bytes, mode).await
            }
            async fn get(&self, cx: &Context, key: &ObjectKey, range: ByteRange) -> Result<Object> {
                (**self).get(cx, key, range).await
            }
            fn list(
                &self,
                cx: &Context,
                prefix: Option<&ObjectKey>,
            ) -> BoxStream<'static, Result<ObjectMeta>> {
                (**self).list(cx, prefix)
            }
            async fn delete(&self, cx: &Context, key: &ObjectKey) -> Result<()> {
                (**self).delete(cx, key).await
            }
        }
    };
}

forward_store!(Arc);
forward_store!(Box);

/// What every [`BackupStore`] can do with small objects.
#[async_trait]
pub trait BackupStoreExt: BackupStore {
    /// Keeps an object that is in memory.
    async fn put_bytes(&self, cx: &Context, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<()> {
        self.put(cx, key, stream::iter([Ok(bytes)]).boxed(), mode).await
    }

    /// Reads a whole object into memory.
    async fn get_bytes(&self, cx: &Context, key: &ObjectKey) -> Result<Bytes> {
        let object = self.get(cx, key, ByteRange::Whole).await?;
        collect(object.bytes).await
    }
}

impl<S: BackupStore + ?Sized> BackupStoreExt for S {}

/// All bytes of a stream in one piece.
///
/// # Errors
/// The first of the stream's.
pub async fn collect(bytes: ByteStream) -> Result<Bytes> {
    let gather = |mut all: BytesMut, piece: Bytes| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    };
    Ok(bytes.try_fold(BytesMut::new(), gather).await?.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_every_store_keeps_as_it_is() {
        let long = "a".repeat(255);
        for good in ["a", "a/b", "A-b_c.d", "a..b", "wal/00000001.history", "x=1,y:2", &long] {
            assert_eq!(ObjectKey::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(256);
        let too_many = "a/".repeat(512) + "a";
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", ".a", "a\\b", "a b", "a\nb", "a\0b",
            "~a", "a%2fb", "é", "a*", &too_long, &too_many,
        ] {
            let error = ObjectKey::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        let key = |text| ObjectKey::parse(text).unwrap();
        assert!(key("a/b/c").is_below(&key("a")));
        assert!(key("a/b/c").is_below(&key("a/b")));
        assert!(!key("a").is_below(&key("a")));
        assert!(!key("ab/c").is_below(&key("a")));
    }

    #[test]
    fn a_key_is_parsed_when_read_from_json() {
        assert!(serde_json::from_str::<ObjectKey>(r#""a/../b""#).is_err());
        assert_eq!(serde_json::to_string(&ObjectKey::parse("a/b").unwrap()).unwrap(), r#""a/b""#);
    }

    #[test]
    fn a_range_is_cut_to_the_object() {
        for (range, size, expected) in [
            (ByteRange::Whole, 0, 0..0),
            (ByteRange::Whole, 10, 0..10),
            (ByteRange::Between { start: 2, end: 5 }, 10, 2..5),
            (ByteRange::Between { start: 2, end: u64::MAX }, 10, 2..10),
            (ByteRange::Between { start: 5, end: 2 }, 10, 5..5),
            (ByteRange::Between { start: 20, end: 30 }, 10, 10..10),
            (ByteRange::From(9), 10, 9..10),
            (ByteRange::From(10), 10, 10..10),
            (ByteRange::Last(0), 10, 10..10),
            (ByteRange::Last(u64::MAX), 10, 0..10),
        ] {
            assert_eq!(range.within(size), expected, "{range:?} of {size}");
        }
    }
}
