//! `pg.replication_lag`: how far those who follow are behind, seen from either side.

mod downstream;
mod gone;
mod upstream;

use async_trait::async_trait;
use ops_core::{
    Context, Direction, Explanation, Limits, ProbeReport, ProbeSpec, Requirement, Result, ThresholdSpec, Unit,
};

use self::downstream::Follower;
use crate::probe::{PgProbe, Scope};
use crate::target::PgTarget;

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.replication_lag",
    group: "replication",
    explanation: Explanation {
        why: "A standby that is behind serves old data to readers, and in a failover what it has not received is \
              lost. One that no longer receives or replays anything gets further behind with every write, and looks \
              healthy to whoever only connects.",
        measures: "On a server that others follow, for each walsender: the WAL that is not yet replayed there, and \
                   replay_lag while there is such WAL (pg_receivewal, which replays nothing, is judged by what it has \
                   written). An idle primary has no lag, however old its last commit. replay_lag stands still when a \
                   standby does, so the bytes count as well. On a standby: whether its WAL receiver runs, whether \
                   replay is paused, what is received and not replayed, and how old the last replayed commit is, as \
                   long as there is something to replay for half a second, less recovery_min_apply_delay (of one \
                   that restores from an archive alone, nobody knows how much there is: unknown); and queries that were \
                   cancelled for replay within the window. On the primary a delayed standby's delay counts as lag. Who \
                   followed within the last 7 days, under the same name and on the same timeline, is remembered as \
                   rates are: one that is gone is told.",
        queries: &[
            ("who follows this server", downstream::SQL),
            ("on which timeline this server writes", gone::TIMELINE),
            ("on a standby: receiver and replay", upstream::SQL),
            ("on a standby that looks late: whether it has replayed that by now", upstream::CAUGHT_UP),
            ("on a standby: cancelled queries", upstream::CONFLICTS),
        ],
        codes: &[
            ("pg.replication.lag", "a standby or subscriber is behind"),
            (
                "pg.replication.follower_gone",
                "a standby or subscriber that followed does not any more (info until it had time for a restart)",
            ),
            ("pg.replication.behind", "this standby has received much more than it has replayed"),
            ("pg.replication.no_receiver", "this standby receives nothing"),
            ("pg.replication.silent", "the WAL receiver has heard nothing for long"),
            ("pg.replication.paused", "replay is paused on this standby"),
            ("pg.replication.conflicts", "queries on this standby were cancelled for replay"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_replication; on a standby three small reads more, and a window",
        remedy: "Look at what holds the standby back: a long query there (see max_standby_streaming_delay), a paused \
                 replay (SELECT pg_wal_replay_resume()), its disk, the network. Without a receiver, its log says why: \
                 mostly the connection, or WAL that the primary no longer has; then it needs a new base backup.",
    },
    thresholds: &[
        ThresholdSpec {
            name: "lag",
            meaning: "time between a commit and its replay, while something is not replayed",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(30.0),
            critical: Some(300.0),
            source: "max_standby_streaming_delay's default is 30 s: queries on the standby may cause as much; critical \
                     is this project's choice, ten times that",
        },
        ThresholdSpec {
            name: "behind",
            meaning: "WAL that is not replayed",
            unit: Unit::Bytes,
            direction: Direction::Above,
            warning: Some(1_073_741_824.0),
            critical: Some(10_737_418_240.0),
            source: "max_wal_size's default is 1 GB: WAL further back may be recycled where no slot keeps it; critical \
                     is this project's choice, ten times that",
        },
        ThresholdSpec {
            name: "silent",
            meaning: "time since the primary's last message to this standby",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(60.0),
            critical: Some(300.0),
            source: "wal_receiver_timeout's default is 60 s; critical is this project's choice, five times that",
        },
        ThresholdSpec {
            name: "gone",
            meaning: "time since one who followed was last seen",
            unit: Unit::Seconds,
            direction: Direction::Above,
            warning: Some(300.0),
            critical: None,
            source: "as pg.replication_slots' inactive, this project's choice: longer than a standby's restart",
        },
        ThresholdSpec {
            name: "conflicts",
            meaning: "queries cancelled for replay, per hour",
            unit: Unit::PerHour,
            direction: Direction::Above,
            warning: None,
            critical: None,
            source: "information: how many are too many depends on the readers",
        },
    ],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct ReplicationLag;

#[async_trait]
impl PgProbe for ReplicationLag {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let standby = pg.capabilities(cx).await?.in_recovery;
        let followers = downstream::look(cx, pg).await?;
        let gone = gone::look(cx, pg, &followers).await;
        let report = if standby {
            upstream::judge(cx, pg, limits).await?
        } else if followers.is_empty() && matches!(&gone, Ok(gone) if gone.is_empty()) {
            return Ok(ProbeReport::not_applicable("nobody follows this server"));
        } else {
            ProbeReport::new(summary(&followers))
        };
        let report = followers.iter().fold(report, |report, follower| follower.judge(report, limits));
        Ok(match gone {
            Ok(gone) => report.findings(gone.iter().map(|gone| gone.finding(limits))),
            Err(error) => report
                .unseen(format!("who followed before: {}", error.report()), error.fix().map(str::to_owned)),
        })
    }
}

fn summary(followers: &[Follower]) -> String {
    let furthest = followers.iter().filter_map(|follower| follower.behind).fold(0.0, f64::max);
    let count = match followers.len() {
        0 => return "nobody follows this server any more".to_owned(),
        1 => "1 follows".to_owned(),
        n => format!("{n} follow"),
    };
    format!("{count}, the furthest {} behind", Unit::Bytes.format(furthest))
}
