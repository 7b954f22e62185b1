//! What can be told without asking a server for anything but its address: files, disk, names, clock.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::finding::Finding;
use crate::certificates::{self, CertificateError, CertificateFile};
use crate::config::{self, Config, JournalConfig, Size};
use crate::event::Timestamp;
use crate::feed;
use crate::journal;
use crate::private;
use crate::process;

/// A certificate that ends earlier is warned of.
const CERTIFICATE_DAYS: i64 = 30;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// With less room than this the journal could not even be opened and written for a while.
const DISK_LEAST: u64 = 64 * 1024 * 1024;

/// No name takes longer.
const NAME_TIMEOUT: Duration = Duration::from_secs(10);

/// The vendor tells its time in whole seconds.
const CLOCK_GRAIN_MS: i64 = 1000;

/// A clock that is further off is warned of: records, and what is asked of a sink after a crash, go by it.
const CLOCK_OFF_MS: i64 = 5000;

/// Whether each file of certificates is of use, and for how long.
pub(super) fn certificates(config: &Config, now: Timestamp) -> Finding {
    let of_sinks = config.sinks.iter().flat_map(|sink| {
        let of_sink = certificates::of_sink(sink).into_iter();
        of_sink.map(|file| (format!("sink {}: ", sink.name()), file))
    });
    let of_vendor = certificates::of_vendor(config).into_iter();
    let files = of_vendor.map(|file| (String::new(), file)).chain(of_sinks);
    let (mut bad, mut warnings, mut good) = (Vec::new(), Vec::new(), 0);
    for (whose, file) in files {
        let what = format!("{whose}`{}` ({})", file.key, file.path.display());
        match days_left(&file, now) {
            Err(error) => bad.push(format!("{what} {error}")),
            Ok(days) if days < 0 => {
                bad.push(format!("{what} has expired; put a new one in its place"))
            }
            Ok(days) if days < CERTIFICATE_DAYS => {
                warnings.push(format!("{what} expires in {days} days"))
            }
            Ok(_) => good += 1,
        }
    }
    if !bad.is_empty() {
        return Finding::bad("certificates", bad.join("; "), 64);
    }
    let detail = match good + warnings.len() {
        0 => "no file of certificates is named".to_owned(),
        files => format!("{files} file(s), none of which has expired"),
    };
    Finding::good("certificates", detail).warned(warnings)
}

fn days_left(file: &CertificateFile, now: Timestamp) -> Result<i64, CertificateError> {
    Ok(days(file.expiry()?, now))
}

/// Whole days until this Unix time in seconds.
pub(super) fn days(until: u64, now: Timestamp) -> i64 {
    let until = i64::try_from(until).unwrap_or(i64::MAX / 1000);
    (until * 1000 - now.as_millis()).div_euclid(DAY_MS)
}

/// The file of the configuration, which was read.
pub(super) fn configuration(path: &Path) -> Finding {
    let found = Finding::good("configuration", path.display().to_string());
    found.warned(private::exposed(path, false))
}

/// Whether each file that the configuration names can be read, and the secret ones by nobody else.
pub(super) fn files(config: &Config) -> Finding {
    let mut bad = Vec::new();
    if let Err(error) = feed::api_key(&config.feed) {
        bad.push(format!("`feed.api_key_file`: {error}"));
    }
    let files = config::files(config);
    // The API key is read already, and told with what it lacks.
    for file in files.iter().filter(|file| file.key != "feed.api_key_file") {
        if let Err(error) = std::fs::File::open(&file.path) {
            let (key, path) = (&file.key, file.path.display());
            bad.push(format!("`{key}`: cannot read {path}: {error}"));
        }
    }
    let warnings = private::exposed_files(config);
    if !bad.is_empty() {
        let bad = bad.join("; ");
        let detail = format!("{bad}; make it readable for this user, or name another");
        return Finding::bad("files", detail, 64).warned(warnings);
    }
    let detail = format!("{} named, each can be read", files.len());
    Finding::good("files", detail).warned(warnings)
}

