//! Notifications as JSON, POSTed to a web address: chat rooms, pagers, whatever takes incoming webhooks.

use super::channel::{Carrier, Message, Undelivered};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// A delivery may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer that refuses, so many characters are told.
const TOLD: usize = 200;

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The address: `https://...`, or `http://...` where nothing is secret.
    pub url: Arc<str>,
    /// A file with a token, sent as `Authorization: Bearer`. Read anew for each delivery.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that vouch for the address, in place of those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// What is POSTed. `text` alone is what chat rooms show; the rest is for programs.
#[derive(Serialize)]
struct Body<'a> {
    text: String,
    plane: &'a str,
    key: String,
    level: &'a str,
    message: &'a str,
    embot: Option<&'a str>,
    action: Option<u64>,
    /// In the form of RFC 3339.
    at: String,
}

/// A webhook at work.
pub(super) struct Webhook {
    settings: WebhookSettings,
    agent: Option<ureq::Agent>,
}

impl Webhook {
    pub fn new(settings: WebhookSettings) -> Webhook {
        Webhook { settings, agent: None }
    }

    fn agent(&mut self) -> Result<ureq::Agent, Undelivered> {
        if let Some(agent) = &self.agent {
            return Ok(agent.clone());
        }
        let roots = match &self.settings.ca {
            None => RootCerts::PlatformVerifier,
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // A token is for this address, and for no other that it may point to.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("embot/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Ok(self.agent.insert(config.new_agent()).clone())
    }
}

fn unread(path: &Path, why: impl std::fmt::Display) -> Undelivered {
    // Somebody may put it right while it is tried again.
    Undelivered { why: format!("{} cannot be read: {why}", path.display()), may_pass: true }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Undelivered> {
    let pem = std::fs::read(path).map_err(|error| unread(path, error))?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unread(path, error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(unread(path, "it holds no certificate")) } else { Ok(found) }
}

/// A secret's file, without the line break at its end.
pub(super) fn secret(path: &Path) -> Result<String, Undelivered> {
    let text = std::fs::read_to_string(path).map_err(|error| unread(path, error))?;
    Ok(text.trim_end().to_owned())
}

impl Carrier for Webhook {
    fn deliver(&mut self, message: &Message) -> Result<(), Undelivered> {
        let key = format!("{}-{}", message.plane, message.key);
        let body = Body {
            text: format!("[{}] {}: {}", message.plane, message.word(), message.text),
            plane: &message.plane,
            key: key.clone(),
            level: &message.word().to_ascii_lowercase(),
            message: &message.text,
            embot: message.embot.as_deref(),
            action: message.action.map(|action| action.0),
            at: super::rfc_3339(message.at),
        };
        let mut request = self.agent()?.post(&*self.settings.url).header("Idempotency-Key", &key);
        if let Some(path) = &self.settings.token_file {
            request = request.header("Authorization", format!("Bearer {}", secret(path)?));
        }
        // Addresses of webhooks are secrets as a rule, so errors name the channel only.
        let away = |error: ureq::Error| Undelivered { why: format!("the webhook does not answer: {error}"), may_pass: true };
        let mut response = request.send_json(&body).map_err(away)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said = response.body_mut().with_config().limit(64 * 1_024).lossy_utf8(true).read_to_string().unwrap_or_default();
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TOLD).collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        Err(Undelivered { why: format!("the webhook answers {status}{said}"), may_pass })
    }
}
