//! Notifications by mail, handed to an SMTP server.

use super::channel::{Carrier, Message, Undelivered};
use super::webhook::secret;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Each exchange with the server may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A subject line is cut after so many characters.
const SUBJECT: usize = 120;

/// How the connection to the mail server is kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// It begins in the open and must change to TLS before anything is said (port 587).
    #[default]
    Starttls,
    /// TLS from the first byte (port 465).
    Wrapped,
    /// Not at all: for a server on this machine (port 25).
    Off,
}

/// How mail is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// The SMTP server: `mail.example` or `mail.example:2525`.
    pub server: Arc<str>,
    /// How the connection is kept private.
    #[serde(default)]
    pub tls: MailTls,
    /// The sender.
    pub from: Arc<str>,
    /// The receivers.
    pub to: Vec<Arc<str>>,
    /// The name to log in with; without it, nobody logs in.
    #[serde(default)]
    pub user: Option<Arc<str>>,
    /// A file with the password. Read anew for each delivery.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that vouch for the server, in place of those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl MailSettings {
    /// The server's name and port.
    pub fn address(&self) -> Result<(&str, u16), String> {
        let usual = match self.tls {
            MailTls::Starttls => 587,
            MailTls::Wrapped => 465,
            MailTls::Off => 25,
        };
        match self.server.rsplit_once(':') {
            _ if self.server.is_empty() => Err("is empty".to_owned()),
            None => Ok((&self.server, usual)),
            Some((host, port)) if !host.is_empty() => {
                port.parse().map(|port| (host, port)).map_err(|_| format!("has no port after the colon, but `{port}`"))
            }
            Some(_) => Err("names no server".to_owned()),
        }
    }
}

/// Is this the address of a mailbox, with or without a name before it?
pub fn is_mailbox(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

/// Mail at work. Each message has a connection of its own: they are few, and servers close idle ones.
pub(super) struct Mail {
    settings: MailSettings,
}

impl Mail {
    pub fn new(settings: MailSettings) -> Mail {
        Mail { settings }
    }

    fn transport(&self) -> Result<SmtpTransport, Undelivered> {
        let wrong = |why: String| Undelivered { why, may_pass: false };
        let (host, port) = self.settings.address().map_err(|why| wrong(format!("the mail server's address {why}")))?;
        let mut tls = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.settings.ca {
            let unread = |why: String| wrong(format!("{} cannot be read: {why}", path.display()));
            let pem = std::fs::read(path).map_err(|error| unread(error.to_string()))?;
            let ca = Certificate::from_pem(&pem).map_err(|error| unread(error.to_string()))?;
            tls = tls.certificate_store(CertificateStore::None).add_root_certificate(ca);
        }
        let tls = || tls.build_rustls().map_err(|error| wrong(format!("TLS to the mail server is not possible: {error}")));
        let tls = match self.settings.tls {
            MailTls::Starttls => Tls::Required(tls()?),
            MailTls::Wrapped => Tls::Wrapper(tls()?),
            MailTls::Off => Tls::None,
        };
        let mut builder = SmtpTransport::builder_dangerous(host).port(port).tls(tls).timeout(Some(TIMEOUT));
        if let (Some(user), Some(path)) = (&self.settings.user, &self.settings.password_file) {
            builder = builder.credentials(Credentials::new(user.to_string(), secret(path)?));
        }
        Ok(builder.build())
    }

    fn letter(&self, message: &Message) -> Result<lettre::Message, Undelivered> {
        let wrong =
            |what: &str, error: &dyn std::fmt::Display| Undelivered { why: format!("{what}: {error}"), may_pass: false };
        let mailbox =
            |text: &str| text.parse::<Mailbox>().map_err(|error| wrong(&format!("`{text}` is no mail address"), &error));
        let head = format!("[embot {}] {}: {}", message.plane, message.word(), message.text);
        let subject: String = head.lines().next().unwrap_or_default().chars().take(SUBJECT).collect();
        let mut body = format!("{}\n\nplane   {}\n", message.text, message.plane);
        if let Some(embot) = &message.embot {
            body += &format!("embot   {embot}\n");
        }
        if let Some(action) = message.action {
            body += &format!("action  {action}: `embot explain {action}` tells why\n");
        }
        let millis = u64::try_from(message.at.0).unwrap_or_default();
        let from = mailbox(&self.settings.from)?;
        let id = format!("<embot.{}.{}@{}>", message.plane, message.key, from.email.domain());
        let mut letter = lettre::Message::builder()
            .from(from)
            .subject(subject)
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
            .message_id(Some(id))
            .header(header::ContentType::TEXT_PLAIN);
        for to in &self.settings.to {
            letter = letter.to(mailbox(to)?);
        }
        letter.body(body).map_err(|error| wrong("the mail cannot be written", &error))
    }
}

impl Carrier for Mail {
    fn deliver(&mut self, message: &Message) -> Result<(), Undelivered> {
        let letter = self.letter(message)?;
        match self.transport()?.send(&letter) {
            Ok(_) => Ok(()),
            Err(error) => {
                let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
                let why = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
                Err(Undelivered { why: format!("the mail server: {why}"), may_pass: !error.is_permanent() })
            }
        }
    }
}
