//! Work that may block.

use ops_core::{Context, Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// Runs what may block on a thread of its own, and gives it up in time. Not on the runtime's blocking pool: the
/// runtime would wait for a dead network file system when it shuts down.
pub(crate) async fn apart<T: Send + 'static>(
    cx: &Context,
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().spawn(move || {
        // The probe may have given up meanwhile.
        let _ = answer.send(work());
    });
    spawned.map_err(|error| Error::new(ErrorKind::Exhausted, operation).because(error.to_string()))?;
    cx.run(operation, async {
        receiver.await.map_err(|_| Error::new(ErrorKind::Bug, operation).because("the reader ended"))?
    })
    .await
}
