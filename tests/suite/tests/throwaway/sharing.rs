//! One server for several processes.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use ops_core::throwaway::Share;
use ops_testkit::{PgServer, eventually, or_skip};
use sqlx::{Connection, PgConnection};

use super::client::Client;
use super::{Parent, SOON};

#[tokio::test]
async fn a_shared_server_ends_with_the_last_of_its_users() {
    let parent = Parent::new();
    let Some(mut client) = Client::spawn("shared", parent.path()).ready() else { return };
    let dir = PathBuf::from(&client.said[0]);
    let url = client.said[1].clone();
    let first = Share::join(&dir).unwrap().expect("it runs");
    client.kill(Signal::SIGKILL);

    // Twice the time that it lingers.
    tokio::time::sleep(Duration::from_secs(2)).await;
    PgConnection::connect(&url).await.expect("it runs for its second user");
    let second = Share::join(&dir).unwrap().expect("it runs");
    drop(first);
    tokio::time::sleep(Duration::from_secs(2)).await;
    PgConnection::connect(&url).await.expect("it runs for its third user");

    drop(second);
    eventually("no server and no file", SOON, async || parent.is_clean().then_some(())).await;
    assert!(Share::join(&dir).unwrap().is_none());
}

#[tokio::test]
async fn nobody_joins_a_server_whose_reaper_was_killed() {
    let parent = Parent::new();
    let Some(mut client) = Client::spawn("shared", parent.path()).ready() else { return };
    let dir = PathBuf::from(&client.said[0]);
    let reaper = super::processes::family(client.pid()).into_iter().find(|&pid| pid != client.pid()).unwrap();
    let stop = |pid: u32, signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
    };
    stop(reaper, Signal::SIGKILL);
    eventually("nobody joins", SOON, async || Share::join(&dir).unwrap().is_none().then_some(())).await;

    // What such a murder leaves is for the murderer to clean up.
    client.kill(Signal::SIGKILL);
    // The second program: the first was initdb.
    let pid = std::fs::read_to_string(dir.join("pid.2")).unwrap().trim().parse().unwrap();
    stop(pid, Signal::SIGQUIT);
    eventually("the server ends", SOON, async || (!super::processes::runs(pid)).then_some(())).await;
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_process_has_one_server_of_a_version() {
    let Some(one) = or_skip(PgServer::get(15).await) else { return };
    let Some(same) = or_skip(PgServer::get(15).await) else { return };
    assert_eq!(one.address(), same.address());
    assert!(std::sync::Arc::ptr_eq(&one, &same));
}
