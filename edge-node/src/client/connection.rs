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
            Format::Json => say!("{}", serde_json::json!({"errors": report})),
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        api::{self, Request as Asked},
        up::status::Status,
    };

    /// A node that says its status and refuses everything else.
    fn node(directory: &Path) -> Client {
        let (requests, mut receiver) = mpsc::channel(4);
        let socket = directory.join("api.sock");
        api::serve(&socket, requests).expect("listening");
        tokio::spawn(async move {
            while let Some(request) = receiver.recv().await {
                match request {
                    Asked::Status(answer) => {
                        let _ = answer.send(Status {
                            generation: 7,
                            ..Status::default()
                        });
                    }
                    Asked::Apply(_, answer) => {
                        let _ = answer.send(Err(Report::from(IntentError::whole("node.yaml", "no", "yes"))));
                    }
                    _ => {}
                }
            }
        });
        Client { socket }
    }

    #[tokio::test]
    async fn answers_and_refusals_come_back_as_they_were_given() {
        let directory = tempfile::tempdir().expect("a directory");
        let client = node(directory.path());
        let status: Status = client.get("/v1/status").await.expect("an answer");
        assert_eq!(status.generation, 7);
        let refused = client
            .post::<api::Applied>("/v1/apply", &Vec::<crate::read::Source>::new())
            .await;
        let Err(ClientError::Refused(report)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(report.0[0].message, "no");
        let broken = client.get::<Status>("/v1/nonsense").await;
        assert!(matches!(broken, Err(ClientError::Broken(_))), "{broken:?}");
    }

    #[tokio::test]
    async fn a_request_that_is_never_answered_is_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let client = node(directory.path());
        // The node drops what it does not know, as one that stops does.
        let Err(ClientError::Refused(report)) = client.get::<serde_json::Value>("/v1/objects").await else {
            panic!("it was answered")
        };
        assert!(report.0[0].message.contains("stopping"));
    }

    #[tokio::test]
    async fn only_the_owner_may_use_the_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let client = node(directory.path());
        let mode = std::fs::metadata(&client.socket).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_node_that_does_not_run_is_told_with_the_remedy() {
        let client = Client {
            socket: "/no/such/api.sock".into(),
        };
        let error = client.get::<Status>("/v1/status").await.expect_err("nobody is there");
        let report = error.report();
        assert!(report.0[0].message.contains("/no/such/api.sock"));
        assert!(report.0[0].help.contains("weft up"));
    }
}
