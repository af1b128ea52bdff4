//! A machine made of files and strict programs, whose faults can be planted; and the real one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{Bounds, Clock, Context, Limits, ProbeResult, ProbeSet, ProbeSetOptions, Result};
use ops_host::{HostConfig, HostProbe, HostTarget, Machine, ReferenceClock, host_registry};

pub(crate) fn probe_named(name: &str) -> &'static dyn HostProbe {
    *host_registry().iter().find(|probe| probe.spec().name == name).expect("a registered probe")
}

/// A directory with what a calm Linux with systemd shows.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
}

const STAT: &str =
    "cpu  1000 0 500 8000 100 0 10 0 0 0\ncpu0 1000 0 500 8000 100 0 10 0 0 0\nbtime 1795384147\n";
const MEMINFO: &str = "MemTotal:       1000000 kB\nMemFree:          50000 kB\nMemAvailable:    600000 kB\nSwapTotal: 100000 kB\nSwapFree: 90000 kB\n";
const DISKSTATS: &str = " 254       0 vda 100 0 2000 50 100 0 2000 50 0 1000 100\n";
const DEV: &str = "Inter-|   Receive\n face |bytes\n    lo: 1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0\n  eth0: 1 1000 0 0 0 0 0 0 1 1000 0 0 0 0 0 0\n";

/// As `systemctl show` prints it, by unit: systemd 252 on Debian 12.
pub(crate) const SERVICE: &str = "Type=notify\nNRestarts=0\nResult=success\nId=app.service\nWants=\nLoadState=loaded\nActiveState=active\nSubState=running\n";
pub(crate) const TIMER: &str = "Unit=backup.service\nTimersCalendar={ OnCalendar=*-*-* 02:00:00 ; next_elapse=Thu 2098-01-02 02:00:00 UTC }\nNextElapseUSecRealtime=Thu 2098-01-02 02:00:00 UTC\n\
    NextElapseUSecMonotonic=infinity\nLastTriggerUSec=Wed 2025-01-01 02:00:00 UTC\nId=backup.timer\nLoadState=loaded\n\
    ActiveState=active\nSubState=waiting\n";
pub(crate) const BACKUP: &str = "Result=success\nExecMainStatus=0\nInactiveExitTimestamp=Wed 2025-01-01 02:00:00 UTC\nId=backup.service\nLoadState=loaded\n\
    ActiveState=inactive\nSubState=dead\n";

impl Fake {
    pub(crate) fn new() -> Self {
        let fake = Self { dir: tempfile::Builder::new().prefix("ops-host-").tempdir().unwrap() };
        for (file, text) in [
            ("proc/stat", STAT),
            ("proc/meminfo", MEMINFO),
            ("proc/vmstat", "pgfault 1\noom_kill 3\n"),
            ("proc/diskstats", DISKSTATS),
            ("proc/net/dev", DEV),
            ("proc/loadavg", "0.50 0.40 0.30 1/100 99\n"),
            ("proc/uptime", "5000.00 9000.00\n"),
            ("proc/sys/kernel/random/boot_id", "b2c82b17-0000-4000-8000-000000000000\n"),
            ("units/app.service", SERVICE),
            ("units/backup.timer", TIMER),
            ("units/backup.service", BACKUP),
            ("clock", "NTP=yes\nNTPSynchronized=yes\n"),
            ("server-clock", "0.002"),
            ("proc/self/cgroup", "0::/app.slice/app.service\n"),
            ("sys/fs/cgroup/app.slice/app.service/memory.max", "1000000\n"),
            ("sys/fs/cgroup/app.slice/app.service/memory.current", "500000\n"),
            ("sys/fs/cgroup/app.slice/app.service/memory.stat", "anon 400000\ninactive_file 100000\n"),
        ] {
            fake.write(file, text);
        }
        for dir in ["sys/block/vda", "run/systemd/system", "beats", "logs"] {
            std::fs::create_dir_all(fake.path(dir)).unwrap();
        }
        fake.process(100, "app", 1000);
        fake.program("systemctl", SYSTEMCTL);
        fake.program("timedatectl", TIMEDATECTL);
        fake.program("journalctl", JOURNALCTL);
        fake
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        self.write(file, &text.replace(from, to));
    }

    /// A process with two open files of ten.
    pub(crate) fn process(&self, pid: u32, name: &str, started: u32) {
        let zeros = "0 ".repeat(15);
        self.write(&format!("proc/{pid}/stat"), &format!("{pid} ({name}) S 1 1 1 {zeros}{started} 0 0\n"));
        self.write(&format!("proc/{pid}/cmdline"), &format!("/usr/bin/{name}\0--port\080\0"));
        self.write(&format!("proc/{pid}/status"), "VmRSS:\t    2048 kB\n");
        self.write(
            &format!("proc/{pid}/limits"),
            "Max open files            10                   10                   files\n",
        );
        for file in ["0", "1"] {
            self.write(&format!("proc/{pid}/fd/{file}"), "");
        }
    }

