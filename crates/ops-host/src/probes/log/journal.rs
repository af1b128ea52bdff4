//! The journal of a unit.

use std::process::Stdio;
use std::time::Instant;

use ops_core::{Context, Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Said;
use super::search::{Bounds, seen_window};
use super::tally::{Patterns, Tally};
use crate::host::HostTarget;

/// What journalctl prints in place of entries.
const NOTHING: &str = "-- No entries --";

pub(super) async fn search(
    cx: &Context,
    host: &HostTarget,
    unit: &str,
    patterns: &Patterns,
    bounds: Bounds,
) -> Result<Said> {
    let since = format!("--since=@{}", bounds.since.timestamp());
    let mut said = ask(cx, host, unit, &[&since, "--reverse"], patterns, bounds).await?;
    if said.tally.lines == 0 && said.unseen.is_empty() {
        // A unit that is misspelt is as silent as one that is well.
        let last = ask(cx, host, unit, &["--lines=1"], patterns, bounds).await?;
        if last.tally.lines == 0 {
            said.unseen.push((format!("the journal holds nothing of {unit}"), None));
        }
    }
    Ok(said)
}

async fn ask(
    cx: &Context,
    host: &HostTarget,
    unit: &str,
    how: &[&str],
    patterns: &Patterns,
    bounds: Bounds,
) -> Result<Said> {
    let program = &host.machine().journalctl;
    let failed = |kind, why: String| {
        Error::new(kind, "read the journal").on(program.display().to_string()).because(why)
    };
    let work = async {
        let mut child = Command::new(program)
            .arg(format!("--unit={unit}"))
            .args(how)
            .args(["--output=cat", "--no-pager"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(ErrorKind::NotFound, error.to_string()))?;
        let (tally, short) = count(&mut child, patterns, bounds)
            .await
            .map_err(|error| failed(ErrorKind::Failed, error.to_string()))?;
        let mut said = Said { tally, unseen: Vec::new() };
        if let Some(short) = short {
            // Its entries come without their times: half the window is a guess.
            let fix = seen_window((bounds.now - bounds.since) / 2);
            said.unseen.push((format!("the journal of {unit}: {short}"), fix));
            return Ok(said);
        }
        let hint = hint(&mut child).await;
        let status = child.wait().await.map_err(|error| failed(ErrorKind::Failed, error.to_string()))?;
        match hint {
            Some(hint) if hint.contains("not seeing messages") => Err(failed(
                ErrorKind::PermissionDenied,
                "the journal of other users and of the system is closed to this one".to_owned(),
            )
            .with_fix("usermod -aG systemd-journal USER")),
            Some(hint) if hint.contains("No journal files") => Err(failed(ErrorKind::Unsupported, hint)),
            Some(hint) if !status.success() => Err(failed(ErrorKind::Failed, hint)),
            _ if !status.success() => Err(failed(ErrorKind::Failed, format!("it ends with {status}"))),
            _ => Ok(said),
        }
    };
    cx.run("read the journal", work).await
}

/// Counts what it prints, as far as the budget and the time go; and why that was not all.
async fn count(
    child: &mut Child,
    patterns: &Patterns,
    bounds: Bounds,
) -> std::io::Result<(Tally, Option<&'static str>)> {
    let mut tally = Tally::default();
    let Some(stdout) = child.stdout.take() else { return Ok((tally, None)) };
    let mut lines = BufReader::new(stdout.take(bounds.budget));
    let mut line = Vec::new();
    loop {
        let read = lines.read_until(b'\n', &mut line);
        let read = match bounds.until {
            // Also where it always has another line: a time-out alone is looked at only while there is none.
            Some(until) if Instant::now() >= until => None,
            Some(until) => tokio::time::timeout_at(until.into(), read).await.ok(),
            None => Some(read.await),
        };
        let Some(read) = read else { return Ok((tally, Some(super::LATE))) };
        if read? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if text != NOTHING {
            tally.add(patterns, text);
        }
        line.clear();
    }
    Ok((tally, (lines.into_inner().limit() == 0).then_some(super::LONG)))
}

/// The first line of what it complains about.
async fn hint(child: &mut Child) -> Option<String> {
    let mut text = String::new();
    child.stderr.take()?.take(4096).read_to_string(&mut text).await.ok()?;
    text.lines().next().map(str::to_owned)
}
