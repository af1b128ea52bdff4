//! Roots, and who waits for them.

use std::collections::{BTreeMap, BTreeSet};

use ops_core::words::count;
use ops_core::{Finding, Limits, Remedy, Severity, Status, Unit};

use super::Session;
use crate::statement::digest;

/// From here a queue counts: PostgreSQL's `deadlock_timeout`.
const SETTLED_SECONDS: f64 = 1.0;

/// A root with all who wait for it, longest wait first.
pub(super) struct Tree<'a> {
    root: Session,
    waiters: Vec<&'a Session>,
}

/// The trees, the longest wait first. Every waiter is counted under each root that it waits for, however far up.
pub(super) fn trees(sessions: &BTreeMap<i32, Session>) -> Vec<Tree<'_>> {
    let mut by_root: BTreeMap<i32, Vec<&Session>> = BTreeMap::new();
    for session in sessions.values().filter(|session| session.waits()) {
        for root in roots_of(session.pid, sessions) {
            by_root.entry(root).or_default().push(session);
        }
    }
    let mut trees: Vec<Tree<'_>> = by_root
        .into_iter()
        .map(|(pid, mut waiters)| {
            waiters.sort_by(|a, b| b.waited.unwrap_or(0.0).total_cmp(&a.waited.unwrap_or(0.0)));
            Tree { root: sessions.get(&pid).cloned().unwrap_or_else(|| gone(pid)), waiters }
        })
        .collect();
    trees.sort_by(|a, b| b.longest().total_cmp(&a.longest()));
    trees
}

/// Follows the blockers up to those that wait for none. A cycle has no root: PostgreSQL breaks it by itself.
fn roots_of(pid: i32, sessions: &BTreeMap<i32, Session>) -> BTreeSet<i32> {
    let (mut roots, mut seen, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![pid]);
    while let Some(pid) = todo.pop() {
        if !seen.insert(pid) {
            continue;
        }
        match sessions.get(&pid).filter(|session| session.waits()) {
            Some(session) => todo.extend(&session.blockers),
            None => {
                roots.insert(pid);
            }
        }
    }
    roots
}

/// A root that ended while we looked (a session that is there has a state), or a prepared transaction (pid 0).
pub(super) fn gone(pid: i32) -> Session {
    Session {
        pid,
        blockers: Vec::new(),
        role: None,
        database: None,
        application: None,
        state: None,
        query: None,
        state_seconds: None,
        waited: None,
        mode: None,
        locktype: None,
        relation: None,
    }
}

impl Tree<'_> {
    fn longest(&self) -> f64 {
        self.waiters.first().and_then(|session| session.waited).unwrap_or(0.0)
    }

    /// The waiter that blocks the most others, else the one that has waited longest: what the rest queue behind.
    fn head(&self) -> Option<&Session> {
        let behind = |pid: i32| self.waiters.iter().filter(|waiter| waiter.blockers.contains(&pid)).count();
        self.waiters.iter().copied().rev().max_by_key(|waiter| behind(waiter.pid))
    }

    pub(super) fn finding(&self, limits: &Limits) -> Option<Finding> {
        let head = self.head()?;
        let longest = self.longest();
        let queued = self.waiters.len() - 1;
        let behind_head = self.waiters.iter().any(|waiter| waiter.blockers.contains(&head.pid));
        let queue_status = match behind_head && longest >= SETTLED_SECONDS {
            true => limits.get("queued").judge(self.queued_for_relations(head) as f64),
            false => Status::Ok,
        };
        let judged = Severity::of(Status::worst([limits.get("waited").judge(longest), queue_status]))?;
        let severity = judged.min(self.by_design());
        let waited = head.waited.unwrap_or(longest);
        let what = head.query.as_deref().map_or_else(|| "a session".to_owned(), first_words);
        let queue = match queued {
            0 => String::new(),
            n => format!("; {} behind it", count(n as f64, "session queues", "sessions queue")),
        };
        let message = format!(
            "{what} has waited {} behind {}{queue}",
            Unit::Seconds.format(waited),
            self.root.describe()
        );
        let finding = Finding::new(severity, "pg.blocking.root", message)
            .object(head.relation.clone().unwrap_or_else(|| self.root.name()))
            .evidence(self.root.evidence("root"));
        let finding = self.remedy().into_iter().fold(finding, Finding::remedy);
        Some(self.waiters.iter().map(|waiter| waiter.evidence("waits")).fold(finding, Finding::evidence))
    }

    /// Those behind the head that wait for a relation. A queue for a row drains by itself, each in its turn: it is no
    /// more than what its longest wait says.
    fn queued_for_relations(&self, head: &Session) -> usize {
        let waits_for_one = |waiter: &&&Session| waiter.locktype.as_deref() == Some("relation");
        self.waiters.iter().filter(|waiter| waiter.pid != head.pid).filter(waits_for_one).count()
    }

    /// The worst that such waits can mean. Who waits for an advisory lock may do so by design, for ever (the standby
    /// of a leader); a virtual transaction is what CREATE INDEX CONCURRENTLY waits for, and it blocks nobody.
    fn by_design(&self) -> Severity {
        match self.all_wait_for("virtualxid") || self.all_wait_for("advisory") {
            true => Severity::Info,
            false => Severity::Critical,
        }
    }

    fn all_wait_for(&self, locktype: &str) -> bool {
        self.waiters.iter().all(|waiter| waiter.locktype.as_deref() == Some(locktype))
    }

    /// `None` where the root has ended since: there is nothing left to end.
    fn remedy(&self) -> Option<Remedy> {
        let pid = self.root.pid;
        let for_long =
            self.root.state_seconds.map(|s| format!(" for {}", Unit::Seconds.format(s))).unwrap_or_default();
        let statement = |statement: String, why: String| Some(Remedy::statement(statement).because(why));
        match self.root.state.as_deref() {
            _ if self.root.is_prepared() => statement(
                "SELECT gid, prepared, owner FROM pg_prepared_xacts ORDER BY prepared;".to_owned(),
                "COMMIT PREPARED or ROLLBACK PREPARED the one that its owner forgot".to_owned(),
            ),
            None => None,
            Some(_) if self.all_wait_for("advisory") => Some(Remedy::advice(format!(
                "right where pid {pid} is the leader that they stand by for; else ask its owner why it keeps the \
                 advisory lock"
            ))),
            Some("active" | "fastpath function call") => statement(
                format!("SELECT pg_cancel_backend({pid});"),
                format!("pid {pid} has run its statement{for_long}; cancelling undoes it"),
            ),
            Some(state) if state.starts_with("idle in transaction") => statement(
                format!("SELECT pg_terminate_backend({pid});"),
                format!("pid {pid} has been idle in its transaction{for_long}: ask its owner if you can"),
            ),
            Some(state) => Some(Remedy::advice(format!(
                "pid {pid} is {state}{for_long} and holds a session lock: ask its owner to let go of it, or end the \
                 session"
            ))),
        }
    }
}

/// The beginning of a statement: enough to know it by, `ALTER TABLE orders`.
fn first_words(query: &str) -> String {
    digest(query).split(' ').take(3).collect::<Vec<_>>().join(" ")
}
