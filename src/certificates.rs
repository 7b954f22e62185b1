//! When the certificates that the configuration names expire: for `check`, and for a metric.
//!
//! The only file, with its submodule, that names the parser of X.509. It reads the files anew at each question, so that a
//! rotated one counts at once. It validates no chain.

pub mod served;

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::{Config, SinkConfig};

/// What the certificates of a file are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whom we trust: the file is of use as long as one of them is valid, so an old authority beside its
    /// successor expires unnoticed.
    Authorities,
    /// Who we are: certificate and intermediates, of no use once one of them has expired.
    Own,
}

/// The expiry of a file that is of no use at all: long ago, and not the 0 of no file.
const UNREADABLE: u64 = 1;

/// A file of certificates in PEM form.
#[derive(Clone, Debug)]
pub struct CertificateFile {
    /// Where the configuration names it.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What for.
    pub role: Role,
}

/// Why a file of certificates is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Make it readable for this user, or name another.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Give a file in PEM form, with `BEGIN CERTIFICATE`.
    #[error("holds no certificate in PEM form")]
    NoCertificate,
}

impl CertificateFile {
    /// Unix time in seconds from which on the file is of no use.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn expiry(&self) -> Result<u64, CertificateError> {
        let content = std::fs::read(&self.path).map_err(CertificateError::Unreadable)?;
        expiry(&content, self.role).ok_or(CertificateError::NoCertificate)
    }
}

fn expiry(content: &[u8], role: Role) -> Option<u64> {
    let found = CertificateDer::pem_slice_iter(content)
        .filter_map(|found: Result<_, pem::Error>| not_after(&found.ok()?));
    match role {
        Role::Authorities => found.max(),
        Role::Own => found.min(),
    }
}

/// When this certificate ends, in Unix seconds.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let validity = parsed.tbs_certificate.validity;
    Some(validity.not_after.to_unix_duration().as_secs())
}

/// The first expiry of all these files, in Unix seconds, and 1 where one cannot be read, so that
/// an alert of an old certificate does not end because its successor is a broken file. `None` without files.
pub fn first_expiry(files: &[CertificateFile]) -> Option<u64> {
    let ends = files.iter().map(|file| file.expiry().unwrap_or(UNREADABLE));
    ends.min()
}

/// The files for the way to the vendor: feed and list.
pub fn of_vendor(config: &Config) -> Vec<CertificateFile> {
    let files = [
        ("feed.ca_file", &config.feed.ca_file),
        ("reconcile.ca_file", &config.reconcile.ca_file),
    ];
    let given = files
        .into_iter()
        .filter_map(|(key, path)| Some((key.to_owned(), path.clone()?, Role::Authorities)));
    given.map(named).collect()
}

/// The files of a sink.
pub fn of_sink(config: &SinkConfig) -> Vec<CertificateFile> {
    let files: Vec<(String, PathBuf, Role)> = match config {
        SinkConfig::Kafka(kafka) => {
            let options = [
                ("ssl.ca.pem_file", Role::Authorities),
                ("ssl.ca.location", Role::Authorities),
                ("ssl.certificate.pem_file", Role::Own),
                ("ssl.certificate.location", Role::Own),
            ];
            let given = options.into_iter().filter_map(|(option, role)| {
                let path = kafka.options.get(option)?.as_str()?;
                // A folder of authorities is for OpenSSL to search, and `probe` for librdkafka.
                (path != "probe" && !Path::new(path).is_dir())
                    .then(|| (format!("options.{option}"), path.into(), role))
            });
            given.collect()
        }
        SinkConfig::Nats(nats) => {
            let options = [
                ("ca_file", &nats.ca_file, Role::Authorities),
                ("client_cert_file", &nats.client_cert_file, Role::Own),
            ];
            let given = options
                .into_iter()
                .filter_map(|(option, path, role)| Some((option.to_owned(), path.clone()?, role)));
            given.collect()
        }
        SinkConfig::File(_) => Vec::new(),
    };
    files.into_iter().map(named).collect()
}

fn named((key, path, role): (String, PathBuf, Role)) -> CertificateFile {
    CertificateFile { key, path, role }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two invented authorities, made by `openssl req -x509 -newkey ed25519 -days N -subj /CN=one`; they
    /// end at these times.
    const ONE: &str = include_str!("certificates/one.pem");
    const TWO: &str = include_str!("certificates/two.pem");
    const ONE_ENDS: u64 = 2_054_899_688;
    const TWO_ENDS: u64 = 2_573_299_688;

    #[test]
    fn authorities_end_with_the_last_of_them_and_our_own_certificates_with_the_first() {
        let both = format!("# of one\n{ONE}\n# and of another\n{TWO}");
        assert_eq!(expiry(ONE.as_bytes(), Role::Own), Some(ONE_ENDS));
        assert_eq!(expiry(both.as_bytes(), Role::Authorities), Some(TWO_ENDS));
        assert_eq!(expiry(both.as_bytes(), Role::Own), Some(ONE_ENDS));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for content in [
            "",
            "nothing",
            &ONE.replace("CERTIFICATE", "PUBLIC KEY"),
            &ONE.chars().take(120).collect::<String>(),
        ] {
            assert_eq!(expiry(content.as_bytes(), Role::Own), None, "{content}");
        }
        let absent = named((
            "ca_file".to_owned(),
            "/nonexistent/ca".into(),
            Role::Authorities,
        ));
        assert!(matches!(
            absent.expiry(),
            Err(CertificateError::Unreadable(_))
        ));
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/certificates");
        let good = named((
            "ca_file".to_owned(),
            folder.join("one.pem"),
            Role::Authorities,
        ));
        assert_eq!(first_expiry(std::slice::from_ref(&good)), Some(ONE_ENDS));
        assert_eq!(first_expiry(&[good, absent]), Some(UNREADABLE));
        assert_eq!(first_expiry(&[]), None);
    }

    #[test]
    fn each_sinks_files_are_known_by_the_names_of_their_options() {
        let of = |yaml: &str| -> Vec<String> {
            let sink: SinkConfig = serde_norway::from_str(yaml).unwrap();
            of_sink(&sink).into_iter().map(|file| file.key).collect()
        };
        let kafka = of(
            "{type: kafka, name: k, brokers: [b], topic: t, options: {ssl.ca.location: /,
            ssl.ca.pem_file: /a, ssl.certificate.pem_file: /b, ssl.key.pem_file: /c}}",
        );
        assert_eq!(
            kafka,
            [
                "options.ssl.ca.pem_file",
                "options.ssl.certificate.pem_file"
            ]
        );
        let nats = of(
            "{type: nats, name: n, url: u, stream: S, subject_prefix: p, ca_file: /a,
            client_cert_file: /b, client_key_file: /c}",
        );
        assert_eq!(nats, ["ca_file", "client_cert_file"]);
        assert!(of("{type: file, name: f, path: /f}").is_empty());
    }
}
