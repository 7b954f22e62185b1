//! The vendor's limits, by a clock that a test can pause.

use tokio::time::Instant;

use super::*;

/// Tokio's clock, which a test can pause, as one that also tells the time of day.
fn clock() -> Timestamp {
    thread_local!(static START: Instant = Instant::now());
    let elapsed = START.with(|start| start.elapsed()).as_nanos();
    Timestamp(1_764_000_000_000_000_000 + i64::try_from(elapsed).unwrap())
}

fn with(ledger: Option<Ledger>, clock: fn() -> Timestamp) -> Arc<Budget> {
    let limits = LimitsConfig::default();
    let remaining = prometheus::Gauge::new("x", "x").unwrap();
    Budget::new(&limits, ledger, remaining, clock)
}

fn budget() -> Arc<Budget> {
    with(None, clock)
}

#[tokio::test(start_paused = true)]
async fn the_vendors_limits_are_kept_in_every_minute() {
    let budget = budget();
    let start = Instant::now();
    let mut times = Vec::new();
    for requests in [3, 1, 2, 3, 4, 1, 3, 3].into_iter().cycle().take(200) {
        budget.spend(requests).await;
        times.extend(std::iter::repeat_n(start.elapsed(), requests));
    }
    for (index, from) in times.iter().enumerate() {
        let in_minute = times
            .iter()
            .skip(index)
            .take_while(|at| **at < *from + Duration::from_secs(60))
            .count();
        assert!(
            in_minute <= 20,
            "{in_minute} requests in the minute after {from:?}"
        );
    }
    // And it does not dawdle: the whole share is used.
    assert!(
        start.elapsed() < Duration::from_secs(60) * (500 / 17 + 2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_like_the_limit_there_is_silence() {
    let budget = budget();
    let start = Instant::now();
    budget.block();
    budget.spend(1).await;
    assert_eq!(start.elapsed(), Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn feed_and_list_that_are_refused_together_wait_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let [feed, list] = [(); 2].map(|()| with(Some(Ledger::beside(&journal)), clock));
    let start = Instant::now();
    feed.block();
    tokio::time::sleep(Duration::from_secs(2)).await;
    list.block();
    feed.block();
    feed.spend(1).await;
    list.spend(1).await;
    // Until the later of the two, and not 120 s for each.
    assert_eq!(start.elapsed(), Duration::from_secs(122));
}

#[tokio::test(start_paused = true)]
async fn the_vendor_may_ask_for_a_longer_silence_but_not_for_a_shorter_or_endless_one() {
    for (asked, silent) in [(5, 120), (300, 300), (86_400, 600)] {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        let budget = with(Some(Ledger::beside(&journal)), clock);
        budget.block_for(Duration::from_secs(asked));
        // Neither a second refusal nor another process makes it shorter.
        budget.block();
        let again = with(Some(Ledger::beside(&journal)), clock);
        assert_eq!(again.must_wait(1), Some(Duration::from_secs(silent)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_dropped_connection_in_a_row_is_the_limit_whoever_made_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let process = || with(Some(Ledger::beside(&journal)), clock);
    let second = || tokio::time::sleep(Duration::from_secs(1));
    assert!(!process().dropped_again());
    assert_eq!(process().must_wait(1), None);
    second().await;
    process().answered();
    second().await;
    // The answer in between was for another process, and counts all the same.
    let bridge = process();
    assert!(!bridge.dropped_again());
    second().await;
    assert!(process().dropped_again());
    assert_eq!(bridge.must_wait(1), Some(Duration::from_secs(120)));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_of_an_earlier_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let until = clock().0 + 90_000_000_000;
    let text = format!("{{\"spent\":[],\"blocked_until\":{until}}}");
    std::fs::write(folder.path().join("journal.db.budget"), text).unwrap();
    let budget = with(Some(Ledger::beside(&journal)), clock);
    assert_eq!(budget.must_wait(1), Some(Duration::from_secs(90)));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_started_again_and_again_has_one_share_and_keeps_the_silence() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let start = || with(Some(Ledger::beside(&journal)), clock);
    let began = Instant::now();
    for _ in 0..6 {
        start().spend(3).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(start().must_wait(2), None);
    let minute = Duration::from_secs(60);
    assert_eq!(start().must_wait(3), Some(minute));
    start().spend(3).await;
    assert!(began.elapsed() >= minute, "{:?}", began.elapsed());
    start().block();
    let silence = start().must_wait(1).unwrap();
    assert_eq!(silence, Duration::from_secs(120));
    tokio::time::sleep(silence).await;
    assert_eq!(start().must_wait(20), None);
}

#[tokio::test(start_paused = true)]
async fn two_processes_spend_from_one_share() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let [one, two] = [(); 2].map(|()| with(Some(Ledger::beside(&journal)), clock));
    one.spend(10).await;
    two.spend(10).await;
    assert!(one.must_wait(1).is_some() && two.must_wait(1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_makes_no_sense_counts_as_spent_and_one_that_cannot_be_used_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    std::fs::write(folder.path().join("journal.db.budget"), "{\"spent\":[17").unwrap();
    let budget = with(Some(Ledger::beside(&journal)), clock);
    assert_eq!(budget.must_wait(1), Some(Duration::from_secs(60)));

    let nowhere = folder.path().join("no").join("such").join("folder");
    let budget = with(Some(Ledger::beside(&nowhere)), clock);
    budget.spend(20).await;
    assert!(budget.must_wait(1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_neither_frees_the_share_nor_locks_it_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.db");
    let ahead = || Timestamp(clock().0 + 3_600_000_000_000);
    let budget = with(Some(Ledger::beside(&journal)), ahead);
    budget.spend(20).await;
    budget.block();
    let budget = with(Some(Ledger::beside(&journal)), clock);
    let began = Instant::now();
    budget.spend(20).await;
    let waited = began.elapsed().as_secs();
    assert!((120..=181).contains(&waited), "{waited} s");
}
