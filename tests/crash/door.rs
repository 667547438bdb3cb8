//! The daemon's socket, as any program would use it.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// A daemon's door.
#[derive(Debug, Clone)]
pub struct Door(PathBuf);

/// An answer: the status code and the body.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

impl Door {
    pub fn at(socket: &Path) -> Door {
        Door(socket.to_owned())
    }

    /// What stands at a path; `None` where no daemon answers.
    pub fn get(&self, path: &str) -> Option<Value> {
        let answer = self.exchange("GET", path, "").ok()?;
        (answer.code == 200).then_some(answer.body)
    }

    /// Gives a command; an error where no whole answer came.
    pub fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        self.exchange("POST", &format!("/v1/commands/{path}"), &body.to_string())
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: embot\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        Ok(Answer { code, body: serde_json::from_str(body).map_err(|_| broken())? })
    }
}
