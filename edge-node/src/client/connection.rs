//! HTTP over the node's unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::{
    cli::{Format, NodeSelection},
    error::{IntentError, Report},
};

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
pub enum ClientError {
    /// No node answers.
    NotRunning(PathBuf, io::Error),
    /// It refused, and says why.
    Refused(Report),
    /// Something between us and it.
    Broken(String),
}

impl From<Report> for ClientError {
    fn from(report: Report) -> Self {
        Self::Refused(report)
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(format!("the node broke off: {error}"))
    }
}

impl ClientError {
    fn report(self) -> Report {
        match self {
            Self::Refused(report) => report,
            Self::NotRunning(socket, error) => {
                let (message, help) = match error.kind() {
                    io::ErrorKind::PermissionDenied => (
                        format!("{} may not be opened", socket.display()),
                        "only the user that runs the node may ask it: use that account".to_owned(),
                    ),
                    _ => (
                        format!("no node answers at {} ({error})", socket.display()),
                        "start it with `weft up -f FILE`, or name the right one with --runtime-dir or WEFT_RUNTIME_DIR"
                            .to_owned(),
                    ),
                };
                Report::from(IntentError::whole("weft", message, help))
            }
            Self::Broken(message) => Report::from(IntentError::whole("weft", message, "look into the node's log")),
        }
    }

    /// Prints it where it belongs, and the exit code to end with.
    pub fn print(self, format: Format) -> ExitCode {
        let report = self.report();
        match format {
            Format::Json => println!("{}", serde_json::json!({"errors": report})),
            Format::Yaml | Format::Text | Format::Wide => {
                eprint!("{}", report.render(io::IsTerminal::is_terminal(&io::stderr())));
            }
        }
        ExitCode::FAILURE
    }
}

/// A way to a node.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// To the node that was selected.
    pub fn new(node: &NodeSelection) -> Self {
        Self {
            socket: node.runtime_dir.join("api.sock"),
        }
    }

    /// Asks with GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.request("GET", path, Vec::new()).await?).await
    }

    /// Asks with POST.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        read(self.stream(path, body).await?).await
    }

    /// Asks with POST for an answer that comes bit by bit.
    pub async fn stream(&self, path: &str, body: &impl Serialize) -> Result<Response<Incoming>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Broken(error.to_string()))?;
        self.request("POST", path, body).await
    }

    async fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Response<Incoming>, ClientError> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "weft")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let response = sender.send_request(request).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        match serde_json::from_slice::<Report>(&bytes) {
            Ok(report) => Err(ClientError::Refused(report)),
            Err(_) => Err(ClientError::Broken(format!(
                "the node says {status}: {}",
                String::from_utf8_lossy(&bytes)
            ))),
        }
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket)
        .await
        .map_err(|error| ClientError::NotRunning(socket.to_owned(), error))
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let bytes = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| {
        ClientError::Broken(format!(
            "the node's answer is not understood ({error}): is it of another version?"
        ))
    })
}

/// Runs a verb to its end.
pub fn run(work: impl Future<Output = Result<ExitCode, ClientError>>, format: Format) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(work).unwrap_or_else(|error| error.print(format)),
        Err(error) => ClientError::Broken(format!("no runtime: {error}")).print(format),
    }
}
