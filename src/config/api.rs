//! `api`: the API on the network.

use super::listen::has_port;
use super::{Check, Config};
use crate::yaml::{Key, Shape};
use std::path::Path;

/// What `api` may contain.
pub(super) const SHAPE: Shape = Shape::Keys(&[
    Key::required("listen", Shape::Text).like("\"0.0.0.0:7400\""),
    Key::required("certificate", Shape::Text).like("tls/plane.crt"),
    Key::required("key", Shape::Text).like("tls/plane.key"),
    Key::optional("tokens", Shape::Text).like("tokens.json"),
]);

impl Config {
    /// Paths of the API start at the configuration file.
    pub(super) fn place_api(&mut self, base: &Path) {
        let Some(api) = &mut self.api else { return };
        for path in [&mut api.certificate, &mut api.key, &mut api.tokens] {
            *path = base.join(&*path);
        }
    }

    pub(super) fn check_api(&self, check: &mut Check<'_>) {
        let Some(api) = &self.api else { return };
        let listens = has_port(&api.listen);
        check.must(listens, &["api", "listen"], "is not an address with a port", "write for example `0.0.0.0:7400`");
        let hint = "write the path of the file; `embot pki issue PLANE --name HOST` makes both";
        for (key, path) in [("certificate", &api.certificate), ("key", &api.key)] {
            check.must(!path.as_os_str().is_empty(), &["api", key], "is empty", hint);
        }
        let hint = "write a path, or remove the key for `tokens.json`";
        check.must(!api.tokens.as_os_str().is_empty(), &["api", "tokens"], "is empty", hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnostic;

    fn read(rest: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::read("plane.yaml", &format!("plane: home\nfleet: demo\n{rest}"), Path::new("/etc/embot"))
    }

    #[test]
    fn paths_start_at_the_configuration() {
        let api = read("api: { listen: '[::]:7400', certificate: tls/a.crt, key: /keys/a.key }\n").unwrap().api.unwrap();
        assert_eq!(api.certificate, Path::new("/etc/embot/tls/a.crt"));
        assert_eq!(api.key, Path::new("/keys/a.key"));
        assert_eq!(api.tokens, Path::new("/etc/embot/tokens.json"));
        assert!(read("").unwrap().api.is_none());
    }

    #[test]
    fn complaints_about_the_api_name_their_place() {
        let texts = [
            "api: { listen: here }\n",
            "api: { listen: here, certificate: a, key: '', tokens: '' }\n",
            "api: { listen: '0.0.0.0:7400', certificate: a, key: b, token: c }\n",
            "api: { listen: 'a:7400', certificate: a, key: b }\nlink: { listen: 'a:7400', certificate: a, key: b, ca: c }\n",
            "api: { listen: '0.0.0.0:7410', certificate: a, key: b }\nmetrics: {}\n",
        ];
        let all: Vec<String> =
            texts.iter().map(|text| read(text).unwrap_err().iter().map(|one| format!("{one}\n")).collect()).collect();
        insta::assert_snapshot!(all.join("---\n"));
    }
}
