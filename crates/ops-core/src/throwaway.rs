//! A scratch directory with a server in it, neither of which can outlive the client.
//!
//! A destructor does not run after a signal, an abort or `kill -9`. So clean-up does not depend on one: a small
//! shell, the *reaper*, owns the directory and is the server's parent. It reads from a pipe whose other end only
//! the client holds; the kernel closes that end however the client dies, and the reaper then stops the server,
//! removes the directory and ends. Closing and dropping a [`Throwaway`] take the same path.
//!
//! As root, reaper and server run as an unprivileged user, who owns the directory (mode 0700). The environment
//! of the client is not handed on.
//!
//! What is left over: a client that forks without `exec` passes its end of the pipe on, and the server then
//! lives as long as the fork. Whoever kills the reaper itself with `kill -9` keeps the server.

mod options;
mod reaper;
mod share;

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::time::{Duration, Instant};

use nix::unistd::User;

pub use self::options::{StopSignal, ThrowawayOptions};
pub use self::share::Share;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};

/// Bytes in the longest path a Unix socket can have everywhere: macOS has 104 with the closing zero.
pub const MAX_SOCKET_PATH: usize = 103;

const POLL: Duration = Duration::from_millis(10);

/// A scratch directory and at most one server in it; see the [module](self).
///
/// Dropping it stops the server and waits for that, for at most the grace period and five seconds more;
/// [`close`](Throwaway::close) does the same without blocking the thread.
///
/// ```no_run
/// use ops_core::Context;
/// use ops_core::throwaway::{Throwaway, ThrowawayOptions};
///
/// # async fn example() -> ops_core::Result<()> {
/// let cx = Context::new();
/// let mut scratch = Throwaway::create(&cx, &ThrowawayOptions::default()).await?;
/// let pid = scratch.start(&cx, "/bin/sleep", ["60"]).await?;
/// println!("{pid} runs in {}", scratch.dir().display());
/// scratch.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct Throwaway {
    dir: PathBuf,
    reaper: Child,
    /// The client's end of the pipe: dropping it ends the server.
    alive: Option<ChildStdin>,
    owner: Option<User>,
    stop: StopSignal,
    patience: Duration,
    leave: bool,
    /// How many programs have been started: their files are numbered.
    runs: u32,
}

impl Throwaway {
    /// Makes the directory. Cancelled meanwhile, it leaves nothing behind.
    ///
    /// # Errors
    /// `Configuration` as root where none of the users exists, `Failed` where the directory can't be made.
    pub async fn create(cx: &Context, options: &ThrowawayOptions) -> Result<Self> {
        let owner = reaper::unprivileged_user(&options.users)?;
        // The reaper works in another directory.
        let parent = std::path::absolute(&options.parent)
            .map_err(|error| failed(&options.parent, "find a directory").caused_by(error))?;
        let dir = parent.join(format!("{}{}", options.prefix, unique()));
        let mut reaper = reaper::spawn(&dir, options, owner.as_ref())
            .map_err(|error| failed(&dir, "start a shell").caused_by(error))?;
        let alive = reaper.stdin.take();
        let patience = Duration::from_secs(options.grace_seconds() + 5);
        let mut made =
            Self { dir, reaper, alive, owner, stop: options.stop, patience, leave: false, runs: 0 };
        cx.run("make a scratch directory", made.wait_for_directory()).await?;
        Ok(made)
    }

