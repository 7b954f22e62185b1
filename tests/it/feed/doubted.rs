//! A list that is some seconds behind the feed, or ahead of it: what it may decide, and what another one
//! does.

use onboarding_bridge::event::Timestamp;
use onboarding_bridge::simulator::Options;
use serde_json::Value;

use super::{reasons, users};
use crate::support::eventually;
use crate::support::line::Line;
use crate::support::list_server::{Answer, ListServer, truth};

/// The vendor's list lags by less than this.
const LAG: &str = "read_after_write: 3s";

/// A line whose list is what the vendor had at the beginning.
async fn lagging(options: Options) -> (ListServer, Line) {
    let server = ListServer::start(Answer::users(&[])).await;
    let line = server.line(options, "", LAG).await;
    line.bridge.wait_ready();
    server.set(Answer::users(&truth(&line.simulator)));
    line.reconnect().await;
    let known = "reconcile_differences_total";
    eventually("the list to be taken over", || {
        (line.bridge.metric(known) >= 9.0).then_some(())
    });
    line.healed_windows(2);
    (server, line)
}

/// Waits for a list that was asked for later than this and cannot decide.
fn undecided(line: &Line, since: Timestamp) {
    eventually("a list that cannot decide", || {
        let last = line.bridge.status()["reconcile"]["last_list"].clone();
        let asked = Timestamp::parse(last["asked"].as_str()?)?;
        (asked > since && last["outcome"] == "undecided").then_some(())
    });
}

fn of_user<'a>(records: &'a [Value], user: &str) -> Vec<&'a Value> {
    let records = records.iter();
    records.filter(|record| record["user_id"] == user).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_behind_overrules_nothing_that_the_feed_has_just_told() {
    let options = Options {
        registered: Some(9),
        ..users(10)
    };
    let (server, line) = lagging(options).await;
    // One changes and one registers; the list knows of neither.
    assert!(line.control.send_event_for(3).await);
    assert!(line.control.send_event_for(9).await);
    line.heard(2);
    let since = Timestamp::now();
    line.reconnect().await;
    undecided(&line, since);
    let windows = line.bridge.status()["feed"]["blind_windows"].clone();
    assert_eq!(windows[0]["reason"], "closed");
    assert_eq!(windows[0]["healed_at"], Value::Null, "users are undecided");
    // The vendor's list comes up to date.
    server.set(Answer::users(&truth(&line.simulator)));
    assert_eq!(
        reasons(&line.healed_windows(3)),
        ["start", "closed", "closed"]
    );
    let users = [3, 9].map(|index| line.control.user_id(index));
    let ended = line.end().await;
    let types = |user: &str| -> Vec<String> {
        let records = of_user(&ended.records, user).into_iter();
        let types = records.map(|it| format!("{} {}", it["event_type"], it["origin"]));
        types.map(|it| it.replace('"', "")).collect()
    };
    assert_eq!(
        types(&users[0]),
        ["user.registered reconcile", "user.updated feed"]
    );
    assert_eq!(types(&users[1]), ["user.registered feed"]);
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_may_be_of_before_the_feed_was_deaf_heals_nothing() {
    let (server, line) = lagging(users(10)).await;
    let since = Timestamp::now();
    line.control.close(1001).await;
    // Nobody hears of it, and the list does not know it yet: it is as it was.
    line.control.change_silently(20);
    undecided(&line, since);
    let windows = line.bridge.status()["feed"]["blind_windows"].clone();
    assert_eq!(windows[0]["reason"], "closed");
    assert_eq!(windows[0]["healed_at"], Value::Null);
    server.set(Answer::users(&truth(&line.simulator)));
    let windows = line.healed_windows(3);
    // The feed is accused of nothing.
    assert_eq!(reasons(&windows), ["start", "closed", "closed"]);
    assert!(windows[2]["differences"].as_u64().unwrap() > 0);
    line.end().await.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_really_changed_behind_a_state_just_told_is_repaired_by_another_list() {
    let server = ListServer::start(Answer::users(&[])).await;
    let line = server.line(users(10), "", LAG).await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    assert!(line.control.send_event_for(3).await);
    assert!(line.control.send_event_for(4).await);
    line.heard(2);
    let since = Timestamp::now();
    line.control.close(1001).await;
    line.control.change_silently(40);
    assert!(line.control.remove_user(4));
    server.set(Answer::users(&truth(&line.simulator)));
    undecided(&line, since);
    // Nothing else asks for it.
    let windows = line.healed_windows(2);
    assert_eq!(reasons(&windows)[..2], ["start", "closed"]);
    assert!(
        windows[1]["differences"].as_u64().unwrap() >= 10,
        "of both lists: {windows:?}"
    );
    let gone = line.control.user_id(4);
    let mut ended = line.end().await;
    let [removed] = ended.of_type("user.removed")[..] else {
        panic!("one removal, not {:?}", ended.of_type("user.removed"));
    };
    assert_eq!(removed["user_id"], gone);
    ended.expected.insert(gone, Default::default());
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_just_told_before_a_kill_is_not_overruled_after_it() {
    let (server, mut line) = lagging(users(10)).await;
    assert!(line.control.send_event_for(3).await);
    line.heard(1);
    line.bridge.wait_delivered();
    let since = Timestamp::now();
    line.kill_and_restart();
    undecided(&line, since);
    server.set(Answer::users(&truth(&line.simulator)));
    line.healed_windows(3);
    let user = line.control.user_id(3);
    let ended = line.end().await;
    let records = of_user(&ended.records, &user);
    assert_eq!(
        (records.len(), &records[1]["origin"]),
        (2, &"feed".into()),
        "{records:?}"
    );
    ended.assert_repaired();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_stays_different_is_believed_after_one_more() {
    let (server, line) = lagging(users(10)).await;
    assert!(line.control.send_event_for(3).await);
    line.heard(1);
    let since = Timestamp::now();
    line.reconnect().await;
    undecided(&line, since);
    // It never comes up to date: then it is the truth.
    line.healed_windows(3);
    let asked = server.requests();
    let user = line.control.user_id(3);
    eventually("the log of both lists", || {
        let log = line.bridge.log();
        (log.matches("compared with the vendor's list").count() as u64 >= asked).then_some(())
    });
    let ended = line.end().await;
    let records = of_user(&ended.records, &user);
    let last = records.last().unwrap();
    assert_eq!(
        (&last["last_name"], &last["origin"]),
        (&"Example-0".into(), &"reconcile".into())
    );
    assert_eq!(records.len(), 3, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_ahead_of_frames_on_their_way_leaves_the_final_state_right() {
    let server = ListServer::start(Answer::users(&[])).await;
    let line = server.line(users(10), "", LAG).await;
    line.bridge.wait_ready();
    line.listed("success", 1.0);
    // The list knows two changes of each user that the feed tells only later, one after the other.
    let mut ahead = truth(&line.simulator);
    for user in &mut ahead {
        user["last_name"] = "Example-2".into();
    }
    server.set(Answer::users(&ahead));
    line.reconnect().await;
    line.listed("success", 2.0);
    for _ in 0..2 {
        for user in 0..10 {
            assert!(line.control.send_event_for(user).await);
        }
    }
    line.heard(20);
    let ended = line.end().await;
    ended.assert_repaired();
    ended.assert_once();
}
