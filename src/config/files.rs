//! The files that a configuration names, each after its key. It opens none of them.

use std::path::PathBuf;

use serde_json::Value;

use super::Config;
use super::sinks::FILE_ENDS;

/// Parts of the keys of files that everybody may read.
const PUBLIC: [&str; 6] = [
    "ca_file",
    "ssl.ca.",
    "ssl.crl.",
    "certificate",
    "cert_file",
    "recipients",
];

/// A file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Its key, such as `sinks[0].options.sasl.password_file`.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// Whether it holds what nobody else may read.
    pub is_secret: bool,
}

/// Each of them, in the order of their keys.
pub fn files(config: &Config) -> Vec<NamedFile> {
    let mut found = Vec::new();
    let value = serde_json::to_value(config).expect("a configuration has only string keys");
    walk(&value, "", false, &mut found);
    found
}

fn walk(value: &Value, key: &str, is_file: bool, found: &mut Vec<NamedFile>) {
    match value {
        // librdkafka looks for the authorities of the system itself.
        Value::String(path) if is_file && path != "probe" => found.push(NamedFile {
            key: key.to_owned(),
            path: path.into(),
            is_secret: !PUBLIC.iter().any(|part| key.contains(part)),
        }),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{key}[{index}]"), is_file, found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let inner = match key {
                    "" => name.clone(),
                    _ => format!("{key}.{name}"),
                };
                let is_file =
                    FILE_ENDS.iter().any(|end| name.ends_with(end)) || name.ends_with("_files");
                walk(value, &inner, is_file, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_after_its_key_and_certificates_are_no_secrets() {
        let yaml = "
feed: {api_key_file: /a, ca_file: /b, proxy: {url: 'http://p', user: u, password_file: /c}}
journal: {encryption_key_file: /d, old_encryption_key_files: [/e]}
privacy: {token_recipients_file: /f, hmac_key_file: /g}
sinks:
  - {name: k, type: kafka, brokers: [b], topic: t, options: {ssl.ca.location: /h, sasl.password_file: /i, ssl.key.location: /j, linger.ms: 5}}
  - {name: n, type: nats, url: 'tls://n', stream: S, subject_prefix: p, client_cert_file: /k, client_key_file: /l}
  - {name: k, type: kafka, brokers: [b], topic: t, options: {ssl.ca.location: probe}}
  - {name: f, type: file, path: /m}
";
        let config: Config = serde_norway::from_str(yaml).unwrap();
        let mut found: Vec<_> = files(&config)
            .into_iter()
            .map(|file| (file.path.display().to_string(), file.key, file.is_secret))
            .collect();
        found.sort();
        let wanted = [
            ("/a", "feed.api_key_file", true),
            ("/b", "feed.ca_file", false),
            ("/c", "feed.proxy.password_file", true),
            ("/d", "journal.encryption_key_file", true),
            ("/e", "journal.old_encryption_key_files[0]", true),
            ("/f", "privacy.token_recipients_file", false),
            ("/g", "privacy.hmac_key_file", true),
            ("/h", "sinks[0].options.ssl.ca.location", false),
            ("/i", "sinks[0].options.sasl.password_file", true),
            ("/j", "sinks[0].options.ssl.key.location", true),
            ("/k", "sinks[1].client_cert_file", false),
            ("/l", "sinks[1].client_key_file", true),
        ];
        let wanted = wanted.map(|(path, key, secret)| (path.to_owned(), key.to_owned(), secret));
        assert_eq!(found, wanted);
    }
}