    fn program(&self, name: &str, script: &str) {
        let script = script.replace("@DIR@", &self.dir.path().display().to_string());
        self.write(name, &script);
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine::default()
            .with_proc(self.path("proc"))
            .with_sys(self.path("sys"))
            .with_run(self.path("run"))
            .with_systemctl(self.path("systemctl"))
            .with_journalctl(self.path("journalctl"))
            .with_timedatectl(self.path("timedatectl"))
    }

    /// The machine beside a server whose clock a file tells.
    pub(crate) fn target(&self, config: HostConfig) -> HostTarget {
        let clock: Arc<dyn ReferenceClock> = Arc::new(ServerClock(self.path("server-clock")));
        HostTarget::on("here", config, self.machine()).with_clocks([clock])
    }
}

/// A server's clock: a file says how many seconds it is ahead.
#[derive(Debug)]
struct ServerClock(PathBuf);

#[async_trait]
impl ReferenceClock for ServerClock {
    fn name(&self) -> &str {
        "main"
    }

    async fn offset(&self, _cx: &Context) -> Result<(f64, f64)> {
        Ok((std::fs::read_to_string(&self.0).unwrap().trim().parse().unwrap(), 0.001))
    }
}

/// Shows the properties that are asked for, of units that are there; refuses whatever systemctl(1) does not describe.
const SYSTEMCTL: &str = r#"#!/bin/sh
[ "$LC_ALL" = C ] && [ "$TZ" = UTC ] || { echo "neither C nor UTC" >&2; exit 2; }
[ "$1" = show ] && [ "$2" = --no-pager ] && [ "$4" = -- ] || { echo "unknown command: $*" >&2; exit 2; }
case $3 in --property=*) wanted=${3#--property=} ;; *) echo "unknown option $3" >&2; exit 2 ;; esac
shift 4
first=yes
for unit; do
  case $unit in *.service | *.timer) ;; *) unit=$unit.service ;; esac
  [ "$first" = yes ] || echo
  first=no
  file=@DIR@/units/$unit
  if [ ! -f "$file" ]; then
    printf 'Id=%s\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n' "$unit"
    continue
  fi
  while IFS= read -r line; do
    case ,$wanted, in *,"${line%%=*}",*) printf '%s\n' "$line" ;; esac
  done <"$file"
done
"#;

const TIMEDATECTL: &str = r#"#!/bin/sh
[ "$*" = "show --property=NTPSynchronized --property=NTP" ] || { echo "unknown: $*" >&2; exit 2; }
cat @DIR@/clock
"#;

/// Prints the entries of a unit's file, the newest first; the window is journalctl's own business.
const JOURNALCTL: &str = r#"#!/bin/sh
case $1 in --unit=*) unit=${1#--unit=} ;; *) echo "unknown: $*" >&2; exit 2 ;; esac
shift
case "$*" in
  "--since=@"*" --reverse --output=cat --no-pager") file=@DIR@/journal/$unit ;;
  "--lines=1 --output=cat --no-pager") file=@DIR@/journal/$unit.last ;;
  *) echo "unknown: $*" >&2; exit 2 ;;
esac
[ ! -f @DIR@/journal.hint ] || cat @DIR@/journal.hint >&2
if [ -s "$file" ]; then tac "$file"; else echo "-- No entries --"; fi
"#;

/// Now, which tests move.
#[derive(Debug)]
struct At(DateTime<Utc>);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// A context whose windows are as long as the time between two looks, and a child of it at another time.
pub(crate) fn context() -> Context {
    Context::new().with_window_gap(Duration::from_millis(1))
}

pub(crate) fn later(cx: &Context, by: Duration) -> Context {
    cx.clone().with_clock(At(Utc::now() + by))
}

pub(crate) async fn look(
    cx: &Context,
    probe: &str,
    config: HostConfig,
    machine: Machine,
    bounds: &[(&str, Bounds)],
) -> ProbeResult {
    look_at(cx, probe, &HostTarget::on("here", config, machine), bounds).await
}

pub(crate) async fn look_at(
    cx: &Context,
    probe: &str,
    target: &HostTarget,
    bounds: &[(&str, Bounds)],
) -> ProbeResult {
    let probe = probe_named(probe);
    let limits = bounds
        .iter()
        .fold(Limits::defaults(probe.spec()), |limits, (name, bounds)| limits.with(name, *bounds).unwrap());
    let options = ProbeSetOptions::default().with_probe_deadline(Duration::from_secs(10));
    let mut set = ProbeSet::new("test").with_options(options);
    set.add_grouped("here", None, probe.spec().group, target.bind(probe, limits));
    set.run(cx).await.probes.remove(0)
}

pub(crate) fn line_at(at: DateTime<Utc>, text: &str) -> String {
    format!("{} UTC [42] {text}\n", at.format("%Y-%m-%d %H:%M:%S%.3f"))
}

pub(crate) fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