    async fn wait_for_directory(&mut self) -> Result<()> {
        // The log is the last thing the reaper makes before it listens.
        while !self.dir.join("log").exists() {
            let exited =
                self.reaper.try_wait().map_err(|error| failed(&self.dir, "wait").caused_by(error))?;
            if exited.is_some() {
                let mut said = String::new();
                if let Some(stderr) = &mut self.reaper.stderr {
                    // What it said only adds to the error.
                    stderr.read_to_string(&mut said).ok();
                }
                let user = self.user().map(|user| format!(" as user {user}")).unwrap_or_default();
                return Err(failed(&self.dir, "make a scratch directory")
                    .because(format!("{}{user}", said.trim().replace('\n', "; "))));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The unprivileged user it runs as, when the client is root.
    pub fn user(&self) -> Option<&str> {
        self.owner.as_ref().map(|user| user.name.as_str())
    }

    /// A path for a Unix socket in the directory.
    ///
    /// # Errors
    /// `InvalidInput` where it would be longer than [`MAX_SOCKET_PATH`].
    pub fn socket(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(path);
        }
        Err(Error::new(ErrorKind::InvalidInput, "make a socket")
            .on(path.to_string_lossy())
            .because(format!("a socket's path has at most {MAX_SOCKET_PATH} bytes"))
            .with_fix("give a parent directory with a shorter path, such as /tmp"))
    }

    /// Writes a new file (mode 0600) that the server can read.
    ///
    /// # Errors
    /// `Failed` with the cause.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.dir.join(name);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(contents.as_ref())?;
            match &self.owner {
                Some(user) => chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
                None => Ok(()),
            }
        };
        write().map_err(|error| failed(&path, "write").because(error.to_string()).caused_by(error))?;
        Ok(path)
    }

