//! The vendor behind an HTTP proxy: feed and list go through the one that is named, and log in there.

use std::path::Path;

use onboarding_bridge::simulator::Simulator;

use crate::support::bridge::{Bridge, command, config, eventually, file_sink};
use crate::support::certificates::Authority;
use crate::support::mounted::Mounted;
use crate::support::tinyproxy::Tinyproxy;
use crate::support::tls_front::TlsFront;

/// A vendor by TLS, a proxy, and the files that a bridge needs for both.
struct Behind {
    simulator: Simulator,
    front: TlsFront,
    proxy: Tinyproxy,
    secrets: Mounted,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Behind {
    async fn new() -> Self {
        let simulator = Simulator::start(super::users(5)).await.unwrap();
        let authority = Authority::new();
        let front = TlsFront::before(&simulator.ws_url(), &authority.issue()).await;
        let secrets = Mounted::new(&[("ca.pem", &authority.pem), ("password", "firstword\n")]);
        Self {
            simulator,
            front,
            proxy: Tinyproxy::start("bridge", "firstword"),
            secrets,
            authority,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn yaml(&self) -> String {
        let authorities = format!("ca_file: '{}'", self.secrets.path("ca.pem"));
        let feed = format!(
            "{authorities}\nlimits: {{requests_per_minute: 40}}\n\
             proxy: {{url: '{}', user: bridge, password_file: '{}'}}",
            self.proxy.url,
            self.secrets.path("password")
        );
        let sink = file_sink("local", &self.folder.path().join("events.jsonl"));
        let vendor = self.simulator.ws_url();
        let vendor = vendor.replace("ws://", "").replace("/ws", "");
        config(&self.simulator, self.folder.path(), &feed, &sink)
            .replace(
                &format!("ws://{vendor}"),
                &format!("wss://{}", self.front.address),
            )
            .replace(
                &format!("http://{vendor}"),
                &format!("https://{}", self.front.address),
            )
            .replacen("reconcile:\n", &format!("reconcile:\n  {authorities}\n"), 1)
    }
}

fn check(folder: &Path, yaml: &str) -> (Option<i32>, String) {
    let path = folder.join("bridge.yaml");
    std::fs::write(&path, yaml).unwrap();
    let (code, output, said) = command(&["check", "--config", path.to_str().unwrap()]);
    (code, output + &said)
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_and_list_go_through_the_proxy_that_is_named_and_a_new_password_needs_no_restart() {
    let mut behind = Behind::new().await;
    let bridge = Bridge::start(behind.folder.path(), &behind.yaml());
    bridge.wait_ready();
    let listed = |times: f64| {
        eventually("the list", || {
            let lists = bridge.metric("reconcile_runs_total{outcome=\"success\"}");
            (lists >= times).then_some(())
        });
    };
    listed(1.0);
    behind.simulator.control().step(3).await;
    bridge.wait_delivered();
    let asked = behind.proxy.asked_for(&behind.front.address) as u64;
    assert!(asked >= 2, "one for the feed, one for the list: {asked}");
    assert_eq!(
        behind.front.accepted(),
        asked,
        "nothing goes past the proxy"
    );

    behind.secrets.swap(&[
        ("ca.pem", &behind.authority.pem),
        ("password", "secondword"),
    ]);
    let control = behind.simulator.control();
    let subscribes = control.stats().subscribes;
    behind.proxy = behind.proxy.restart("bridge", "secondword");
    // What goes through a proxy that ends, ends.
    control.close(1001).await;
    control
        .wait_for(|stats| stats.subscribes > subscribes)
        .await;
    listed(2.0);
    control.step(3).await;
    bridge.wait_delivered();
    for secret in ["firstword", "secondword"] {
        assert!(!bridge.log().contains(secret), "{}", bridge.log());
    }
    bridge.terminate();
    behind.simulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_of_a_proxy_what_is_wrong_and_what_to_do() {
    let behind = Behind::new().await;
    let yaml = behind.yaml();
    let (code, said) = check(behind.folder.path(), &yaml);
    assert_eq!(code, Some(0), "{said}");

    let stranger = yaml.replacen("user: bridge", "user: stranger", 1);
    let (code, said) = check(behind.folder.path(), &stranger);
    assert_eq!(code, Some(64), "{said}");
    let refused = said
        .matches("`feed.proxy.user` and `feed.proxy.password_file`")
        .count();
    assert_eq!(refused, 2, "for the feed and for the list: {said}");
    assert!(!said.contains("firstword"), "{said}");

    let elsewhere = yaml.replacen(&behind.proxy.url, "http://127.0.0.1:1", 1);
    let (code, said) = check(behind.folder.path(), &elsewhere);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("feed: cannot reach the proxy http://127.0.0.1:1"),
        "{said}"
    );
    assert_eq!(
        said.matches("`feed.proxy.url`").count(),
        2,
        "for feed and list: {said}"
    );
    assert!(!said.contains("`reconcile.url`"), "{said}");

    let past = behind.front.accepted();
    assert_eq!(
        past,
        behind.proxy.asked_for(&behind.front.address) as u64 - 2
    );
    behind.simulator.shutdown().await;
}
