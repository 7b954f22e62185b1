//! Certificates for tests, by the `openssl` command: an authority, and what it signs for this machine.
//! Nothing of them is kept, and each authority is another one.

use std::path::Path;
use std::process::Command;

use super::unique;

/// Valid for client and server, by name and by address.
const LEAF: &str = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = localhost\n[ext]\n\
    basicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth, clientAuth\n\
    subjectAltName = DNS:localhost, IP:127.0.0.1\n";

/// One that may sign. Its key, and each key it certifies, is an elliptic one, which takes no time.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    /// Its certificate.
    pub(crate) pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[req]\ndistinguished_name = name\nprompt = no\nx509_extensions = ext\n[name]\nCN = {}\n\
             [ext]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n",
            unique("authority")
        );
        std::fs::write(folder.path().join("ca.conf"), config).unwrap();
        std::fs::write(folder.path().join("leaf.conf"), LEAF).unwrap();
        let command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -config ca.conf -keyout ca.key -out ca.pem";
        openssl(folder.path(), command);
        let pem = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap();
        Self { folder, pem }
    }

    /// A new certificate for `localhost` and 127.0.0.1.
    pub(crate) fn issue(&self) -> Issued {
        let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config leaf.conf \
            -keyout leaf.key -out leaf.csr";
        openssl(self.folder.path(), request);
        let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile leaf.conf -extensions ext -out leaf.pem";
        openssl(self.folder.path(), sign);
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        Issued {
            certificate: read("leaf.pem"),
            key: read("leaf.key"),
        }
    }
}

/// Whether this is the end of one that was issued now, in Unix seconds.
pub(crate) fn ends_within_two_days(ends: u64) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let left = ends.saturating_sub(now.unwrap().as_secs());
    (1..=2 * 24 * 3600).contains(&left)
}

fn openssl(folder: &Path, command: &str) {
    let output = Command::new("openssl")
        .args(command.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the `openssl` command; .ci/run installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {command}: {said}");
}
