//! What a task is about to do, as a document: shown, stored, confirmed by its hash, then executed as it stands.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::millis;
use crate::step::Effect;

/// The name of the document's schema. Additive changes keep the number.
pub const SCHEMA: &str = "ops.plan/1";

/// The fewest characters of a hash that name a plan: 48 bits, more than anybody types by accident.
const SHORTEST: usize = 12;

/// What names a plan: BLAKE3, in 64 lowercase hexadecimal digits, over the plan's canonical JSON (objects sorted
/// by key, no white space).
///
/// It **covers** the schema, task and target, what each action does (statement, effect, lock, what it blocks,
/// undo), which preflight checks there are with their outcomes, and the whole payload. It **leaves out**
/// estimates and the figures that a check saw: those differ from minute to minute, and the plan that a person
/// confirmed is the same plan as long as it does the same. It is no signature: it ties a confirmation to a plan,
/// and whoever may edit a stored plan may also compute its hash.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct PlanHash(String);

impl PlanHash {
    fn of(document: &Value) -> Self {
        let mut text = String::new();
        write_canonical(document, &mut text);
        Self(blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: enough to show to a person, and for [`Confirmation`](crate::Confirmation).
    pub fn short(&self) -> &str {
        &self.0[..SHORTEST]
    }

    /// Whether `given` is this hash, or at least its first 12 digits.
    pub(crate) fn is_named_by(&self, given: &str) -> bool {
        given.len() >= SHORTEST && self.0.starts_with(&given.to_ascii_lowercase())
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PlanHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorKind::InvalidInput, "read a plan's hash").because("it has 64 hexadecimal digits"))
    }
}

impl TryFrom<String> for PlanHash {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PlanHash> for String {
    fn from(hash: PlanHash) -> Self {
        hash.0
    }
}

/// One form for one value. `serde_json` sorts objects by itself only while no crate of the build asks it to keep
/// their order.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// What an action is thought to take. Not covered by the plan's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// How long, in milliseconds in JSON.
    #[serde(
        rename = "duration_ms",
        default,
        skip_serializing_if = "Option::is_none",
        with = "millis::option"
    )]
    #[schemars(with = "Option<f64>")]
    pub duration: Option<Duration>,
    /// Rows, keys or objects touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// One thing that a plan does.
///
/// ```
/// use ops_core::{Action, Effect};
/// let drop = Action::new("DROP INDEX CONCURRENTLY public.t_a2", Effect::Reversible)
///     .undone_by("CREATE INDEX CONCURRENTLY t_a2 ON public.t (a)")
///     .lock("SHARE UPDATE EXCLUSIVE on public.t")
///     .blocks("other schema changes of public.t");
/// assert_eq!(drop.effect, Effect::Reversible);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Action {
    /// The statement, command or request, as a person reads it. No secret belongs here.
    pub statement: String,
    /// What it takes to undo it. Work that nobody could miss (VACUUM, REINDEX) is `Reversible` without an undo.
    pub effect: Effect,
    /// The statement or command that undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// The lock it takes, in the server's own words, with its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// Whose work waits meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<String>,
    /// What it is thought to take.
    #[serde(default)]
    pub estimate: Estimate,
}

impl Action {
    /// An action that takes no lock worth telling and has no undo.
    pub fn new(statement: impl Into<String>, effect: Effect) -> Self {
        Self {
            statement: statement.into(),
            effect,
            undo: None,
            lock: None,
            blocks: None,
            estimate: Estimate::default(),
        }
    }

    /// Says what undoes it.
    #[must_use]
    pub fn undone_by(mut self, undo: impl Into<String>) -> Self {
        self.undo = Some(undo.into());
        self
    }

    /// Names the lock it takes.
    #[must_use]
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.lock = Some(lock.into());
        self
    }

    /// Says whose work waits meanwhile.
    #[must_use]
    pub fn blocks(mut self, blocked: impl Into<String>) -> Self {
        self.blocks = Some(blocked.into());
        self
    }

    /// Says what it is thought to take.
    #[must_use]
    pub fn estimate(mut self, estimate: Estimate) -> Self {
        self.estimate = estimate;
        self
    }

    fn covered(&self) -> Value {
        json!({
            "statement": self.statement, "effect": self.effect, "undo": self.undo,
            "lock": self.lock, "blocks": self.blocks,
        })
    }
}

/// How a preflight check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// As it should be.
    Passed,
    /// Worth a look before confirming.
    Warned,
    /// The plan can't be executed while this holds.
    Failed,
}

/// One precondition, looked at while planning. Executing looks again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Check {
    /// What has to hold, without figures: `no long transaction is open`.
    pub what: Cow<'static, str>,
    /// How it went.
    pub outcome: CheckOutcome,
    /// What was seen, with figures. Not covered by the plan's hash.
    pub seen: String,
}

