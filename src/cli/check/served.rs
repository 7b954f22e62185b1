//! The certificates that servers show, beside the feed's own: of the list, of Kafka and of NATS.
//!
//! A server that shows none is no finding here: whoever uses it says what is wrong.

use super::finding::Finding;
use super::machine;
use crate::certificates::served::{self, Greeting};
use crate::config::{Config, SinkConfig};
use crate::event::Timestamp;

/// A certificate that ends earlier is warned of: as they are issued today they are renewed weeks before.
const SOON_DAYS: i64 = 7;

/// Where a server can be asked.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    greeting: Greeting,
}

/// The finding, with the least time that a certificate of these servers has left.
async fn with(finding: Finding, servers: Vec<Server>, now: Timestamp) -> Finding {
    let mut first: Option<(i64, String)> = None;
    for Server {
        host,
        port,
        greeting,
    } in servers
    {
        let Some(ends) = served::ends(&host, port, greeting).await else {
            continue;
        };
        let days = machine::days(ends, now);
        if first.as_ref().is_none_or(|(least, _)| days < *least) {
            first = Some((days, format!("{host}:{port}")));
        }
    }
    match first {
        Some((days, server)) => told(finding, days, &server),
        None => finding,
    }
}

/// The finding, with the days that the certificate of a server has left.
pub(super) fn told(mut finding: Finding, days: i64, server: &str) -> Finding {
    finding.detail += &format!(", by a certificate of {days} more days");
    finding.warned((days < SOON_DAYS).then(|| {
        format!(
            "the certificate of {server} expires soon: without a new one there nothing passes then"
        )
    }))
}

/// The finding about the list, with its server's certificate. Through a proxy it is not looked at.
pub(super) async fn of_list(finding: Finding, config: &Config, now: Timestamp) -> Finding {
    let url = &config.reconcile.url;
    let server = match (&config.feed.proxy, url.strip_prefix("https://")) {
        (None, Some(rest)) => server(rest, 443, Greeting::None),
        _ => None,
    };
    with(finding, server.into_iter().collect(), now).await
}

/// The finding about a sink, with the certificates of the servers that it names.
pub(super) async fn of_sink(finding: Finding, config: &SinkConfig, now: Timestamp) -> Finding {
    with(finding, servers(config), now).await
}

fn servers(config: &SinkConfig) -> Vec<Server> {
    let (port, greeting) = match config {
        SinkConfig::Kafka(kafka) if kafka.is_encrypted() => (9092, Greeting::None),
        SinkConfig::Nats(nats) if nats.is_encrypted() => (4222, Greeting::Line),
        _ => return Vec::new(),
    };
    let addresses = config.addresses().into_iter();
    addresses
        .filter_map(|address| server(address, port, greeting))
        .collect()
}

/// From `scheme://host:port/path`, of which only the host must be there.
fn server(address: &str, usual: u16, greeting: Greeting) -> Option<Server> {
    let host = machine::host(address).to_owned();
    let (_, after) = address.split_once(host.as_str())?;
    let after = after.trim_start_matches([']', ':']);
    let digits = after.split(['/', '?']).next().unwrap_or_default();
    let port = match digits {
        "" => usual,
        digits => digits.parse().ok()?,
    };
    Some(Server {
        host,
        port,
        greeting,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_asked_at_their_own_port_and_only_those_that_speak_tls() {
        let asked = |yaml: &str| -> Vec<String> {
            let servers = servers(&serde_norway::from_str(yaml).unwrap());
            let shown =
                |server: Server| format!("{} {} {:?}", server.host, server.port, server.greeting);
            servers.into_iter().map(shown).collect()
        };
        let kafka = "{type: kafka, name: k, topic: t, brokers: [a.example.test, 'b.example.test:1', '[::1]:2'], options: {security.protocol: SASL_SSL}}";
        assert_eq!(
            asked(kafka),
            [
                "a.example.test 9092 None",
                "b.example.test 1 None",
                "::1 2 None"
            ]
        );
        assert!(asked(&kafka.replace("SASL_SSL", "plaintext")).is_empty());
        let nats = "{type: nats, name: n, stream: S, subject_prefix: p, url: 'tls://a.example.test,nats://b.example.test:9'}";
        assert_eq!(
            asked(nats),
            ["a.example.test 4222 Line", "b.example.test 9 Line"]
        );
        assert!(asked(&nats.replace("tls:", "nats:")).is_empty());
        assert!(asked("{type: file, name: f, path: /f}").is_empty());
    }

    #[test]
    fn a_server_whose_certificate_ends_within_a_week_is_warned_of() {
        let found = |days| told(Finding::good("list", "3 users"), days, "h:1");
        assert!(found(7).warnings.is_empty());
        assert!(found(7).detail.ends_with("of 7 more days"));
        let soon = found(6);
        assert!(soon.ok && soon.warnings[0].contains("h:1"), "{soon:?}");
    }
}
