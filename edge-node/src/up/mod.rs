//! `weft up` and `weft mapserver`: the control process of a node.
//!
//! | file | what it owns |
//! |---|---|
//! | `node.rs` | the loop and all state |
//! | `events.rs` | what happens: to the packet path, to the xTR, with time |
//! | `requests.rs` | what the control API asks, and how a change of the intent goes |
//! | `reconcile.rs` | from an intent to a machine that is like it |
//! | `desired.rs` | what the packet path shall look like: a pure function |
//! | `descriptors.rs` | TAPs and sockets, which outlive any one packet path |
//! | `packets.rs` | the packet path's process and the link to it |
//! | `shell.rs` | sockets and clock of the xTR |
//! | `map_servers.rs` | Map-Servers of this node |
//! | `uplinks.rs`, `interfaces.rs`, `exit.rs`, `resolvers.rs` | the machine's interfaces, and its DNS resolvers |
//! | `preflight.rs`, `secrets.rs` | what the machine must have before anything is changed |
//! | `status.rs` | the truth about all of it |

mod descriptors;
mod desired;
mod events;
mod exit;
mod interfaces;
mod map_servers;
mod names;
mod node;
mod packets;
mod preflight;
mod reconcile;
mod requests;
mod resolvers;
mod sealed;
mod secrets;
mod shell;
pub mod status;
mod store;
mod uplinks;

use std::{
    fs,
    io::{self, IsTerminal as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use dataplane::process;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing_subscriber::EnvFilter;

use crate::{
    api,
    cli::{DataplaneArgs, Directories, LogArgs, LogFormat, MapServerArgs, UpArgs},
    error::Report,
    read,
};

pub use desired::{GATEWAY_MAC, GATEWAY_V6};
pub use names::{network as network_id, port as port_id};

/// `weft up`.
pub fn run(arguments: &UpArgs) -> ExitCode {
    run_node(&arguments.files.files, &arguments.directories, arguments.log)
}

/// `weft mapserver`: the same process with nothing but Map-Servers in its intent.
pub fn run_map_server(arguments: &MapServerArgs) -> ExitCode {
    run_node(&arguments.files.files, &arguments.directories, arguments.log)
}

fn run_node(files: &[PathBuf], directories: &Directories, log_arguments: LogArgs) -> ExitCode {
    log(log_arguments);
    let sources = match read::sources(files) {
        Ok(sources) => sources,
        Err(report) => return refuse(&report),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(&sources, directories)),
        Err(error) => Err(Failure::Machine(format!("no runtime: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Intent(report)) => refuse(&report),
        Err(Failure::Machine(message)) => {
            eprintln!("weft: {message}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Intent(Report),
    Machine(String),
}

fn refuse(report: &Report) -> ExitCode {
    eprint!("{}", report.render(io::stderr().is_terminal()));
    ExitCode::FAILURE
}

async fn serve(sources: &[read::Source], directories: &Directories) -> Result<(), Failure> {
    let machine = |what: &str, error: &io::Error| Failure::Machine(format!("{what}: {error}"));
    for directory in [&directories.state_dir, &directories.runtime_dir] {
        private(directory).map_err(|error| {
            let help = "run as root, or name other folders with --state-dir and --runtime-dir";
            Failure::Machine(format!("cannot use {}: {error}; {help}", directory.display()))
        })?;
    }
    let socket = directories.runtime_dir.join("api.sock");
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        let message = format!(
            "a node runs already with --runtime-dir {}; stop it, or give this one directories of its own",
            directories.runtime_dir.display()
        );
        return Err(Failure::Machine(message));
    }
    let mut node = node::Node::new(directories.clone())
        .await
        .map_err(|error| machine("cannot start", &error))?;
    let (stopper, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| machine("no signals", &error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| machine("no signals", &error))?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = stopper.send(true);
        // Whoever asks twice does not want to wait.
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(1);
    });
    if let Err(report) = node.start(sources).await {
        node.abandon().await;
        return Err(Failure::Intent(report));
    }
    let (requests, receiver) = mpsc::channel(16);
    let api = api::serve(&socket, requests)
        .map_err(|error| machine(&format!("cannot listen on {}", socket.display()), &error))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), api = %socket.display(), "up");
    tell_systemd("READY=1");
    node.run(receiver, stop).await;
    api.abort();
    let _ = fs::remove_file(&socket);
    Ok(())
}

/// Says how we are to whoever started us, when that is systemd (sd_notify(3)).
fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = UnixDatagram::unbound().and_then(|socket| match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?),
        None => socket.send_to(state.as_bytes(), &path),
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd was not told");
    }
}

fn private(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn log(arguments: LogArgs) {
    // What libraries have to say is of interest to who asks for it.
    let filter =
        EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("warn,edge_node=info,mapserver=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match arguments.log_format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Human => builder.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
    }
}

/// `weft dataplane`: the packet path's process. Its listening socket is its standard input.
pub fn run_dataplane(arguments: &DataplaneArgs) -> ExitCode {
    let options = process::Options {
        uid: arguments.uid,
        gid: arguments.gid,
    };
    match process::run(&options) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft dataplane: {error}");
            ExitCode::FAILURE
        }
    }
}
