//! How a mount is asked that may never answer.

use std::path::Path;
use std::time::Duration;

use ops_core::{Context, Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::host::HostTarget;
use crate::mounts::{self, Usage};

/// A local file system answers in microseconds; a network one that takes longer than this has lost its server.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub(super) type Answer = Option<oneshot::Receiver<nix::Result<Usage>>>;

/// Asks for a mount's figures on a thread of its own; `None` while an earlier one still waits for that mount. Not
/// on the runtime's blocking pool: the runtime would wait for a silent mount when it shuts down.
pub(super) fn ask(host: &HostTarget, mount: &Path) -> Answer {
    let path = mount.to_owned();
    let question = host.ask(&path)?;
    let (answer, receiver) = oneshot::channel();
    // Without a thread the question closes, and the receiver says that nobody answers.
    let _ = std::thread::Builder::new().spawn(move || {
        let usage = mounts::usage(&path);
        drop(question);
        // The probe may have given up meanwhile.
        let _ = answer.send(usage);
    });
    Some(receiver)
}

pub(super) async fn wait(cx: &Context, answer: Answer, until: Instant, mount: &Path) -> Result<Usage> {
    let error =
        |kind, why: String| Error::new(kind, "read the figures").on(mount.display().to_string()).because(why);
    let Some(answer) = answer else {
        return Err(error(
            ErrorKind::Timeout,
            "an earlier look has not returned; its server may be gone".into(),
        ));
    };
    let bounded = async {
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(Ok(usage))) => Ok(usage),
            Ok(Ok(Err(errno))) => Err(error(ErrorKind::Failed, errno.desc().to_owned())),
            Ok(Err(_)) => Err(error(ErrorKind::Bug, "the reader ended without an answer".into())),
            Err(_) => Err(error(ErrorKind::Timeout, "no answer within 2 s; its server may be gone".into())),
        }
    };
    cx.run("read the figures", bounded).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostConfig;

    #[tokio::test(start_paused = true)]
    async fn a_silent_mount_costs_two_seconds_once() {
        let (open, receiver) = oneshot::channel();
        let cx = Context::new();
        let error = wait(&cx, Some(receiver), Instant::now() + ANSWER_WITHIN, Path::new("/srv/nas"))
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.target()), (ErrorKind::Timeout, Some("/srv/nas")));
        drop(open);
        let host = HostTarget::new("here", HostConfig::default());
        let question = host.ask(Path::new("/srv/nas"));
        assert!(question.is_some());
        assert!(ask(&host, Path::new("/srv/nas")).is_none(), "a second thread would wait beside the first");
        drop(question);
        assert!(host.ask(Path::new("/srv/nas")).is_some());
    }
}