    /// Runs a program to its end. Its output goes to the log.
    ///
    /// Cancelled, or without its client, the program still gets the grace period to finish: `initdb`, for one,
    /// leaves shared memory behind when it is interrupted.
    ///
    /// # Errors
    /// `Failed` with the end of the log where its status is not 0.
    pub async fn run(
        &mut self,
        cx: &Context,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<()> {
        let name = program.as_ref().to_string_lossy().into_owned();
        self.launch(cx, "0", program.as_ref(), arguments).await?;
        let status = cx.run("run a program", self.ended()).await?;
        if status == 0 { Ok(()) } else { Err(self.died(&name, status)) }
    }

    /// Starts the server and returns its process id. It is not ready yet, and may even have failed: poll it,
    /// and [`exit_status`](Self::exit_status) with it. Its output goes to the log.
    ///
    /// # Errors
    /// `Precondition` while another one runs.
    pub async fn start(
        &mut self,
        cx: &Context,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<u32> {
        self.launch(cx, self.stop.name(), program.as_ref(), arguments).await
    }

    async fn launch(
        &mut self,
        cx: &Context,
        signal: &str,
        program: &OsStr,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<u32> {
        if self.pid().is_some() && self.exit_status().is_none() {
            return Err(Error::new(ErrorKind::Precondition, "start a server")
                .on(self.dir.to_string_lossy())
                .because("another one runs in this directory"));
        }
        let run = self.runs + 1;
        let mut line = format!("start {run} {signal}").into_bytes();
        reaper::quote(&mut line, program)?;
        for argument in arguments {
            reaper::quote(&mut line, argument.as_ref())?;
        }
        self.tell(line)?;
        self.runs = run;
        let appear = async {
            loop {
                if let Some(pid) = self.pid() {
                    return Ok(pid);
                }
                self.check_reaper()?;
                tokio::time::sleep(POLL).await;
            }
        };
        cx.run("start a server", appear).await
    }

    /// Stops the server and leaves the directory, so that another can start in it.
    ///
    /// Cancelled, the server still ends.
    pub async fn stop(&mut self, cx: &Context, signal: StopSignal) -> Result<()> {
        if self.pid().is_none() {
            return Ok(());
        }
        self.tell(format!("halt {}", signal.name()).into_bytes())?;
        cx.run("stop a server", self.ended()).await.map(drop)
    }

    async fn ended(&self) -> Result<i32> {
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            self.check_reaper()?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// The process id of the server started last.
    pub fn pid(&self) -> Option<u32> {
        read_number(&self.dir.join(format!("pid.{}", self.runs)))
    }

    /// How the server started last has ended, as a shell has it (128 and more are signals); `None` while it runs.
    pub fn exit_status(&self) -> Option<i32> {
        read_number(&self.dir.join(format!("exit.{}", self.runs)))
    }

    /// The last `lines` lines of what the servers wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        // A log that can't be read any more says nothing; its readers have an error already.
        let text = tail(&self.dir.join("log"), 64 * 1024).unwrap_or_default();
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The error for a `program` that ended by itself, with the end of its log.
    pub fn died(&self, program: &str, status: i32) -> Error {
        let log = self.log_tail(6).replace('\n', "; ");
        let user = self.user().map(|user| format!(" as user {user}")).unwrap_or_default();
        Error::new(ErrorKind::Failed, "start a server")
            .on(program)
            .because(format!("it ended with status {status}{user}; its log ends: {log}"))
    }

    /// Lets other processes [`join`](Share::join): from now on the server ends when this client and all who
    /// joined are gone, and nobody has come for `linger` (whole seconds, rounded down).
    ///
    /// Dropping it no longer waits for the server's end.
    pub async fn share(&mut self, cx: &Context, linger: Duration) -> Result<()> {
        self.tell(format!("share {}", linger.as_secs()).into_bytes())?;
        self.leave = true;
        let users = self.dir.join("users");
        let joinable = async {
            // Joinable once somebody reads.
            while Share::join(&self.dir).ok().flatten().is_none() {
                self.check_reaper()?;
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        cx.run("share a server", joinable).await.map_err(|error| error.on(users.to_string_lossy()))
    }

    /// Leaves the server running after this process, and returns the process id of its reaper: a `SIGTERM` to
    /// that stops the server and removes the directory.
    ///
    /// # Errors
    /// `Failed` where the reaper is gone.
    pub fn keep(mut self) -> Result<u32> {
        self.tell(b"keep".to_vec())?;
        self.leave = true;
        Ok(self.reaper.id())
    }

    /// Stops the server, removes the directory, and waits for both, at most the grace period and five seconds
    /// more. Dropped meanwhile, it still happens.
    ///
    /// # Errors
    /// `Timeout` where the server does not end; the reaper goes on trying.
    pub async fn close(mut self) -> Result<()> {
        drop(self.alive.take());
        let end = Instant::now() + self.patience;
        while self.reaper.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > end {
                self.leave = true;
                return Err(Error::new(ErrorKind::Timeout, "stop a server")
                    .on(self.dir.to_string_lossy())
                    .because(format!("it runs on after {} s", self.patience.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn tell(&mut self, mut line: Vec<u8>) -> Result<()> {
        line.push(b'\n');
        let sent = match &mut self.alive {
            Some(pipe) => pipe.write_all(&line),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        sent.map_err(|error| failed(&self.dir, "reach the reaper").caused_by(error))
    }

    /// A reaper ends before its client only when somebody kills it.
    fn check_reaper(&self) -> Result<()> {
        if self.dir.exists() {
            return Ok(());
        }
        Err(failed(&self.dir, "reach the reaper").because("the directory is gone"))
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        drop(self.alive.take());
        let end = Instant::now() + self.patience;
        while !self.leave
            && Instant::now() < end
            && self.reaper.try_wait().is_ok_and(|status| status.is_none())
        {
            std::thread::sleep(POLL);
        }
    }
}

/// A word that nobody else has: for names of directories, and for passwords that live minutes.
pub fn unique() -> String {
    // The end of a UUIDv7 is random; its beginning is the time.
    let id = uuid::Uuid::now_v7().simple().to_string();
    id[20..].to_owned()
}

/// Percent-encodes one part of a server's URL: a name, a password, or the path of a socket in the host's place.
///
/// ```
/// assert_eq!(ops_core::throwaway::url_part("/tmp/a b"), "%2Ftmp%2Fa%20b");
/// ```
pub fn url_part(part: &str) -> String {
    let form: String = url::form_urlencoded::byte_serialize(part.as_bytes()).collect();
    // Form encoding differs in the blank alone.
    form.replace('+', "%20")
}

fn read_number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    let text = std::fs::read_to_string(path).ok()?;
    // Without its line break it is still being written.
    text.strip_suffix('\n')?.parse().ok()
}

fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn failed(path: &Path, operation: &'static str) -> Error {
    Error::new(ErrorKind::Failed, operation).on(path.to_string_lossy())
}
