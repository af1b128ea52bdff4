//! The shell that outlives the client by a moment.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::{User, geteuid};

use super::ThrowawayOptions;
use crate::error::{Error, ErrorKind, Result};

const REAPER: &str = include_str!("reaper.sh");

pub(super) fn unprivileged_user(names: &[String]) -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = names.iter().find_map(|name| User::from_name(name).ok().flatten());
    let none = || {
        Error::new(ErrorKind::Configuration, "drop root's privileges")
            .because(format!("there is no user {}", names.join(" or ")))
    };
    found.map(Some).ok_or_else(none)
}

pub(super) fn spawn(dir: &Path, options: &ThrowawayOptions, owner: Option<&User>) -> io::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", REAPER, "ops-reaper"]).arg(dir);
    shell.arg(options.grace_seconds().to_string());
    shell.env_clear().envs(options.env.iter().map(|(name, value)| (name, value)));
    // A working directory on somebody's volume would keep it busy.
    shell.current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(user) = owner {
        // With the ids, std drops root's supplementary groups.
        shell.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    shell.spawn()
}

/// Appends a word to a line of shell.
pub(super) fn quote(line: &mut Vec<u8>, word: &OsStr) -> Result<()> {
    if word.as_bytes().iter().any(|byte| matches!(byte, b'\n' | 0)) {
        return Err(Error::new(ErrorKind::InvalidInput, "start a server")
            .because("a program's argument holds a line break"));
    }
    line.extend_from_slice(b" '");
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => line.extend_from_slice(br"'\''"),
            other => line.push(other),
        }
    }
    line.push(b'\'');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        for word in ["plain", "two words", "it's", "$(id) `id` \\ \"", "", "ünï", "-n", "*"] {
            let mut line = b"printf '%s|'".to_vec();
            quote(&mut line, OsStr::new(word)).unwrap();
            let said = Command::new("/bin/sh").arg("-c").arg(OsStr::from_bytes(&line)).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{word}|"));
        }
    }

    #[test]
    fn a_line_break_cannot_smuggle_a_command() {
        assert!(quote(&mut Vec::new(), OsStr::new("a\nhalt KILL")).is_err());
    }
}
