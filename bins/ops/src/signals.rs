//! Ctrl-C and SIGTERM cancel the context; what runs then ends by itself, and cleans up.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;

use ops_core::Context;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output;

/// Which signal came, if any did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupted(Arc<OnceLock<i32>>);

impl Interrupted {
    /// The code with which a shell reports a process that the signal ended.
    pub(crate) fn code(&self) -> Option<u8> {
        self.0.get().and_then(|code| u8::try_from(*code).ok())
    }
}

/// Cancels `cx` on the first signal, and says so with `farewell`. A second one ends the process at once, with a
/// shell's code for it (130, 143); throwaway servers then end without it.
///
/// Listens in a thread of its own: the one that works may be waiting for a server to end.
///
/// # Errors
/// Those of installing the handlers and of starting the thread.
pub(crate) fn cancel_on_signal(cx: &Context, farewell: &'static str) -> io::Result<Interrupted> {
    let cx = cx.clone();
    let interrupted = Interrupted::default();
    let came = interrupted.clone();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let listen = move || {
        runtime.block_on(async {
            let code = next(&mut signals).await;
            came.0.get_or_init(|| code);
            output::say(farewell);
            cx.cancel();
            end_at_once(next(&mut signals).await);
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(interrupted)
}

/// Waits for a signal; returns the exit code that a shell gives it.
async fn next((interrupt, terminate): &mut (Signal, Signal)) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
    }
}

#[expect(clippy::exit, reason = "somebody who asks twice does not want to wait for destructors")]
fn end_at_once(code: i32) {
    std::process::exit(code);
}
