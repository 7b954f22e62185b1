//! `check` at a vendor that is over its patience: said clearly, exit code 69, and the silence is noted for
//! the bridge with the same journal, and for the next `check`.

use onboarding_bridge::simulator::{Options, RestMode, Simulator};

use crate::support::bridge::{command, config, file_sink};
use crate::support::raw_vendor::RawVendor;

/// A configuration with this feed and the list of this vendor, and `check` of it.
struct Bench {
    folder: tempfile::TempDir,
    _simulator: Simulator,
}

impl Bench {
    async fn new(feed: Option<&str>, rest: RestMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            rest,
            ..Options::for_tests()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let sink = file_sink("local", &folder.path().join("events.jsonl"));
        let mut yaml = config(&simulator, folder.path(), "", &sink);
        if let Some(feed) = feed {
            yaml = yaml.replace(&simulator.ws_url(), feed);
        }
        std::fs::write(folder.path().join("bridge.yaml"), yaml).unwrap();
        Self {
            folder,
            _simulator: simulator,
        }
    }

    /// What `check` says; it must exit with 69.
    async fn check(&self) -> String {
        let file = self.folder.path().join("bridge.yaml");
        let check = move || command(&["check", "--config", file.to_str().unwrap()]);
        let (code, said, _) = tokio::task::spawn_blocking(check).await.unwrap();
        assert_eq!(code, Some(69), "{said}");
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_notes_a_refused_upgrade_for_everybody_who_shares_the_ledger() {
    let vendor = RawVendor::bind();
    let bench = Bench::new(Some(&vendor.url), RestMode::Ok).await;
    let answer = "HTTP/1.1 429 No\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n";
    let (said, ()) = tokio::join!(bench.check(), vendor.answer_upgrade(answer));
    assert!(
        said.contains("429") && said.contains("taken for the vendor's limit"),
        "{said}"
    );
    // Neither its own list nor the next check says a word to the vendor, for as long as it asked.
    assert!(said.contains("FAIL  list: not tried"), "{said}");
    let said = bench.check().await;
    assert_eq!(said.matches("not tried").count(), 2, "{said}");
    let seconds = said.split("check again in ").nth(1).unwrap();
    let seconds: u64 = seconds.split(' ').next().unwrap().parse().unwrap();
    assert!((200..=301).contains(&seconds), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_takes_the_second_dropped_connection_in_a_row_for_the_limit() {
    let vendor = RawVendor::bind();
    let bench = Bench::new(Some(&vendor.url), RestMode::Ok).await;
    let (said, ()) = tokio::join!(bench.check(), vendor.drop_before_upgrade(true));
    assert!(
        said.contains("if the next connection ends so too"),
        "{said}"
    );
    assert!(said.contains("ok    list"), "{said}");
    let (said, ()) = tokio::join!(bench.check(), vendor.drop_before_upgrade(false));
    assert!(said.contains("taken for the vendor's limit"), "{said}");
    assert!(bench.check().await.contains("FAIL  feed: not tried"));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_takes_an_end_before_the_subscription_for_the_limit() {
    let vendor = RawVendor::bind();
    let bench = Bench::new(Some(&vendor.url), RestMode::Ok).await;
    let hang_up = async { drop(vendor.authenticated().await) };
    let (said, ()) = tokio::join!(bench.check(), hang_up);
    assert!(
        said.contains("before the subscription was confirmed"),
        "{said}"
    );
    assert!(bench.check().await.contains("FAIL  feed: not tried"));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_notes_a_refused_list_too() {
    let bench = Bench::new(None, RestMode::Unavailable).await;
    let said = bench.check().await;
    assert!(
        said.contains("FAIL  list: the vendor answered 503"),
        "{said}"
    );
    assert!(bench.check().await.contains("FAIL  feed: not tried"));
}
