//! Talks to the daemon: HTTP over its unix socket, or over TLS where it is on the network; one connection a request.

use super::failure::Failure;
use super::remote::Remote;
use crate::api::SERVER as API_SERVER;
use crate::api::error::{NO_SUCH_PATH, Problem};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, SERVER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// A client of one daemon.
#[derive(Debug, Clone)]
pub enum Client {
    /// By its socket.
    Socket(PathBuf),
    /// Over the network.
    Network(Remote),
}

impl Client {
    /// Reads what stands at a path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.request(Method::GET, path, Bytes::new()).await?).await
    }

    /// Reads what stands at a path, with a query made from a filter.
    pub async fn find<T: DeserializeOwned>(&self, path: &str, filter: &impl Serialize) -> Result<T, Failure> {
        self.get(&with_query(path, filter)?).await
    }

    /// Gives a command.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T, Failure> {
        let body =
            serde_json::to_vec(request).map_err(|error| Failure::wrong(format!("the request cannot be written: {error}")))?;
        read(self.request(Method::POST, path, body.into()).await?).await
    }

    /// Opens a stream of bytes.
    pub async fn stream(&self, path: &str, filter: &impl Serialize) -> Result<Lines, Failure> {
        let response = self.request(Method::GET, &with_query(path, filter)?, Bytes::new()).await?;
        Ok(Lines { body: response.into_body(), rest: Vec::new() })
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
        let request = match self {
            Client::Socket(_) => request.header(HOST, "embot"),
            Client::Network(remote) => {
                let request = request.header(HOST, remote.authority());
                let token = remote.token().map(|token| format!("Bearer {token}"));
                token.into_iter().fold(request, |request, token| request.header(AUTHORIZATION, token))
            }
        };
        let request =
            request.body(Full::new(body)).map_err(|error| Failure::wrong(format!("`{path}` cannot be asked: {error}")))?;
        let response = match self {
            Client::Socket(socket) => {
                let absent = |source| Failure::NoDaemon { socket: socket.clone(), source };
                self.send(UnixStream::connect(socket).await.map_err(absent)?, request).await?
            }
            Client::Network(remote) => self.send(remote.connect().await?, request).await?,
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(path, response).await) }
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::wrong(format!("the connection to {self} broke off: {error}"))
            .with_hint("look at the daemon's log; if it stopped, start it again with `embot run`")
    }

    async fn refusal(&self, path: &str, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let server = response.headers().get(SERVER).and_then(|server| server.to_str().ok()).map(str::to_owned);
        let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            return Failure::wrong(format!("{self} answered {status}, and not as a plane of embot does"))
                .with_hint("is it a plane of embot, on the port of its `api.listen`?");
        };
        if status == StatusCode::NOT_FOUND && problem.error.starts_with(NO_SUCH_PATH) && server.as_deref() != Some(API_SERVER) {
            let its = server.unwrap_or_else(|| "another version".to_owned());
            return Failure::wrong(format!("the plane at {self} ({its}) does not know {path}, which {API_SERVER} asks for"))
                .with_hint("use the `embot` of the plane's version, or upgrade the plane");
        }
        if status == StatusCode::CONFLICT { Failure::No(problem) } else { Failure::Wrong(problem) }
    }
}

/// Where it is, for people.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Socket(socket) => write!(f, "{}", socket.display()),
            Client::Network(remote) => write!(f, "{remote}"),
        }
    }
}

/// A segment of a path: whatever could be taken for something else is escaped.
pub fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':' | b'/' | b'@');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn with_query(path: &str, filter: &impl Serialize) -> Result<String, Failure> {
    let unwritten = |error| Failure::wrong(format!("the request cannot be written: {error}"));
    let fields = serde_json::to_value(filter).map_err(unwritten)?;
    let fields = fields.as_object().into_iter().flatten().map(|(key, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        format!("{}={}", segment(key), segment(&value))
    });
    let query: Vec<String> = fields.collect();
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) })
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Failure> {
    let body =
        response.into_body().collect().await.map_err(|error| Failure::wrong(format!("the answer broke off: {error}")))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        Failure::wrong(format!("the daemon's answer is not understood: {error}"))
            .with_hint("the daemon may be of another version; `embot status` shows which")
    })
}

/// The lines of a body, as they come.
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line, without its end; `None` at the end of the body.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(Failure::wrong(format!("the connection to the daemon broke off: {error}"))),
                None if self.rest.is_empty() => return Ok(None),
                None => self.rest.push(b'\n'),
            }
        }
    }

    /// Whatever has come next, not split in lines; `None` at the end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest).into()));
        }
        match self.body.frame().await {
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(Failure::wrong(format!("the connection to the daemon broke off: {error}"))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::elements::ElementFilter;

    #[test]
    fn queries_hold_anything() {
        let filter =
            ElementFilter { kind: Some(crate::model::Kind::Vm), name: Some("web *&=?#ä".into()), ..ElementFilter::default() };
        let path = with_query("/v1/elements", &filter).ok();
        assert_eq!(path.as_deref(), Some("/v1/elements?kind=vm&name=web%20%2A%26%3D%3F%23%C3%A4"));
        assert_eq!(with_query("/v1/elements", &ElementFilter::default()).ok().as_deref(), Some("/v1/elements"));
    }
}
