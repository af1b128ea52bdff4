use super::*;
use ops_core::{BackupStoreExt, testing};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

async fn store() -> (TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path().join("store")).await.unwrap();
    (dir, store)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name).unwrap()
}

fn partial_files(store: &LocalStore) -> usize {
    std::fs::read_dir(store.root.join(PARTIAL)).unwrap().count()
}

async fn put(store: &LocalStore, name: &str) -> Result<()> {
    store.put_bytes(&Context::new(), &key(name), "x".into(), PutMode::Overwrite).await
}

async fn listed(store: &LocalStore) -> Vec<String> {
    let all: Vec<_> = store.list(&Context::new(), None).try_collect().await.unwrap();
    let mut names: Vec<_> = all.into_iter().map(|meta| meta.key.to_string()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_rules_of_a_store() {
    let (_dir, store) = store().await;
    testing::backup_store(&store).await;
    assert_eq!(partial_files(&store), 0);
}

#[tokio::test]
async fn what_is_not_mounted_proves_nothing_absent() {
    let (_dir, store) = store().await;
    put(&store, "a").await.unwrap();
    let cx = Context::new();
    std::fs::rename(&store.root, store.root.with_extension("away")).unwrap();
    for mount_point in [false, true] {
        if mount_point {
            std::fs::create_dir(&store.root).unwrap();
        }
        let errors = [
            store.get(&cx, &key("a"), ByteRange::Whole).await.err(),
            put(&store, "deep/b").await.err(),
            store.delete(&cx, &key("a")).await.err(),
            store.list(&cx, None).try_collect::<Vec<_>>().await.err(),
            LocalStore::open(&store.root).await.err(),
        ];
        for error in errors {
            assert_eq!(error.unwrap().kind(), ErrorKind::Unreachable);
        }
        assert_eq!(store.root.exists(), mount_point);
    }
}

#[tokio::test]
async fn files_are_private() {
    let (_dir, store) = store().await;
    put(&store, "folder/a").await.unwrap();
    for (name, mode) in [("", 0o700), ("folder", 0o700), ("folder/a", 0o600), (PARTIAL, 0o700)] {
        let seen = std::fs::metadata(store.root.join(name)).unwrap().permissions().mode();
        assert_eq!(seen & 0o777, mode, "{name}");
    }
}

#[tokio::test]
async fn a_key_is_an_object_or_a_folder() {
    let (_dir, store) = store().await;
    let cx = Context::new();
    put(&store, "folder/a").await.unwrap();
    for (name, mode) in [
        ("folder/a/b", PutMode::Overwrite),
        ("folder/a/b", PutMode::IfAbsent),
        ("folder", PutMode::Overwrite),
    ] {
        let error = store.put_bytes(&cx, &key(name), "x".into(), mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
    for name in ["folder", "folder/a/b"] {
        let error = store.get(&cx, &key(name), ByteRange::Whole).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
        store.delete(&cx, &key(name)).await.unwrap();
    }
    assert_eq!(listed(&store).await, ["folder/a"]);
    assert_eq!(partial_files(&store), 0);
}

#[tokio::test]
async fn only_objects_are_shown() {
    let (_dir, store) = store().await;
    put(&store, "a").await.unwrap();
    std::fs::write(store.root.join(".DS_Store"), "x").unwrap();
    std::fs::write(store.root.join("a b"), "x").unwrap();
    std::fs::write(store.root.join(PARTIAL).join("abandoned"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", store.root.join("link")).unwrap();
    std::os::unix::net::UnixListener::bind(store.root.join("socket")).unwrap();
    assert_eq!(listed(&store).await, ["a"]);
}

#[tokio::test]
async fn what_a_killed_put_left_is_removed_after_a_day() {
    let (_dir, store) = store().await;
    let partial = store.root.join(PARTIAL);
    let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    for (name, written) in [("young", hours_ago(23)), ("old", hours_ago(25)), ("now", hours_ago(0))] {
        std::fs::File::create(partial.join(name)).unwrap().set_modified(written).unwrap();
    }
    LocalStore::open(&store.root).await.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(partial).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["now", "young"]);
}

#[tokio::test]
async fn a_file_that_shrinks_under_its_reader_is_an_error() {
    let (_dir, store) = store().await;
    let cx = Context::new();
    store.put_bytes(&cx, &key("a"), vec![1; 3 * PIECE].into(), PutMode::Overwrite).await.unwrap();
    let mut object = store.get(&cx, &key("a"), ByteRange::Whole).await.unwrap();
    object.bytes.try_next().await.unwrap();
    std::fs::File::options().write(true).open(store.path(&key("a"))).unwrap().set_len(10).unwrap();
    let rest = object.bytes.try_for_each(|_| std::future::ready(Ok(()))).await;
    assert_eq!(rest.unwrap_err().kind(), ErrorKind::Corrupt);
}
