use std::collections::BTreeSet;

use ops_cache::registry;
use ops_core::Status;
use ops_testkit::{RedisServer, or_skip};

use crate::explains;
use crate::rows::{EXCUSED, Place, Row, context, probe_named, rows};

#[test]
fn every_registered_probe_has_a_row() {
    let excused = |code: &str| EXCUSED.iter().any(|(own, _)| *own == code);
    let specs = registry().iter().map(|probe| probe.spec());
    let due = specs.filter(|spec| !spec.explanation.codes.iter().all(|(code, _)| excused(code)));
    let rows: BTreeSet<_> = rows().iter().map(|row| row.probe).collect();
    assert_eq!(due.map(|spec| spec.name).collect::<BTreeSet<_>>(), rows);
}

#[test]
fn every_code_has_a_row_or_an_excuse() {
    let codes = registry().iter().flat_map(|probe| probe.spec().explanation.codes);
    let codes: BTreeSet<_> = codes.map(|(code, _)| *code).collect();
    let excused = EXCUSED.iter().map(|(code, _)| *code);
    let planted: BTreeSet<_> = rows().iter().map(|row| row.code).chain(excused).collect();
    assert_eq!(codes, planted);
}

#[test]
fn every_registered_probe_explains_itself() {
    registry().iter().for_each(|probe| explains::itself(probe.spec()));
}

/// Looks at a healthy server, plants, and looks again.
async fn healthy_then_planted(row: &Row, server: &RedisServer) {
    let cx = context();
    let address = server.address().to_string();
    row.prepare(server).await;
    let before = row.look(&cx, &format!("redis://{address}")).await;
    assert_eq!(before.status, Status::Ok, "{} on {}: {before:#?}", row.code, server.address());
    assert!(!row.shows(&address, &before), "{} before its plant: {before:#?}", row.code);

    let planted = (row.plant)(server).await;
    let address = planted.address.clone().unwrap_or(address);
    let result = row.look(&cx, &format!("redis://{address}")).await;
    let object = planted.object.clone().unwrap_or(address);
    drop(planted);
    assert_eq!(result.status, row.expected, "{}: {result:#?}", row.code);
    assert!(row.shows(&object, &result), "no {} about {object}: {result:#?}", row.code);
    explains::findings_of(probe_named(row.probe).spec(), &result);
}

#[tokio::test]
async fn each_probe_finds_its_plant() {
    for row in rows() {
        let Some(server) = or_skip(row.server().await) else { return };
        healthy_then_planted(&row, &server).await;
    }
}

#[tokio::test]
async fn each_probe_finds_its_plant_in_redis_8_in_a_container() {
    for row in rows().into_iter().filter(|row| row.place == Place::Anywhere) {
        let Some(server) = or_skip(RedisServer::in_container().await) else { return };
        healthy_then_planted(&row, &server).await;
    }
}

#[tokio::test]
async fn each_probe_finds_its_plant_in_valkey_8_in_a_container() {
    for row in rows().into_iter().filter(|row| row.place == Place::Anywhere) {
        let Some(server) = or_skip(RedisServer::valkey_in_container().await) else { return };
        healthy_then_planted(&row, &server).await;
    }
}
