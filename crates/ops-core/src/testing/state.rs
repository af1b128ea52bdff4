//! The rules of a [`State`].

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::ManualClock;
use super::rule::{done, fails, holds, same};
use crate::context::{Context, RunId};
use crate::error::ErrorKind;
use crate::permit::Confirmation;
use crate::plan::Draft;
use crate::state::{
    Act, Bucket, Entry, Event, Heartbeat, Point, Resolution, Retention, RunFilter, RunHead, RunOutcome,
    Sample, Series, State, WindowKey,
};
use crate::unit::Unit;

/// Checks an empty state. Names are made for the occasion, so several suites may share one that is not.
///
/// - A baseline is the last sample stored under its key, epoch and counters as they were.
/// - A point recorded twice counts once; buckets have the right least, greatest, mean, last; `until` is outside.
/// - Pruning keeps what is young enough, hourly buckets longer than points, and a run that has not ended.
/// - Beats that cross leave the later one.
/// - A journal's entries come back as they were, in order; a place that is taken, a gap, and a run that begins twice
///   are refused.
/// - A lease is one holder's; expired or released it is the next one's, with a greater token; who lost it can't keep
///   it, and can't release the other's.
///
/// # Panics
/// When a rule is broken.
pub async fn state(state: &dyn State) {
    baselines(state).await;
    history(state).await;
    heartbeats(state).await;
    journal(state).await;
    leases(state).await;
}

/// A time of whole microseconds, which every store can keep.
fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_268_800, 123_456_000).unwrap_or_default()
}

fn own(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::now_v7())
}

async fn baselines(state: &dyn State) {
    let key = |probe: &str| WindowKey { server: own("server"), probe: probe.to_owned() };
    let (one, other) = (key("pg.one"), key("pg.other"));
    let rule = "a baseline is the sample stored last";
    same(rule, done(rule, state.latest(&one).await), None);
    let sample = |value: f64| Sample {
        at: noon(),
        epoch: "epoch 'é'".to_owned(),
        counters: [("hits".to_owned(), value), ("reads".to_owned(), 0.1 + 0.2)].into(),
    };
    for value in [1.0, 9_007_199_254_740_993.0] {
        done(rule, state.store(&one, &sample(value)).await);
        same(rule, done(rule, state.latest(&one).await), Some(sample(value)));
    }
    same("a baseline is its own key's", done(rule, state.latest(&other).await), None);
}

fn series(target: &str) -> Series {
    Series {
        target: target.to_owned(),
        database: Some("app".to_owned()),
        probe: "pg.size".to_owned(),
        measurement: "database".to_owned(),
        labels: BTreeMap::from([("table".to_owned(), "public.\"odd ' one\"".to_owned())]),
        unit: Unit::Bytes,
    }
}

async fn history(state: &dyn State) {
    let mine = series(&own("target"));
    let bare = Series { database: None, labels: BTreeMap::new(), ..mine.clone() };
    let hour = Bucket::hour_of(noon());
    let at = |minutes: i64| hour + TimeDelta::minutes(minutes);
    let point =
        |series: &Series, minutes: i64, value: f64| Point { series: series.clone(), at: at(minutes), value };
    let rule = "points are recorded";
    let points = [point(&mine, 5, 2.0), point(&mine, 6, 6.0), point(&mine, 7, 1.0), point(&mine, 65, 10.0)];
    done(rule, state.record(&points).await);
    done(rule, state.record(&points[..2]).await);
    done(rule, state.record(&[point(&bare, 5, -4.5)]).await);
    done(rule, state.record(&[]).await);

    let read = async |series: &Series, resolution, since, until| {
        done("history is read", state.buckets(series, resolution, since, until).await)
    };
    let raw = read(&mine, Resolution::Raw, at(0), at(65)).await;
    let expected =
        [(5, 2.0), (6, 6.0), (7, 1.0)].map(|(minutes, value)| Bucket::of_point(at(minutes), value));
    same("a point recorded twice counts once, and until is outside", raw, expected.to_vec());
    let hourly = read(&mine, Resolution::Hourly, at(0), at(120)).await;
    let first = Bucket { at: at(0), count: 3, min: 1.0, max: 6.0, mean: 3.0, last: 1.0 };
    same("an hour's bucket tells its points", hourly, vec![first, Bucket::of_point(at(60), 10.0)]);
    let backwards = read(&mine, Resolution::Raw, at(65), at(0)).await;
    same("a stretch that ends before it begins is empty", backwards, vec![]);
    let listed = done("series are listed", state.series().await);
    holds("a series is listed", listed.contains(&mine) && listed.contains(&bare), format!("{listed:?}"));

    let day = Duration::from_secs(24 * 3600);
    let retention = Retention::default().with_raw(day).with_hourly(30 * day);
    done("history is pruned", state.prune(&retention, at(70) + day).await);
    same("what is too old is forgotten", read(&mine, Resolution::Raw, at(0), at(120)).await, vec![]);
    let kept = read(&mine, Resolution::Hourly, at(0), at(120)).await;
    same("hourly buckets are kept longer", kept, vec![first, Bucket::of_point(at(60), 10.0)]);
    done("history is pruned", state.prune(&retention, at(70) + 31 * day).await);
    let listed = done("series are listed", state.series().await);
    holds("a series of which nothing is left is not listed", !listed.contains(&mine), format!("{listed:?}"));
}

async fn heartbeats(state: &dyn State) {
    let job = own("job ü");
    let rule = "a job's beats are kept";
    same(rule, done(rule, state.heartbeat(&job).await), None);
    let earlier = noon() - TimeDelta::minutes(1);
    done(rule, state.beat(&job, noon(), true).await);
    done(rule, state.beat(&job, earlier, true).await);
    done(rule, state.beat(&job, earlier, false).await);
    let expected = Heartbeat { job: job.clone(), succeeded: Some(noon()), failed: Some(earlier) };
    same("beats that cross leave the later one", done(rule, state.heartbeat(&job).await), Some(expected));
}