/// Whether the journal's folder can be written, and the file is one that a bridge can open; it may be in use by
/// one.
pub(super) fn journal(config: &JournalConfig) -> Finding {
    let folder = config.folder();
    let probe = folder.join(format!(".onboarding-bridge-check-{}", std::process::id()));
    let tried = std::fs::File::create_new(&probe).and_then(|file| {
        file.sync_all()?;
        std::fs::remove_file(&probe)
    });
    if let Err(error) = tried {
        let folder = folder.display();
        let detail = format!("cannot write to {folder}: {error}; make it writable for this user");
        return Finding::bad("journal", detail, 74);
    }
    let exposed = private::exposed(folder, false);
    match journal::Desk::look(config) {
        Ok(to_do) => {
            let path = config.path.display();
            let detail = match config.path.exists() {
                true => format!("{path} can be opened, and its folder written"),
                false => format!("{path} is not there yet; its folder can be written"),
            };
            Finding::good("journal", detail)
                .warned(exposed)
                .warned(to_do.map(str::to_owned))
        }
        Err(error) => {
            let code = if error.is_configuration() { 64 } else { 74 };
            Finding::bad("journal", error.to_string(), code).warned(exposed)
        }
    }
}

/// Whether the admin port can be had. Beside a running bridge it cannot, which is no mistake.
pub(super) async fn port(listen: SocketAddr) -> Finding {
    match tokio::net::TcpListener::bind(listen).await {
        Ok(_) => Finding::good("admin", format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let warning = "if that is not the bridge itself, it will not start: set `admin.listen` to another port";
            Finding::good("admin", format!("{listen} is taken")).warned([warning.to_owned()])
        }
        Err(error) => {
            let detail = format!(
                "cannot listen on {listen}: {error}; set `admin.listen` to an address of this machine, and a port from 1024 on"
            );
            Finding::bad("admin", detail, 64)
        }
    }
}

/// Whether the journal's keys can be read, where there are to be any; not whether they open it.
pub(super) fn keys(config: &JournalConfig) -> Option<Finding> {
    if config.encryption_key_file.is_none() && config.old_encryption_key_files.is_empty() {
        return None;
    }
    Some(match journal::try_keys(config) {
        Ok(()) => Finding::good("keys", "the journal's keys can be read"),
        Err(error) => Finding::bad("keys", error.to_string(), 64),
    })
}

/// Whether the disk has the room that the journal may take.
pub(super) fn disk(config: &JournalConfig) -> Finding {
    let folder = config.folder();
    let free = match process::free_bytes(folder) {
        Ok(free) => free,
        Err(error) => {
            let detail = format!("cannot tell the room at {}: {error}", folder.display());
            return Finding::bad("disk", detail, 74);
        }
    };
    let taken = std::fs::metadata(&config.path).map_or(0, |file| file.len());
    room(folder, free, taken, config.max_bytes)
}

fn room(folder: &Path, free: u64, taken: u64, max: Size) -> Finding {
    let folder = folder.display();
    let mebibytes = |bytes: u64| format!("{} MiB", bytes / (1024 * 1024));
    let detail = format!("{} free at {folder}", mebibytes(free));
    let wanted = max.0.saturating_sub(taken);
    if free < DISK_LEAST.min(wanted) {
        let detail = format!("{detail}: too little to begin with; make room there");
        return Finding::bad("disk", detail, 74);
    }
    let short = (free < wanted).then(|| {
        format!(
            "the disk would be full before the journal is: `journal.max_bytes` lets it take {} more; \
             give the disk more room, or the journal less",
            mebibytes(wanted)
        )
    });
    Finding::good("disk", detail).warned(short)
}

