//! The control API: HTTP over a unix socket that only its owner may use. Thin: each route turns into one [`Request`]
//! to the node's loop and its answer into JSON.

mod explain;
mod names;
mod routes;
mod types;
mod who_can;

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tokio::{net::UnixListener, sync::mpsc, task::JoinHandle};

pub use types::{
    Applied, CaptureRequest, DeleteRequest, LigAnswer, LigRequest, PingAnswer, PingRequest, Request, TraceAnswer,
    TraceRequest,
};
pub use who_can::{Joins, WhoCanAnswer, WhoCanNetwork, WhoCanPacket, WhoCanRequest, WhoCanSide};

/// Listens until the task is aborted.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(socket: &Path, requests: mpsc::Sender<Request>) -> io::Result<JoinHandle<()>> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes::router(requests)).await {
            tracing::error!(%error, "the control API ended");
        }
    }))
}