impl Check {
    /// A precondition with its outcome, and what was seen.
    ///
    /// ```
    /// use ops_core::{Check, CheckOutcome};
    /// let check = Check::new("no long transaction is open", CheckOutcome::Passed, "the oldest is 2 s old");
    /// assert_eq!(check.what, "no long transaction is open");
    /// ```
    pub fn new(what: impl Into<Cow<'static, str>>, outcome: CheckOutcome, seen: impl Into<String>) -> Self {
        Self { what: what.into(), outcome, seen: seen.into() }
    }
}

/// A plan in the making: what its author knows, and `work`, the typed form of what executing needs.
#[derive(Clone, Debug)]
pub struct Draft<W> {
    target: String,
    actions: Vec<Action>,
    preflight: Vec<Check>,
    work: W,
}

impl<W> Draft<W> {
    /// A draft that does nothing yet. `target` is the server's own identity with the object's name, not the
    /// address it is reached by; `work` holds no secret and nothing that changes with time alone, because all
    /// of it is shown and hashed.
    ///
    /// ```
    /// use ops_core::{Action, Draft, Effect};
    /// let draft = Draft::new("7312/app/public.orders", ["public.orders"])
    ///     .action(Action::new("VACUUM public.orders", Effect::Reversible));
    /// let plan = draft.seal("pg.vacuum")?;
    /// assert_eq!((plan.task(), plan.effect()), ("pg.vacuum", Effect::Reversible));
    /// # Ok::<(), ops_core::Error>(())
    /// ```
    pub fn new(target: impl Into<String>, work: W) -> Self {
        Self { target: target.into(), actions: Vec::new(), preflight: Vec::new(), work }
    }

    /// Adds an action; actions run in this order.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// Adds a preflight check.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.preflight.push(check);
        self
    }
}

impl<W: Serialize> Draft<W> {
    /// Makes it the plan of the task of that name.
    ///
    /// # Errors
    /// `Bug` when `work` can't be written as JSON.
    pub fn seal(self, task: &str) -> Result<Plan> {
        let payload = serde_json::to_value(&self.work).map_err(|cause| {
            Error::new(ErrorKind::Bug, "write the plan's payload").on(task).caused_by(cause)
        })?;
        let mut plan = Plan {
            schema: SCHEMA.to_owned(),
            task: task.to_owned(),
            target: self.target,
            actions: self.actions,
            preflight: self.preflight,
            payload,
            hash: PlanHash(String::new()),
        };
        plan.hash = PlanHash::of(&plan.covered());
        Ok(plan)
    }
}

/// What a task is about to do. Made by [`Draft::seal`], never changed afterwards, read from JSON as it was
/// written; [`Plan::permit`] turns it into the right to execute it.
///
/// Reading a plan from JSON does not fail when somebody changed it on the way: it can still be looked at, and is
/// refused where it counts, by [`Plan::permit`] and by every task. Unknown fields are refused at once, because
/// the hash would not cover them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    schema: String,
    task: String,
    target: String,
    actions: Vec<Action>,
    preflight: Vec<Check>,
    payload: Value,
    hash: PlanHash,
}

impl Plan {
    /// The task that made it, and alone executes it.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// What it is done to: the server's own identity with the object's name.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What it does, in order; nothing when there is nothing to do.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The preconditions as they were when it was made.
    pub fn preflight(&self) -> &[Check] {
        &self.preflight
    }

    /// The checks that keep it from being executed.
    pub fn blockers(&self) -> impl Iterator<Item = &Check> {
        self.preflight.iter().filter(|check| check.outcome == CheckOutcome::Failed)
    }

    /// What its task needs in order to execute it.
    pub fn payload(&self) -> &Value {
        &self.payload
    }

    /// Its hash, as the document says it.
    pub fn hash(&self) -> &PlanHash {
        &self.hash
    }

    /// The hardest to undo of its actions; `ReadOnly` when there are none.
    pub fn effect(&self) -> Effect {
        self.actions.iter().map(|action| action.effect).max().unwrap_or(Effect::ReadOnly)
    }

    /// Whether it is what its hash says.
    ///
    /// # Errors
    /// `Refused` when it was changed after it was made, or made under another schema.
    pub fn intact(&self) -> Result<()> {
        if self.schema == SCHEMA && PlanHash::of(&self.covered()) == self.hash {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused, "execute the plan")
            .on(&self.target)
            .because("it was changed after it was made: its hash does not match; plan anew"))
    }

    fn covered(&self) -> Value {
        json!({
            "schema": self.schema,
            "task": self.task,
            "target": self.target,
            "actions": self.actions.iter().map(Action::covered).collect::<Vec<_>>(),
            "preflight": self.preflight.iter().map(|c| json!([c.what, c.outcome])).collect::<Vec<_>>(),
            "payload": self.payload,
        })
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