/// The first entries of a run.
fn started(run: RunId, procedure: &str) -> Vec<Event> {
    #[expect(clippy::expect_used, reason = "a plan of nothing can be written")]
    let plan = Draft::new("here", json!({"deep": [1, 2.5, null, "ü"]})).seal("t.run").expect("a plan");
    let head = RunHead {
        run,
        procedure: procedure.to_owned(),
        target: "here".to_owned(),
        plan,
        confirmation: Confirmation::person("alice"),
    };
    let step = || "one".to_owned();
    vec![
        Event::Started { head: Box::new(head), token: 7 },
        Event::Intent { step: step(), act: Act::Apply },
        Event::Done { step: step(), act: Act::Apply, value: json!({"id": 0.1, "of": "é\n"}) },
        Event::Ended { outcome: RunOutcome::Succeeded },
    ]
}

async fn journal(state: &dyn State) {
    let rule = "a run's entries are written";
    let procedure = own("procedure");
    let (cx, other_cx) = (Context::new(), Context::new());
    let (run, other) = (cx.run_id().min(other_cx.run_id()), cx.run_id().max(other_cx.run_id()));
    fails("a run that never was is not found", state.entries(run).await, ErrorKind::NotFound);
    let entry = |seq: u64, event: Event| Entry { seq, at: noon() + TimeDelta::seconds(seq as i64), event };
    let entries: Vec<Entry> =
        started(run, &procedure).into_iter().enumerate().map(|(n, event)| entry(n as u64, event)).collect();
    let taken = ErrorKind::Precondition;
    fails("a run begins with its start", state.append(run, &entry(0, entries[1].event.clone())).await, taken);
    fails("a run begins as itself", state.append(other, &entries[0]).await, taken);
    done(rule, state.append(run, &entries[0]).await);
    fails("a run begins once", state.append(run, &entries[0]).await, taken);
    fails("a run begins once", state.append(run, &entry(1, entries[0].event.clone())).await, taken);
    fails("a run has no gap", state.append(run, &entries[2]).await, taken);
    done(rule, state.append(run, &entries[1]).await);
    fails("a place is taken once", state.append(run, &entries[1]).await, taken);
    for entry in &entries[2..] {
        done(rule, state.append(run, entry).await);
    }
    same("entries come back as they were", done(rule, state.entries(run).await), entries.clone());

    for (seq, event) in started(other, &procedure).into_iter().take(2).enumerate() {
        done(rule, state.append(other, &entry(seq as u64, event)).await);
    }
    let list = async |filter: RunFilter| {
        let runs = done("runs are listed", state.runs(&filter).await);
        runs.into_iter().map(|run| (run.run, run.outcome)).collect::<Vec<_>>()
    };
    let of = || RunFilter::default().of(&procedure);
    let (ended, open) = ((run, Some(RunOutcome::Succeeded)), (other, None));
    same("runs are listed, the newest first", list(of()).await, vec![open, ended]);
    same("as many as asked for", list(of().at_most(1)).await, vec![open]);
    same("by their id's beginning", list(of().with_prefix(run.to_string())).await, vec![ended]);
    same("a prefix is no pattern", list(of().with_prefix("%")).await, vec![]);

    let day = Duration::from_secs(24 * 3600);
    done("runs are pruned", state.prune(&Retention::default().with_runs(day), noon() + 2 * day).await);
    same("what has not ended is kept", list(of()).await, vec![open]);
}

async fn leases(state: &dyn State) {
    let clock = ManualClock::at(noon());
    let cx = Context::new().with_clock(clock.clone());
    let name = own("lease");
    let minute = Duration::from_secs(60);
    let rule = "a lease is given";
    let first = done(rule, state.acquire(&cx, &name, "one", minute).await);
    let busy =
        fails("a lease is one holder's", state.acquire(&cx, &name, "two", minute).await, ErrorKind::Busy);
    holds("who has it is named", busy.to_string().contains("one"), &busy);
    fails("also for its holder", state.acquire(&cx, &name, "one", minute).await, ErrorKind::Busy);
    let renewed = done("a lease is kept", state.renew(&cx, &first, 2 * minute).await);
    same("a renewed lease keeps its token", renewed.token, first.token);
    holds("a renewed lease lasts longer", renewed.expires > first.expires, format!("{renewed:?}"));
    done("a lease is given back", state.release(&renewed).await);
    fails(
        "what was given back can't be kept",
        state.renew(&cx, &first, minute).await,
        ErrorKind::Precondition,
    );
    let second = done(rule, state.acquire(&cx, &name, "two", Duration::from_millis(1)).await);
    holds("each lease has a greater token", second.token > first.token, format!("{second:?}"));

    // Both clocks: a shared store goes by its own.
    clock.advance(minute);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let kept = done(
        "an expired lease that nobody took is kept",
        state.renew(&cx, &second, Duration::from_millis(1)).await,
    );
    clock.advance(minute);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let third = done("an expired lease is the next one's", state.acquire(&cx, &name, "three", minute).await);
    holds("each lease has a greater token", third.token > kept.token, format!("{third:?}"));
    let lost = state.renew(&cx, &second, minute).await;
    fails("a lost lease can't be kept", lost, ErrorKind::Precondition);
    done("releasing a lost lease is no error", state.release(&second).await);
    fails("and leaves the other's", state.acquire(&cx, &name, "four", minute).await, ErrorKind::Busy);
}
