//! A plane on the network: where it is, whom to trust there, and with which token.

use super::failure::Failure;
use crate::pki::{files, https};
use hyper::Uri;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where planes listen, unless something else is said.
const PORT: u16 = 7400;
/// Connecting, and the TLS handshake, may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a plane on the network is reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Ask a plane on the network: https://HOST[:PORT].
    #[arg(id = "plane_url", long = "plane", global = true, help_heading = super::GLOBAL, env = "EMBOT_PLANE", value_name = "URL")]
    plane: Option<String>,
    /// The file that holds the token for it; without it, the token is in EMBOT_TOKEN.
    #[arg(long, global = true, help_heading = super::GLOBAL, env = "EMBOT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities that may vouch for it; without it, those that the system trusts.
    #[arg(id = "authorities", long = "ca", global = true, help_heading = super::GLOBAL, env = "EMBOT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Options {
    /// The plane that is meant, if it is one on the network.
    pub fn remote(&self) -> Result<Option<Remote>, Failure> {
        let Some(url) = self.plane.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        Remote::new(url, self.ca.as_deref(), self.token()?).map(Some)
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var("EMBOT_TOKEN").ok().filter(|token| !token.trim().is_empty()));
        };
        let text = files::read_private(path).map_err(|error| {
            Failure::wrong(error.to_string()).with_hint("it has the token in one line, as `embot token create` shows it")
        })?;
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(Failure::wrong(format!("{} holds no token", path.display()))
                .with_hint("it has the token in one line, as `embot token create` shows it"));
        }
        Ok(Some(token.to_owned()))
    }
}

fn bad_url(url: &str) -> Failure {
    Failure::wrong(format!("`{url}` is no plane's URL")).with_hint("write for example `https://plane.example:7400`")
}

/// Host and port of a URL.
fn address(url: &str) -> Result<(String, u16), Failure> {
    let uri: Uri = url.parse().map_err(|_| bad_url(url))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad_url(url))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => {
            return Err(Failure::wrong(format!("`{url}`: planes are asked over TLS only")).with_hint("write `https://`"));
        }
        _ => return Err(bad_url(url)),
    }
    if uri.path_and_query().is_some_and(|rest| !matches!(rest.as_str(), "" | "/")) || url.contains('@') {
        return Err(bad_url(url));
    }
    let port = match uri.authority().map_or("", hyper::http::uri::Authority::as_str).strip_prefix(host) {
        None | Some("") => PORT,
        Some(port) => port.trim_start_matches(':').parse().map_err(|_| bad_url(url))?,
    };
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// A plane on the network.
#[derive(Clone)]
pub struct Remote {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    ca: Option<PathBuf>,
    token: Option<String>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("plane", &self.to_string()).finish_non_exhaustive()
    }
}

/// As in the URL.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl Remote {
    /// The plane at a URL, which one of these authorities (without them: one of the system's) vouches for.
    pub fn new(url: &str, ca: Option<&Path>, token: Option<String>) -> Result<Remote, Failure> {
        let (host, port) = address(url)?;
        let tls = https::client(ca).map_err(|error| {
            Failure::wrong(error.to_string())
                .with_hint("name the authority's certificate with --ca; `embot pki` calls its file ca.crt")
        })?;
        let name = ServerName::try_from(host.clone()).map_err(|_| bad_url(url))?;
        Ok(Remote { host, port, name, tls, ca: ca.map(Path::to_owned), token })
    }

    /// Host and port, as HTTP names them.
    pub fn authority(&self) -> String {
        match self.name {
            ServerName::IpAddress(_) if self.host.contains(':') => format!("[{}]:{}", self.host, self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// What to show of oneself.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Connects.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let way = async {
            let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(|error| self.absent(&error))?;
            // Without it, small messages may wait for each other; nothing else depends on it.
            stream.set_nodelay(true).ok();
            let shaken = TlsConnector::from(self.tls.clone()).connect(self.name.clone(), stream).await;
            shaken.map_err(|error| self.untrusted(&error))
        };
        let late = |_| Failure::wrong(format!("no answer from {self} within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, way).await.map_err(late)?
    }

    fn absent(&self, error: &io::Error) -> Failure {
        let hint = "is the host right, does its plane.yaml have `api.listen`, and does the network let you through?";
        Failure::wrong(format!("no plane answers at {self}: {error}")).with_hint(hint)
    }

    fn untrusted(&self, error: &io::Error) -> Failure {
        let certificate = |what: &str| Failure::wrong(format!("the certificate of {self} {what}"));
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => match &self.ca {
                    Some(ca) => certificate(&format!("is signed by none of the authorities in {}", ca.display()))
                        .with_hint("name the authority that has issued it; `embot pki` calls its file ca.crt"),
                    None => certificate("is signed by an authority that is not trusted here")
                        .with_hint("name the authority's certificate with --ca; `embot pki` calls its file ca.crt"),
                },
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    certificate(&format!("does not name `{}`", self.host)).with_hint(format!(
                        "dial a name that stands in it, or give the plane one that has it: `embot pki renew PLANE --name {}`",
                        self.host
                    ))
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    certificate("has expired").with_hint("give the plane a fresh one: `embot pki renew PLANE`")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    certificate("is not valid yet").with_hint("compare the clocks")
                }
                other => certificate(&format!("is not accepted: {other}")),
            },
            Some(rustls::Error::InvalidMessage(_)) => {
                Failure::wrong(format!("what answers at {self} does not speak TLS")).with_hint("is the port right?")
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                Failure::wrong(format!("{self} refuses the TLS connection ({alert:?})"))
                    .with_hint("is it a plane of embot, on the port of its `api.listen`?")
            }
            Some(other) => Failure::wrong(format!("no TLS connection with {self}: {other}")),
            None => Failure::wrong(format!("{self} hung up before a TLS connection was made: {error}"))
                .with_hint("is it a plane of embot, on the port of its `api.listen`?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Style;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn urls_name_a_host_and_perhaps_a_port() {
        let read = |url: &str| address(url).ok();
        assert_eq!(read("https://plane.example"), Some(("plane.example".into(), 7400)));
        assert_eq!(read("https://10.0.0.1:7500/"), Some(("10.0.0.1".into(), 7500)));
        assert_eq!(read("https://[::1]:1"), Some(("::1".into(), 1)));
        let odd = [
            "plane.example",
            "http://plane.example",
            "https://",
            "https://a/v1",
            "https://u:p@a",
            "https://a:99999",
            "ftp://a",
        ];
        let said: String = odd.iter().map(|url| address(url).unwrap_err().text(Style::Plain)).collect();
        insta::assert_snapshot!(said);
    }

    #[test]
    fn a_token_is_read_where_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let options = Options { token_file: Some(path.clone()), ..Options::default() };
            options.token().map_err(|failure| failure.text(Style::Plain))
        };
        assert_eq!(read("embot_1\n", 0o600), Ok(Some("embot_1".to_owned())));
        assert!(read("embot_1\n", 0o644).unwrap_err().contains("chmod 600"));
        assert!(read("embot_1\nembot_2\n", 0o600).unwrap_err().contains("in one line"));
        assert!(read("\n", 0o600).is_err());
    }
}
