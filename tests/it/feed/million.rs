//! A long list: how much memory its comparison takes beside an idle bridge, and how much time beside a
//! bare reading of the same body.
//!
//! 20,000 users unless `ONBOARDING_BRIDGE_LIST_USERS` says otherwise; `make bench-list` takes a million.

use std::fmt::Write as _;
use std::io::BufReader;
use std::time::Duration;

use bytes::Bytes;
use onboarding_bridge::event::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::time::Instant;

use super::users;
use crate::support::line::Line;
use crate::support::list_server::{Answer, ListServer};

/// What the comparison of a million users may take beside what the bridge has when idle.
const ABOVE_IDLE: u64 = 64 * 1024 * 1024;

/// Users in one part of the body.
const PART: u64 = 500;

/// How many users.
#[allow(
    clippy::disallowed_methods,
    reason = "the variable is how a person asks for a longer list"
)]
fn how_many() -> u64 {
    let wanted = std::env::var("ONBOARDING_BRIDGE_LIST_USERS");
    wanted.map_or(20_000, |users| users.parse().unwrap())
}

/// Every hundredth user changes with the generation, and the first thousand are gone in the second.
fn entry(text: &mut String, user: u64, generation: u64) {
    let changed = if user % 100 == 99 { generation } else { 0 };
    write!(
        text,
        "{{\"account_type\":\"individual\",\"account_role\":\"client\",\
         \"user_id\":\"client_{user:08x}-0000-4000-8000-000000000000\",\
         \"email\":\"user{user}@example.test\",\"first_name\":\"Ada\",\"last_name\":\"Example-{changed}\",\
         \"phone_number\":\"+1555{user:07}\",\"status\":\"VERIFIED\",\
         \"requirements\":{{\"sms\":false,\"email\":false}},\"advisor_user_id\":null}}"
    )
    .unwrap();
}

fn list(users: u64, generation: u64) -> Answer {
    let first = generation * 1000;
    Answer::parts(move |part| {
        let begin = first + part * PART;
        if begin >= users {
            return None;
        }
        let end = users.min(begin + PART);
        let mut text = String::with_capacity(400 * 500);
        text.push_str(if part == 0 { "{\"data\":[" } else { "," });
        for user in begin..end {
            if user > begin {
                text.push(',');
            }
            entry(&mut text, user, generation);
        }
        if end == users {
            text.push_str("]}");
        }
        Some(Bytes::from(text))
    })
}

/// Reads the same body with the same client and parser, and looks at nothing: the users, the seconds.
fn bare(url: &str) -> (u64, f64) {
    let started = Instant::now();
    let mut response = ureq::get(format!("{url}/v1/enterprise/users"))
        .call()
        .unwrap();
    let body = BufReader::with_capacity(64 * 1024, response.body_mut().as_reader());
    let mut json = serde_json::Deserializer::from_reader(body);
    let users = Bare.deserialize(&mut json).unwrap();
    (users, started.elapsed().as_secs_f64())
}

struct Bare;

impl<'de> DeserializeSeed<'de> for Bare {
    type Value = u64;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bare {
    type Value = u64;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        map.next_key::<IgnoredAny>()?;
        let users = map.next_value_seed(Self)?;
        map.next_key::<IgnoredAny>()?;
        Ok(users)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut users: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while users.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// A figure of `/proc/PID/status`, in bytes.
fn memory(line: &Line, figure: &str) -> u64 {
    let path = format!("/proc/{}/status", line.bridge.id());
    let status = std::fs::read_to_string(path).unwrap();
    let found = status.lines().find_map(|line| line.strip_prefix(figure));
    let kilobytes = found
        .unwrap()
        .trim_start_matches(':')
        .trim_end_matches("kB");
    kilobytes.trim().parse::<u64>().unwrap() * 1024
}

/// The most that was resident since the last call.
fn peak(line: &Line) -> u64 {
    let peak = memory(line, "VmHWM");
    std::fs::write(format!("/proc/{}/clear_refs", line.bridge.id()), "5").unwrap();
    peak
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / 1024 / 1024
}

/// Waits until a list that was asked for later than this is compared: what it found, and the seconds since
/// it was asked for.
fn compared(line: &Line, since: Timestamp) -> (u64, f64) {
    let started = Instant::now();
    loop {
        let last = line.bridge.status()["reconcile"]["last_list"].clone();
        let at = |key: &str| Timestamp::parse(last[key].as_str().unwrap()).unwrap();
        if at("asked") > since {
            assert_eq!(last["outcome"], "success", "{last}");
            let seconds = at("ended").seconds_since(at("asked"));
            return (last["differences"].as_u64().unwrap(), seconds);
        }
        let log = line.bridge.log();
        assert!(started.elapsed() < Duration::from_secs(3000), "{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[allow(
    clippy::print_stdout,
    reason = "the figures are what a person runs this for"
)]
fn print(figures: &str) {
    println!("{figures}");
}

/// Compares a first, a second and an unchanged list, and prints what each took.
async fn measured(first_start: &str) {
    let users_listed = how_many();
    let server = ListServer::start(Answer::users(&[])).await;
    let reconcile = format!("first_start: {first_start}\nread_after_write: 0s\ntimeout: 120s");
    server.set(Answer::status(404, ""));
    let line = server
        .line(users(1), "limits: {requests_per_minute: 40}", &reconcile)
        .await;
    line.bridge.wait_ready();
    line.listed_at_least("failed", 1.0);
    let idle = memory(&line, "VmRSS");
    peak(&line);
    print(&format!(
        "{users_listed} users, {first_start}; idle {} MiB",
        mebibytes(idle)
    ));
    let lists = [
        (
            "first",
            0,
            if first_start == "adopt" {
                0
            } else {
                users_listed
            },
        ),
        ("unchanged", 0, 0),
        ("changed", 1, users_listed / 100 - 10 + 1000),
    ];
    for (name, generation, differences) in lists {
        let same = ListServer::start(list(users_listed, generation)).await;
        let (read, bare) = tokio::task::block_in_place(|| bare(&same.url()));
        let since = Timestamp::now();
        server.set(list(users_listed, generation));
        assert_eq!(read, users_listed - generation * 1000);
        line.reconnect().await;
        let (found, seconds) = tokio::task::block_in_place(|| compared(&line, since));
        assert_eq!(found, differences, "{name}");
        let above = peak(&line).saturating_sub(idle);
        print(&format!(
            "  {name:<9} {found:>7} differences, {seconds:6.1} s, bare reading {bare:5.1} s, ratio {:4.1}; \
             at most {} MiB above idle",
            seconds / bare,
            mebibytes(above)
        ));
        assert!(
            above <= ABOVE_IDLE,
            "{name}: {} MiB above idle",
            mebibytes(above)
        );
    }
    line.bridge.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_published_and_compared_within_64_mib_above_idle() {
    measured("publish").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_adopted_and_compared_within_64_mib_above_idle() {
    measured("adopt").await;
}
