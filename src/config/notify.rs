//! `notify`: where notifications go beside the log.

use super::{Check, Config};
use crate::effectors::{ChannelSettings, MailSettings, MailTls, WebhookSettings, is_mailbox};
use crate::model::Span;
use crate::yaml::{Key, Shape};
use std::path::{Path, PathBuf};

/// What `notify` may contain.
pub(super) const SHAPE: Shape = Shape::List(&Shape::Keys(&[
    Key::required("name", Shape::Name).like("ops"),
    Key::optional("level", Shape::OneOf(&["info", "warning", "alarm"])),
    Key::optional("rate", Shape::Keys(&[Key::required("messages", Shape::Whole), Key::required("per", Shape::Span)])),
    Key::optional(
        "webhook",
        Shape::Keys(&[
            Key::required("url", Shape::Text).like("https://chat.example/hooks/embot"),
            Key::optional("token_file", Shape::Text).like("secrets/chat.token"),
            Key::optional("ca", Shape::Text).like("tls/ca.crt"),
        ]),
    ),
    Key::optional(
        "mail",
        Shape::Keys(&[
            Key::required("server", Shape::Text).like("mail.example"),
            Key::optional("tls", Shape::OneOf(&["starttls", "wrapped", "off"])),
            Key::required("from", Shape::Text).like("embot@example.org"),
            Key::required("to", Shape::List(&Shape::Text)).like("[ops@example.org]"),
            Key::optional("user", Shape::Text).like("embot"),
            Key::optional("password_file", Shape::Text).like("secrets/mail.password"),
            Key::optional("ca", Shape::Text).like("tls/ca.crt"),
        ]),
    ),
]));

impl Config {
    /// Paths of channels start at the configuration file.
    pub(super) fn place_notify(&mut self, base: &Path) {
        let place = |path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                *path = base.join(&*path);
            }
        };
        for channel in &mut self.notify {
            if let Some(webhook) = &mut channel.webhook {
                place(&mut webhook.token_file);
                place(&mut webhook.ca);
            }
            if let Some(mail) = &mut channel.mail {
                place(&mut mail.password_file);
                place(&mut mail.ca);
            }
        }
    }

    pub(super) fn check_notify(&self, check: &mut Check<'_>) {
        for (index, channel) in self.notify.iter().enumerate() {
            let number = index.to_string();
            if self.notify[..index].iter().any(|other| other.name == channel.name) {
                let error =
                    check.document.error(&["notify", &number, "name"], format!("two channels are called `{}`", channel.name));
                check.found.push(error.with_hint("messages about a channel name it, so its name must be its own"));
            }
            let ChannelSettings { rate, webhook, mail, .. } = channel;
            let one = webhook.is_some() != mail.is_some();
            let hint = "write `webhook: { url: ... }` or `mail: { server: ..., from: ..., to: [...] }`; two channels for both";
            check.must(one, &["notify", &number], "needs one of `webhook` and `mail`", hint);
            let hint = "raise `level` to hear less, or remove the channel";
            check.must(rate.messages > 0, &["notify", &number, "rate", "messages"], "must be at least 1", hint);
            check.must(rate.per > Span::ZERO, &["notify", &number, "rate", "per"], "must be above 0", "write for example `1h`");
            if let Some(webhook) = webhook {
                check.webhook(&number, webhook);
            }
            if let Some(mail) = mail {
                check.mail(&number, mail);
            }
        }
    }
}

impl Check<'_> {
    fn webhook(&mut self, number: &str, webhook: &WebhookSettings) {
        let at = |key| ["notify", number, "webhook", key];
        let plain = webhook.url.starts_with("http://");
        let known = plain || webhook.url.starts_with("https://");
        self.must(
            known,
            &at("url"),
            "is no web address",
            "write the whole address, for example `https://chat.example/hooks/embot`",
        );
        let secret = !plain || webhook.token_file.is_none();
        self.must(secret, &at("url"), "would carry the token in the open", "write `https://`, or remove `token_file`");
    }

    fn mail(&mut self, number: &str, mail: &MailSettings) {
        let at = |key| ["notify", number, "mail", key];
        if let Err(what) = mail.address() {
            self.must(false, &at("server"), &what, "write for example `mail.example` or `mail.example:587`");
        }
        let hint = "write for example `embot@example.org`";
        self.must(is_mailbox(&mail.from), &at("from"), "is no mail address", hint);
        let known = !mail.to.is_empty() && mail.to.iter().all(|to| is_mailbox(to));
        self.must(known, &at("to"), "must list mail addresses", "write for example `[ops@example.org]`");
        let both = mail.user.is_some() == mail.password_file.is_some();
        self.must(both, &at("user"), "goes with `password_file`", "write both to log in, or neither");
        let private = mail.tls != MailTls::Off || mail.user.is_none();
        self.must(private, &at("tls"), "would send the password in the open", "write `starttls` or `wrapped`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Diagnostic, Style, render};
    use crate::model::Level;

    fn read(text: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::read("plane.yaml", text, Path::new("/etc/embot"))
    }

    #[test]
    fn channels_are_read_with_their_defaults() {
        let text = "plane: home\nfleet: demo\nnotify:\n  - { name: chat, webhook: { url: 'https://chat.example/x', token_file: chat.token } }\n  - \
                    name: ops\n    level: alarm\n    rate: { messages: 3, per: 10m }\n    mail: { server: 'mail.example:2525', from: 'embot <embot@example.org>', to: [ops@example.org] }\n";
        let config = read(text).unwrap();
        let [chat, ops] = &config.notify[..] else { panic!("{:?}", config.notify) };
        assert_eq!((chat.level, chat.rate.messages, chat.rate.per), (Level::Warning, 20, Span::hours(1)));
        assert_eq!(chat.webhook.as_ref().unwrap().token_file.as_deref(), Some(Path::new("/etc/embot/chat.token")));
        assert_eq!((ops.level, ops.rate.messages), (Level::Alarm, 3));
        assert_eq!(ops.mail.as_ref().unwrap().address(), Ok(("mail.example", 2525)));
        // What is in force can be written and read again.
        assert_eq!(read(&config.effective()).unwrap().notify, config.notify);
    }

    #[test]
    fn what_cannot_work_is_told() {
        let text = "plane: home\nfleet: demo\nnotify:\n  - { name: a, level: loud }\n";
        let mut said: Vec<Diagnostic> = read(text).unwrap_err();
        let text = "plane: home\nfleet: demo\nnotify:\n  - { name: a }\n  - { name: a, rate: { messages: 0, per: 0s }, webhook: { url: chat.example } }\n  - { name: \
                    b, webhook: { url: 'http://chat.example', token_file: t } }\n  - { name: c, mail: { server: 'mail.example:smtp', from: nobody, to: [], user: x, tls: off } }\n";
        said.extend(read(text).unwrap_err());
        let said: Vec<String> = said.iter().map(|complaint| render(complaint, None, Style::Plain)).collect();
        insta::assert_snapshot!(said.join("\n"));
    }
}
