//! Ctrl-C and SIGTERM cancel the context; what runs then ends by itself, and cleans up.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;

use ops_core::{Context, exit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output;

/// The signal that asked the command to end, if one has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interruption(Arc<OnceLock<u8>>);

impl Interruption {
    /// The exit code that a shell gives the signal: 130 for Ctrl-C, 143 for SIGTERM.
    pub(crate) fn code(&self) -> Option<u8> {
        self.0.get().copied()
    }
}

/// Cancels `cx` on the first signal, and says so with `farewell`. A second one ends the process at once, with the
/// signal's own code; throwaway servers then end without it.
///
/// Listens in a thread of its own: the one that works may be waiting for a server to end.
///
/// # Errors
/// Those of installing the handlers and of starting the thread.
pub(crate) fn cancel_on_signal(cx: &Context, farewell: &'static str) -> io::Result<Interruption> {
    let (cx, interruption) = (cx.clone(), Interruption::default());
    let first = interruption.clone();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let listen = move || {
        runtime.block_on(async {
            // Known before anything ends because of it.
            let code = next(&mut signals).await;
            first.0.get_or_init(|| code);
            output::say(farewell);
            cx.cancel();
            end_at_once(next(&mut signals).await);
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(interruption)
}

/// Waits for a signal; returns its exit code.
async fn next((interrupt, terminate): &mut (Signal, Signal)) -> u8 {
    tokio::select! {
        _ = interrupt.recv() => exit::INTERRUPTED,
        _ = terminate.recv() => exit::TERMINATED,
    }
}

#[expect(clippy::exit, reason = "somebody who asks twice does not want to wait for destructors")]
fn end_at_once(code: u8) {
    std::process::exit(code.into());
}
