//! Ctrl-C and SIGTERM cancel the context; what runs then ends by itself, and cleans up.

use ops_core::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Cancels `cx` on the first signal. A second one ends the process at once, in the shell's usual way.
pub(crate) fn cancel_on_signal(cx: &Context) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cx = cx.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cx.cancel();
    });
    Ok(())
}
