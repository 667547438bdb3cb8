//! The files that a configuration names: are they there, can they be read, and are secrets nobody else's business?

use super::{Check, Config, SHAPE};
use crate::error::Diagnostic;
use crate::yaml;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// What everybody may know.
    Public,
    /// A secret.
    Secret,
    /// Secrets that the plane keeps there by itself: it makes the file with the first.
    Kept,
}

/// A file, and where in the configuration it is named.
type Named<'a> = (Vec<&'a str>, &'a Path, Holds);

impl Config {
    /// Looks at the files that this configuration, which was loaded from `path`, names for the API, the link and the channels.
    pub fn file_complaints(&self, path: &Path) -> Vec<Diagnostic> {
        let file = path.display().to_string();
        let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
        let Ok((_, document)) = yaml::read::<Config>(&file, &text, &SHAPE) else { return Vec::new() };
        let numbers: Vec<String> = (0..self.notify.len()).map(|number| number.to_string()).collect();
        let mut check = Check { document: &document, found: Vec::new() };
        self.named_files(&numbers).into_iter().for_each(|named| check.file(named));
        check.found
    }

    fn named_files<'a>(&'a self, numbers: &'a [String]) -> Vec<Named<'a>> {
        let mut named: Vec<Named<'a>> = Vec::new();
        if let Some(api) = &self.api {
            named.push((vec!["api", "certificate"], &api.certificate, Holds::Public));
            named.push((vec!["api", "key"], &api.key, Holds::Secret));
            named.push((vec!["api", "tokens"], &api.tokens, Holds::Kept));
        }
        if let Some(link) = &self.link {
            named.push((vec!["link", "certificate"], &link.certificate, Holds::Public));
            named.push((vec!["link", "key"], &link.key, Holds::Secret));
            named.push((vec!["link", "ca"], &link.ca, Holds::Public));
            named.extend(link.crl.iter().map(|crl| (vec!["link", "crl"], &**crl, Holds::Public)));
        }
        for (number, channel) in numbers.iter().zip(&self.notify) {
            let mut add = |kind, key, path: &'a Option<std::path::PathBuf>, holds| {
                named.extend(path.iter().map(|path| (vec!["notify", number.as_str(), kind, key], &**path, holds)));
            };
            if let Some(webhook) = &channel.webhook {
                add("webhook", "token_file", &webhook.token_file, Holds::Secret);
                add("webhook", "ca", &webhook.ca, Holds::Public);
            }
            if let Some(mail) = &channel.mail {
                add("mail", "password_file", &mail.password_file, Holds::Secret);
                add("mail", "ca", &mail.ca, Holds::Public);
            }
        }
        named
    }
}

impl Check<'_> {
    fn file(&mut self, (key, path, holds): Named<'_>) {
        let shown = path.display();
        let hint = match key[0] {
            "notify" => "put it there, or name the file that holds it",
            _ => "name the file that holds it; `embot pki issue PLANE --name HOST` makes certificates and keys",
        };
        match File::open(path).and_then(|file| file.metadata()) {
            Ok(found) if !found.is_file() => self.must(false, &key, &format!("names {shown}, which is no file"), hint),
            Ok(found) => self.secret(&key, path, holds, &found),
            Err(error) if error.kind() == io::ErrorKind::NotFound && holds == Holds::Kept => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let hint = "check as the user that the plane runs as; where that is you, change the file's mode or owner";
                self.must(false, &key, &format!("names {shown}, which you may not read"), hint);
                // Whoever checks need not be the plane's user.
                let complaint = self.found.pop().map(Diagnostic::as_warning);
                self.found.extend(complaint);
            }
            Err(error) => self.must(false, &key, &format!("names {shown}, which cannot be read: {error}"), hint),
        }
    }

    fn secret(&mut self, key: &[&str], path: &Path, holds: Holds, found: &Metadata) {
        let mode = found.permissions().mode() & 0o777;
        let open = match holds {
            Holds::Public => 0,
            Holds::Secret => mode & 0o007,
            Holds::Kept => mode & 0o077,
        };
        let what = format!("names {}, which others may use (mode {mode:03o})", path.display());
        self.must(open == 0, key, &what, &format!("`chmod 600 {}`", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_that_are_missing_or_open_to_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = |name: &str, mode: u32| {
            fs::write(path(name), "x").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        for (name, mode) in
            [("good.crt", 0o644), ("good.key", 0o640), ("open.key", 0o644), ("open.json", 0o640), ("secret", 0o600)]
        {
            file(name, mode);
        }
        fs::create_dir(path("folder")).unwrap();
        let told = |rest: &str| {
            fs::write(path("plane.yaml"), format!("plane: home\nfleet: demo\n{rest}")).unwrap();
            let found = Config::load(&path("plane.yaml")).unwrap().file_complaints(&path("plane.yaml"));
            let text: String = found.iter().map(|one| format!("{one}\n")).collect();
            text.replace(&folder.path().display().to_string(), "FOLDER")
        };
        assert_eq!(told("api: { listen: '127.0.0.1:1', certificate: good.crt, key: good.key }\n"), "");
        assert_eq!(told("notify: [{ name: a, webhook: { url: 'https://a.example', token_file: secret } }]\n"), "");
        let all = [
            told("api: { listen: '127.0.0.1:1', certificate: none.crt, key: open.key, tokens: open.json }\n"),
            told("link: { certificate: folder, key: good.key, ca: none.crt, crl: good.crt }\n"),
            told(
                "notify:\n  - { name: a, webhook: { url: 'https://a.example', token_file: none, ca: good.crt } }\n  - name: b\n    mail: { server: mail.example, from: a@b.example, to: [a@b.example], user: a, password_file: open.key }\n",
            ),
        ];
        insta::assert_snapshot!(all.join("---\n"));
    }
}
