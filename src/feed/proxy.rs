//! The way to the vendor through an HTTP proxy: one `CONNECT` (RFC 9110 §9.3.6), after which the
//! connection is as if it were the vendor's own.
//!
//! It knows nothing of what goes through, and never says a password. What a proxy does says nothing of
//! the vendor: it never counts as the vendor's limit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;

use super::{LostReason, secret_in};
use crate::config::ProxyConfig;

/// A longer answer to `CONNECT` is none.
const ANSWER_MAX: usize = 16 * 1024;

/// What a proxy answers to a wrong login: 407 by the book, 401 for instance tinyproxy.
pub const LOGIN: [u16; 2] = [407, 401];

/// Why there is no way through the proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The password cannot be read.
    #[error("`feed.proxy.password_file`: {0}; make it readable for this process")]
    Secret(std::io::Error),
    /// It wants another login, or one at all.
    #[error(
        "the proxy {0} refuses the login; check `feed.proxy.user` and `feed.proxy.password_file`"
    )]
    Login(String),
    /// No connection to it, or no answer.
    #[error("cannot reach the proxy {proxy}: {reason}; check `feed.proxy.url` and the network")]
    Unreachable {
        /// Its address.
        proxy: String,
        /// What was seen.
        reason: String,
    },
    /// It does not connect to the vendor.
    #[error("the proxy {proxy} does not connect to {target}: {answer}; it must allow that")]
    Refused {
        /// Its address.
        proxy: String,
        /// `host:port` of the vendor.
        target: String,
        /// Its status.
        answer: String,
    },
}

impl ProxyError {
    /// Whether an operator must mend something of ours before another try can do better.
    pub const fn is_credential(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Login(_))
    }
}

impl From<ProxyError> for super::socket::Failed {
    fn from(error: ProxyError) -> Self {
        let reason = match error.is_credential() {
            true => LostReason::Credential,
            false => LostReason::Unreachable,
        };
        (reason, error.to_string())
    }
}

/// A proxy as it is to be asked now.
#[derive(Debug)]
pub struct Way {
    /// For people.
    pub url: String,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// With what to log in there.
    pub login: Option<(String, SecretString)>,
}

impl Way {
    /// Reads the password anew, so that a rotated one needs no restart.
    ///
    /// # Errors
    /// [`ProxyError::Secret`], and [`ProxyError::Unreachable`] for what is no address.
    pub fn of(config: &ProxyConfig) -> Result<Self, ProxyError> {
        let uri: Result<Uri, _> = config.url.parse();
        let uri = uri.map_err(|error| ProxyError::Unreachable {
            proxy: config.url.clone(),
            reason: error.to_string(),
        })?;
        let login = match (&config.user, &config.password_file) {
            (Some(user), Some(path)) => {
                Some((user.clone(), secret_in(path).map_err(ProxyError::Secret)?))
            }
            _ => None,
        };
        Ok(Self {
            url: config.url.clone(),
            host: bare(uri.host().unwrap_or_default()),
            port: uri.port_u16().unwrap_or(80),
            login,
        })
    }

    /// A connection to `host` (without brackets) and `port` through the proxy; the caller bounds the time.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let target = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let answer = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.write_all(self.request(&target).as_bytes()).await?;
            let status = status(&mut stream).await?;
            std::io::Result::Ok((stream, status))
        };
        let (stream, status) = answer.await.map_err(|error| ProxyError::Unreachable {
            proxy: self.url.clone(),
            reason: error.to_string(),
        })?;
        match status {
            200..=299 => Ok(stream),
            status if LOGIN.contains(&status) => Err(ProxyError::Login(self.url.clone())),
            status => Err(ProxyError::Refused {
                proxy: self.url.clone(),
                target,
                answer: format!("it answered {status}"),
            }),
        }
    }

    fn request(&self, target: &str) -> String {
        let login = self
            .login
            .as_ref()
            .map_or_else(String::new, |(user, password)| {
                let both = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
                format!("Proxy-Authorization: Basic {both}\r\n")
            });
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n")
    }
}

/// A host as `connect` and TLS want it: without the brackets of IPv6.
pub(super) fn bare(host: &str) -> String {
    host.trim_matches(['[', ']']).to_owned()
}

/// The status of the answer, read to the end of its head and no byte further.
async fn status(stream: &mut TcpStream) -> std::io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_MAX {
            return Err(std::io::Error::other("its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split_ascii_whitespace();
    let version = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match words.next().map(str::parse) {
        Some(Ok(status)) if version => Ok(status),
        _ => Err(std::io::Error::other("it does not answer as an HTTP proxy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(more: &str) -> Result<Way, ProxyError> {
        let yaml = format!("{{url: 'http://[::1]:3128'{more}}}");
        Way::of(&serde_norway::from_str(&yaml).unwrap())
    }

    #[test]
    fn it_asks_for_host_and_port_and_logs_in_only_where_it_has_a_login() {
        let open = way("").unwrap();
        assert_eq!((open.host.as_str(), open.port), ("::1", 3128));
        assert_eq!(
            open.request("feed.example.test:443"),
            "CONNECT feed.example.test:443 HTTP/1.1\r\nHost: feed.example.test:443\r\n\r\n"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pass:word\n").unwrap();
        let login = format!(", user: bridge, password_file: {}", file.path().display());
        let request = way(&login).unwrap().request("h:1");
        assert!(
            request.contains("\r\nProxy-Authorization: Basic YnJpZGdlOnBhc3M6d29yZA==\r\n\r\n"),
            "{request}"
        );
    }

    #[test]
    fn a_password_that_cannot_be_read_is_told_with_its_file() {
        let error = way(", user: u, password_file: /nonexistent/p")
            .err()
            .unwrap();
        assert!(error.is_credential());
        let said = error.to_string();
        assert!(said.contains("`feed.proxy.password_file`") && said.contains("/nonexistent/p"));
    }

    /// What is said of a proxy that answers with this.
    async fn said_of(answer: &'static str) -> String {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", proxy.local_addr().unwrap());
        let answering = async {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(client.read_u8().await.unwrap());
            }
            client.write_all(answer.as_bytes()).await.unwrap();
        };
        let config = serde_norway::from_str(&format!("{{url: '{url}'}}")).unwrap();
        let way = Way::of(&config).unwrap();
        let (connected, ()) = tokio::join!(way.connect("h", 1), answering);
        connected.map_or_else(|error| error.to_string(), |_| "connected".to_owned())
    }

    #[tokio::test]
    async fn each_answer_of_a_proxy_says_what_to_do() {
        for (answer, words) in [
            (
                "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n",
                "connected",
            ),
            ("HTTP/1.1 407 No\r\n\r\n", "`feed.proxy.user`"),
            ("HTTP/1.1 401 No\r\n\r\n", "`feed.proxy.user`"),
            (
                "HTTP/1.1 403 Filtered\r\n\r\n",
                "does not connect to h:1: it answered 403",
            ),
            ("HTTP/1.1 200 half", "check `feed.proxy.url`"),
            ("SSH-2.0-x\r\n\r\n", "it does not answer as an HTTP proxy"),
            ("", "check `feed.proxy.url`"),
        ] {
            let said = said_of(answer).await;
            assert!(said.contains(words), "{answer:?}: {said}");
        }
    }
}