/// Whether each name in the configuration has an address.
pub(super) async fn names(config: &Config) -> Finding {
    let (mut found, mut bad) = (0, Vec::new());
    for (key, host) in hosts(config) {
        let looked_up = tokio::net::lookup_host((host.as_str(), 0));
        let why = match timeout(NAME_TIMEOUT, looked_up).await {
            Ok(Ok(_)) => {
                found += 1;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        bad.push(format!("{key}: no address of {host}: {why}"));
    }
    if bad.is_empty() {
        return Finding::good("names", format!("{found} name(s), each with an address"));
    }
    let advice = "look at the spelling, and at this machine's resolver";
    Finding::bad("names", format!("{}; {advice}", bad.join("; ")), 69)
}

/// Each host once, after the key that names it first.
fn hosts(config: &Config) -> Vec<(String, String)> {
    let vendor = match &config.feed.proxy {
        // It looks up the vendor's names.
        Some(proxy) => vec![("`feed.proxy.url`", proxy.url.as_str())],
        None => vec![
            ("`feed.url`", config.feed.url.as_str()),
            ("`reconcile.url`", config.reconcile.url.as_str()),
        ],
    };
    let vendor = vendor.into_iter().map(|(key, url)| (key.to_owned(), url));
    let of_sinks = config.sinks.iter().flat_map(|sink| {
        let addresses = sink.addresses().into_iter();
        addresses.map(|address| (format!("sink {}", sink.name()), address))
    });
    let mut seen = BTreeSet::new();
    let named = vendor
        .chain(of_sinks)
        .map(|(key, url)| (key, host(url).to_owned()));
    named
        .filter(|(_, host)| seen.insert(host.clone()))
        .collect()
}

/// The host of an address with or without scheme, port and path.
pub(super) fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether the clock agrees with the vendor's, which it told between these two of ours.
pub(super) fn clock(vendor: Timestamp, asked: Timestamp, answered: Timestamp) -> Finding {
    let vendor = vendor.as_millis();
    // What may be the difference at least: the answer took its time, and tells whole seconds.
    let behind = vendor - answered.as_millis();
    let ahead = asked.as_millis() - (vendor + CLOCK_GRAIN_MS);
    let off = behind.max(ahead).max(0);
    let (seconds, which) = (
        off / 1000,
        if behind > ahead { "behind" } else { "ahead of" },
    );
    let far = (off > CLOCK_OFF_MS).then(|| {
        "set the machine's clock by NTP: the times in records, and what a sink is asked for after a \
         crash, go by it"
            .to_owned()
    });
    let detail = match seconds {
        0 => "it agrees with the vendor's to the second".to_owned(),
        _ => format!("it is {seconds} s {which} the vendor's"),
    };
    Finding::good("clock", detail).warned(far)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an invented authority that ends at 2035-02-12.
    const PEM: &str = include_str!("../../certificates/one.pem");
    const ENDS_MS: i64 = 2_054_899_688_000;

    fn found(pem: &str, days_before: i64) -> Finding {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let yaml = format!(
            "{{feed: {{api_key: k}}, journal: {{path: /j}}, sinks: [{{name: n, type: nats, url: 'tls://n', \
             stream: S, subject_prefix: p, ca_file: {}}}]}}",
            file.path().display()
        );
        let config: Config = serde_norway::from_str(&yaml).unwrap();
        certificates(
            &config,
            Timestamp((ENDS_MS - days_before * DAY_MS) * 1_000_000),
        )
    }

    #[test]
    fn a_key_of_the_journal_that_cannot_be_used_is_found_and_none_is_no_finding() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = JournalConfig::at(folder.path().join("journal.db"));
        assert!(keys(&config).is_none());
        let file = folder.path().join("key");
        config.old_encryption_key_files = vec![file.clone()];
        assert!(!keys(&config).unwrap().ok);
        std::fs::write(&file, "short").unwrap();
        assert!(!keys(&config).unwrap().ok);
        std::fs::write(&file, "k".repeat(44)).unwrap();
        assert!(keys(&config).unwrap().ok);
        config.encryption_key_file = Some(folder.path().join("away"));
        assert!(!keys(&config).unwrap().ok);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_warned_of_and_one_that_has_ended_is_wrong() {
        let far = found(PEM, 31);
        assert!(far.ok && far.warnings.is_empty(), "{far:?}");
        let soon = found(PEM, 29);
        assert!(soon.ok, "{soon:?}");
        let warning = &soon.warnings[0];
        assert!(
            warning.contains("sink n: `ca_file`") && warning.contains("in 29 days"),
            "{warning}"
        );
        let over = found(PEM, -1);
        assert!(!over.ok && over.detail.contains("has expired"), "{over:?}");
        assert_eq!(over.exit_code, 64);
        let none = found("nothing", 31);
        assert!(
            !none.ok && none.detail.contains("no certificate in PEM form"),
            "{none:?}"
        );
    }

    #[test]
    fn a_disk_with_less_room_than_the_journal_may_take_is_warned_of_and_a_full_one_is_wrong() {
        let mebibytes = |count: u64| count * 1024 * 1024;
        let found = |free, taken| {
            room(
                Path::new("/j"),
                mebibytes(free),
                mebibytes(taken),
                Size(mebibytes(1000)),
            )
        };
        assert!(found(1000, 0).warnings.is_empty());
        assert!(found(600, 400).warnings.is_empty());
        let short = found(600, 100);
        assert!(
            short.ok && short.warnings[0].contains("`journal.max_bytes`"),
            "{short:?}"
        );
        // What little it lacks has room.
        assert!(found(63, 990).ok);
        let full = found(63, 0);
        assert!(!full.ok && full.exit_code == 74, "{full:?}");
    }

    #[test]
    fn a_clock_is_judged_by_what_it_is_off_at_least() {
        let at = |ms: i64| Timestamp(ms * 1_000_000);
        let found = |vendor, asked, answered| clock(at(vendor), at(asked), at(answered));
        let right = found(10_000, 10_400, 10_900);
        assert!(
            right.detail.contains("agrees") && right.warnings.is_empty(),
            "{right:?}"
        );
        // An answer that took long tells less.
        let slow = found(10_000, 1_000, 60_000);
        assert!(slow.detail.contains("agrees"), "{slow:?}");
        let behind = found(50_000, 10_000, 12_000);
        assert!(
            behind.detail.contains("38 s behind") && behind.ok,
            "{behind:?}"
        );
        assert!(behind.warnings[0].contains("NTP"));
        let ahead = found(10_000, 14_500, 15_000);
        assert!(
            ahead.detail.contains("3 s ahead") && ahead.warnings.is_empty(),
            "{ahead:?}"
        );
    }

    #[test]
    fn each_host_is_asked_for_once_and_the_vendors_only_where_no_proxy_does_it() {
        let sinks = "sinks: [{name: k, type: kafka, brokers: ['b.example.test:9092', '[::1]:1'], topic: t}, \
                     {name: n, type: nats, url: 'tls://n.example.test,tls://b.example.test:1', stream: S, subject_prefix: p}]";
        let found = |feed: &str| {
            let yaml = format!(
                "{{feed: {{url: 'wss://v.example.test:1/ws', api_key: k{feed}}}, \
                 reconcile: {{url: 'https://v.example.test'}}, {sinks}}}"
            );
            let hosts = hosts(&serde_norway::from_str(&yaml).unwrap());
            hosts.into_iter().map(|(_, host)| host).collect::<Vec<_>>()
        };
        let of_sinks = ["b.example.test", "::1", "n.example.test"];
        assert_eq!(found("")[0], "v.example.test");
        assert_eq!(found("")[1..], of_sinks);
        let proxied = found(", proxy: {url: 'http://x.example.test:3128'}");
        assert_eq!(proxied[0], "x.example.test");
        assert_eq!(proxied[1..], of_sinks);
    }
}
