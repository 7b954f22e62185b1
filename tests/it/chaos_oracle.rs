//! The oracle of the chaos harness finds each kind of fault: a clean run is made wrong in one place.

#[allow(dead_code, reason = "the harness uses the rest of it")]
#[path = "../chaos/oracle.rs"]
mod oracle;

use oracle::{Evidence, Fault, Journalled, Landed, Verdict, Window, Written, judge};

const USERS: u64 = 3;
const RECORDS: u64 = 30;

fn user(place: u64) -> String {
    format!("client_{}", place % USERS)
}

fn counter(place: u64) -> u32 {
    u32::try_from(place / USERS + 1).unwrap()
}

fn id(place: u64) -> [u8; 16] {
    u128::from(place + 1).to_be_bytes()
}

/// Thirty messages of three users: heard in order, and once in both destinations.
fn clean() -> Evidence {
    let landed: Vec<Landed> = (0..RECORDS)
        .map(|place| Landed {
            partition: 0,
            offset: place.cast_signed(),
            id: id(place),
            user: user(place),
            digest: place,
        })
        .collect();
    Evidence {
        written: (0..RECORDS)
            .map(|place| Written {
                connection: 1,
                at: 1_000 + place.cast_signed(),
                user: user(place),
                counter: counter(place),
            })
            .collect(),
        registry: (RECORDS - USERS..RECORDS)
            .map(|place| (user(place), counter(place)))
            .collect(),
        journal: (0..RECORDS)
            .map(|place| Journalled {
                position: place + 1,
                id: id(place),
                user: user(place),
                counter: counter(place),
                of_feed: true,
                digest: place,
            })
            .collect(),
        windows: vec![Window {
            from: 900,
            to: Some(999),
            healed: true,
        }],
        dead_letters: 0,
        sinks: vec![("kafka", landed.clone()), ("nats", landed)],
    }
}

/// The verdict on a clean run after this change.
fn with(change: impl FnOnce(&mut Evidence)) -> Verdict {
    let mut evidence = clean();
    change(&mut evidence);
    judge(&evidence)
}

/// It has exactly these faults, and no other.
fn has(verdict: &Verdict, faults: &[(Fault, u64)]) {
    for fault in Fault::ALL {
        let wanted = faults.iter().find(|(named, _)| *named == fault);
        let wanted = wanted.map_or(0, |(_, count)| *count);
        assert_eq!(verdict.count(fault), wanted, "{fault:?}\n{verdict}");
    }
    assert_eq!(verdict.is_clean(), faults.is_empty());
}

#[test]
fn the_oracle_has_nothing_to_say_of_a_clean_run() {
    let verdict = with(|_| {});
    has(&verdict, &[]);
    assert_eq!((verdict.heard, verdict.unheard), (RECORDS, 0));
    assert_eq!(verdict.landed["nats"], RECORDS);
}

#[test]
fn the_oracle_finds_a_record_that_a_destination_lacks() {
    for sink in 0..2 {
        let verdict = with(|run| {
            run.sinks[sink].1.remove(7);
        });
        has(&verdict, &[(Fault::Lost, 1)]);
    }
}

#[test]
fn the_oracle_finds_a_record_that_is_there_twice() {
    let verdict = with(|run| {
        let twin = run.sinks[0].1[7].clone();
        run.sinks[0].1.push(twin);
    });
    has(&verdict, &[(Fault::Doubled, 1)]);
}

#[test]
fn the_oracle_finds_two_records_of_a_user_that_were_swapped() {
    let verdict = with(|run| run.sinks[1].1.swap(7, 7 + 3));
    // The later one, and the one that the two stood around.
    assert!(verdict.count(Fault::OutOfOrder) >= 1, "{verdict}");
    assert_eq!(
        verdict.count(Fault::Lost) + verdict.count(Fault::Doubled),
        0
    );
}

#[test]
fn the_oracle_lets_records_of_different_users_overtake_each_other() {
    has(&with(|run| run.sinks[1].1.swap(7, 8)), &[]);
}

#[test]
fn the_oracle_finds_a_user_in_two_partitions() {
    let verdict = with(|run| run.sinks[0].1[29].partition = 1);
    has(&verdict, &[(Fault::OutOfOrder, 1)]);
}

#[test]
fn the_oracle_finds_what_was_not_heard_outside_of_every_window() {
    let unheard = |run: &mut Evidence| {
        run.journal.remove(7);
        for (_, landed) in &mut run.sinks {
            landed.remove(7);
        }
    };
    let verdict = with(unheard);
    has(&verdict, &[(Fault::Unexplained, 1)]);
    assert_eq!((verdict.heard, verdict.unheard), (RECORDS - 1, 1));
    // The same is explained by a window.
    let verdict = with(|run| {
        unheard(run);
        run.windows.push(Window {
            from: 1_007,
            to: Some(1_007),
            healed: true,
        });
    });
    has(&verdict, &[]);
    assert_eq!(verdict.unheard, 1);
}

#[test]
fn the_oracle_finds_a_user_that_does_not_end_as_the_vendor_says() {
    let verdict = with(|run| {
        run.registry.insert(user(0), 99);
        run.registry.insert("client_new".to_owned(), 1);
    });
    has(&verdict, &[(Fault::Unexplained, 2)]);
}

#[test]
fn the_oracle_finds_what_nobody_sent() {
    let verdict = with(|run| {
        run.written.remove(7);
    });
    has(&verdict, &[(Fault::Unexplained, 1)]);
    let verdict = with(|run| run.sinks[0].1[7].id = [0xff; 16]);
    has(&verdict, &[(Fault::Lost, 1), (Fault::Unexplained, 1)]);
}

#[test]
fn the_oracle_finds_other_bytes_and_other_keys() {
    let verdict = with(|run| run.sinks[0].1[7].digest = 0);
    has(&verdict, &[(Fault::Unexplained, 1)]);
    let verdict = with(|run| run.sinks[0].1[29].user = "client_9".to_owned());
    has(&verdict, &[(Fault::Unexplained, 1)]);
}

#[test]
fn the_oracle_finds_a_journal_that_repeats_or_reorders() {
    let verdict = with(|run| {
        run.journal[7].counter = run.journal[4].counter;
    });
    assert_eq!(verdict.count(Fault::Doubled), 1, "{verdict}");
    let verdict = with(|run| {
        let counter = run.journal[7].counter;
        run.journal[7].counter = run.journal[10].counter;
        run.journal[10].counter = counter;
    });
    assert!(verdict.count(Fault::OutOfOrder) >= 1, "{verdict}");
}

#[test]
fn the_oracle_finds_open_windows_and_dead_letters() {
    let open = |healed, to| {
        with(|run| {
            run.windows.push(Window {
                from: 2_000,
                to,
                healed,
            });
        })
    };
    has(&open(false, None), &[(Fault::Unexplained, 1)]);
    has(&open(false, Some(2_001)), &[(Fault::Unexplained, 1)]);
    has(
        &with(|run| run.dead_letters = 1),
        &[(Fault::Unexplained, 1)],
    );
}
