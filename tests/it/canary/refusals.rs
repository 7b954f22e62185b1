//! Every way in which a vendor can refuse, close or break a connection, with somebody's data and the API key
//! in its words: none of it is said again.

use onboarding_bridge::simulator::{Options, Simulator};
use serde_json::{Value, json};

use super::PLAIN;
use super::corpus::Corpus;
use super::row::{Channel, Findings, secrets};
use crate::support::bridge::{Bridge, config, eventually, file_sink};
use crate::support::list_server::{Answer, ListServer};
use crate::support::raw_vendor::{Client, RawVendor, TEXT, expect, frame, reply, write};

/// How one connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Upgrade,
    Redirect,
    NoHttp,
    Authenticate,
    Subscribe,
    Unasked,
    Close,
    Invalid,
    Reserved,
}

const ENDS: [End; 9] = [
    End::Upgrade,
    End::Redirect,
    End::NoHttp,
    End::Authenticate,
    End::Subscribe,
    End::Unasked,
    End::Close,
    End::Invalid,
    End::Reserved,
];

impl End {
    /// Plays it; the bridge has lost the connection, or never had one.
    async fn play(self, vendor: &RawVendor, words: &str, refusals: &[String]) {
        let answer = |status: &str, more: &str| {
            format!(
                "HTTP/1.1 {status} {words}\r\n{more}x-words: {words}\r\nset-cookie: {words}\r\n\
                 content-length: {}\r\n\r\n{words}",
                words.len()
            )
        };
        match self {
            Self::Upgrade => vendor.answer_upgrade(&answer("401", "")).await,
            Self::Redirect => {
                let location = format!("location: http://127.0.0.1:9/{words}\r\n");
                vendor.answer_upgrade(&answer("302", &location)).await;
            }
            Self::NoHttp => vendor.answer_upgrade(&format!("{words}\r\n\r\n")).await,
            Self::Authenticate => {
                let mut client = vendor.upgraded().await;
                expect(&mut client, "authenticate").await;
                say(&mut client, &refusals[0].replace("\"action\"", "\"act\"")).await;
            }
            Self::Subscribe => {
                let mut client = vendor.authenticated().await;
                expect(&mut client, "subscribe").await;
                let more = json!({"error": words, "message": refusals[0]});
                reply(&mut client, "error", more).await;
                gone(&mut client).await;
            }
            Self::Unasked => say(&mut vendor.subscribed().await, &refusals[1]).await,
            Self::Close => {
                let mut client = vendor.subscribed().await;
                let reason = [&1008_u16.to_be_bytes(), words.as_bytes()].concat();
                write(&mut client, &frame(true, 0x8, &reason)).await;
                gone(&mut client).await;
            }
            Self::Invalid => {
                let mut client = vendor.subscribed().await;
                let bytes = [words.as_bytes(), &[0xff]].concat();
                write(&mut client, &frame(true, TEXT, &bytes)).await;
                gone(&mut client).await;
            }
            Self::Reserved => {
                let mut client = vendor.subscribed().await;
                write(&mut client, &frame(true, 0x3, words.as_bytes())).await;
                gone(&mut client).await;
            }
        }
    }
}

/// Sends a text and waits until nobody is there any more.
async fn say(client: &mut Client, text: &str) {
    write(client, &frame(true, TEXT, text.as_bytes())).await;
    gone(client).await;
}

async fn gone(client: &mut Client) {
    use futures_util::StreamExt;
    while let Some(Ok(_)) = client.next().await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_a_refusal_is_said_again() {
    for end in ENDS {
        let mut corpus = Corpus::new(&format!("{end:?}"));
        let (folder, secret_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let api_key = secrets(&mut corpus, secret_folder.path());
        let refusals = corpus.refusals(&api_key);
        let words = format!("{} {api_key}", corpus.word("refusal.words"));
        let vendor = RawVendor::bind();
        let list = ListServer::start(Answer::status(401, words.clone())).await;
        // Only for the form of the configuration.
        let simulator = Simulator::start(Options::for_tests()).await.unwrap();
        let sink = file_sink("local", &folder.path().join("events.jsonl"));
        let key = format!("api_key: {}\n", onboarding_bridge::simulator::EXAMPLE_KEY);
        let key_file = secret_folder.path().join("api.key");
        let yaml = config(&simulator, folder.path(), "", &sink)
            .replacen(&key, &format!("api_key_file: {}\n", key_file.display()), 1)
            .replacen(&simulator.rest_url(), &list.url(), 1)
            .replacen(&simulator.ws_url(), &vendor.url, 1);
        let bridge = Bridge::start_with(folder.path(), &yaml, &[("RUST_LOG", "trace")]);
        end.play(&vendor, &words, &refusals).await;
        let detail = eventually("the end of the connection", || detail(&bridge.log()));
        assert!(!detail.is_empty(), "{end:?}");

        let mut findings = Findings::new(&PLAIN, &corpus);
        for page in ["/metrics", "/status", "/readyz"] {
            findings.look(Channel::Silent, page, bridge.get(page).1.as_bytes());
        }
        bridge.kill();
        findings.look_at_files(folder.path(), &format!("after {end:?}"));
        findings.judge(&[]);
        simulator.shutdown().await;
    }
}

/// What the bridge said of the connection that it lost.
fn detail(log: &str) -> Option<String> {
    let lines = log.lines();
    let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lost = lines.find(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("the feed is lost") || message.starts_with("the feed refuses us")
    });
    lost.map(|line| line["detail"].as_str().unwrap().to_owned())
}
