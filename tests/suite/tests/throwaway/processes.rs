//! What `ps` knows, which is the same on Linux and macOS.

use std::path::Path;
use std::process::Command;

/// Processes whose arguments name `path`: reapers, and servers by their data directory or configuration.
pub(super) fn mentioning(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    ps(&["-axww", "-o", "pid=,args="]).into_iter().filter(|line| line.contains(path)).collect()
}

/// The process and its children.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let parents = ps(&["-ax", "-o", "pid=,ppid="]);
    let pairs = parents.iter().filter_map(|line| {
        let mut words = line.split_whitespace().map(|word| word.parse::<u32>().unwrap());
        Some((words.next()?, words.next()?))
    });
    pairs.filter(|&(child, parent)| child == pid || parent == pid).map(|(child, _)| child).collect()
}

/// Whether it runs: a zombie does not.
pub(super) fn runs(pid: u32) -> bool {
    ps(&["-o", "stat=", "-p", &pid.to_string()]).iter().any(|stat| !stat.trim().starts_with('Z'))
}

/// The effective user's id.
pub(super) fn user_of(pid: u32) -> u32 {
    ps(&["-o", "uid=", "-p", &pid.to_string()])[0].trim().parse().unwrap()
}

fn ps(arguments: &[&str]) -> Vec<String> {
    let said = Command::new("ps").args(arguments).output().unwrap();
    String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
}
