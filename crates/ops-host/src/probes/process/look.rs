//! What /proc tells of processes.

use std::path::Path;

use ops_core::{Context, Error, ErrorKind, Result};

use crate::apart::apart;
use crate::config::ProcessConfig;
use crate::host::HostTarget;

/// The kernel cuts a program's name to these many bytes.
const NAME_BYTES: usize = 15;

/// The processes that one configured entry means.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub(super) count: usize,
    /// Those that have ended, and whose parent has not asked how.
    pub(super) zombies: usize,
    pub(super) resident: f64,
    pub(super) main: Option<Main>,
}

/// The oldest of a group: a server that started the others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Main {
    pub(super) pid: u32,
    pub(super) started_ticks: f64,
    pub(super) files: Files,
}

/// The files that a process has open.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Files {
    #[default]
    Unasked,
    /// So many, of as many as it may.
    Open(f64, f64),
    /// As many as it likes.
    Unlimited(f64),
    /// Closed to this user.
    Closed,
    /// Gone meanwhile, or not told.
    Untold(String),
}

/// On a thread of its own: to read a command line the kernel waits for the process's memory.
pub(super) async fn look(cx: &Context, host: &HostTarget) -> Result<Vec<Group>> {
    let (proc, wanted) = (host.machine().proc.clone(), host.config().processes.clone());
    apart(cx, "list the processes", move || {
        let unreadable = |error: std::io::Error| {
            Error::new(ErrorKind::Unsupported, "list the processes")
                .on(proc.display().to_string())
                .because(error.to_string())
        };
        let mut groups = vec![Group::default(); wanted.len()];
        let mut any = false;
        for entry in std::fs::read_dir(&proc).map_err(unreadable)?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may end while it is looked at.
            let Some(Stat { name, started, ended }) = stat(&entry.path()) else { continue };
            any = true;
            if ended {
                // Its command line is gone with its memory: only its name tells whose it was.
                let own = groups.iter_mut().zip(&wanted).filter(|(_, wanted)| is_named(wanted, &name, ""));
                own.for_each(|(group, _)| group.zombies += 1);
                continue;
            }
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            for (group, _) in groups.iter_mut().zip(&wanted).filter(|(_, wanted)| is(wanted, &name, &command))
            {
                group.count += 1;
                group.resident += resident(&entry.path());
                if group.main.as_ref().is_none_or(|main| started < main.started_ticks) {
                    group.main = Some(Main { pid, started_ticks: started, files: Files::Unasked });
                }
            }
        }
        if !any {
            return Err(unreadable(std::io::Error::other("it shows no processes")));
        }
        for main in groups.iter_mut().filter_map(|group| group.main.as_mut()) {
            main.files = files(&proc.join(main.pid.to_string()));
        }
        Ok(groups)
    })
    .await
}

struct Stat {
    name: String,
    started: f64,
    ended: bool,
}

/// Name, start and state of a process. The name stands in parentheses, and may hold some itself.
fn stat(dir: &Path) -> Option<Stat> {
    let text = std::fs::read_to_string(dir.join("stat")).ok()?;
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    // The rest begins with the third field: the state. The 20th is the number of threads, the 22nd the start.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    // A zombie with more than one thread has lost its first one only.
    let ended = matches!(*fields.first()?, "Z" | "X" | "x") && threads <= 1;
    Some(Stat { name, started: fields.get(19)?.parse().ok()?, ended })
}

fn is(wanted: &ProcessConfig, name: &str, command: &[u8]) -> bool {
    let words = String::from_utf8_lossy(command).replace('\0', " ");
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    let program = program.rsplit('/').next().unwrap_or_default();
    is_named(wanted, name, program)
        && wanted.command_line.as_ref().is_none_or(|text| words.contains(text.as_str()))
}

fn is_named(wanted: &ProcessConfig, name: &str, program: &str) -> bool {
    let cut = wanted.name.as_bytes().get(..NAME_BYTES).unwrap_or(wanted.name.as_bytes());
    program == wanted.name || name.as_bytes() == cut
}

fn resident(dir: &Path) -> f64 {
    let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// Open files, and how many may be.
fn files(dir: &Path) -> Files {
    let open = match std::fs::read_dir(dir.join("fd")) {
        Ok(open) => open.count() as f64,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Files::Closed,
        Err(error) => return Files::Untold(error.to_string()),
    };
    let limits = match std::fs::read_to_string(dir.join("limits")) {
        Ok(limits) => limits,
        Err(error) => return Files::Untold(error.to_string()),
    };
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Files::Unlimited(open),
        Some(soft) => soft.parse().map_or_else(
            |_| Files::Untold(format!("{soft:?} is no number of files")),
            |allowed| Files::Open(open, allowed),
        ),
        None => Files::Untold("its limits name no open files".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_program_and_command_line() {
        let command = b"/usr/lib/postgresql/17/bin/postgres\0-D\0/var/lib/postgresql/17/main\0";
        for (config, name, expected) in [
            (ProcessConfig::new("postgres"), "postgres", true),
            (ProcessConfig::new("postgres").with_command_line("17/main"), "postgres", true),
            (ProcessConfig::new("postgres").with_command_line("15/main"), "postgres", false),
            (ProcessConfig::new("post"), "postgres", false),
            (ProcessConfig::new("systemd-timesyncd"), "systemd-timesyn", true),
        ] {
            assert_eq!(is(&config, name, command), expected, "{config:?}");
        }
    }
}
