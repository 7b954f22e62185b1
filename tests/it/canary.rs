//! Canaries: everything personal that a vendor can send, and every secret, goes through every path of the
//! real program under each policy, and every byte that comes of it is searched.
//!
//! `canary/scanner.rs` knows the forms in which a careless program could write a canary, `canary/corpus.rs`
//! has one in each spot of everything that a vendor sends, `canary/row.rs` runs the program under one policy
//! and knows where which canary may be, and must be. The rows are here: each policy of every kind is in
//! several of them.

mod buses;
mod corpus;
mod refusals;
mod row;
mod scanner;

use row::{Row, run};

/// Each policy for a field, in turn: every field has another one.
const MIXED: &[&str] = &["keep", "drop", "mask", "hmac"];
const MIXED_OTHERWISE: &[&str] = &[
    "hmac", "mask", "keep", "keep", "drop", "drop", "hmac", "mask",
];

/// Without a token, fields or anything else that is hidden: the most that a journal can hold.
const PLAIN: Row = Row {
    token: "drop",
    key: "plain",
    fields: &["keep"],
    encrypted: false,
    pruned: false,
    refused: false,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_in_the_sink_and_the_journal_and_nowhere_else() {
    run(PLAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_not_in_an_encrypted_journal() {
    run(Row {
        encrypted: true,
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_leaves_the_journal_when_it_is_pruned() {
    run(Row {
        pruned: true,
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_nowhere() {
    run(Row {
        key: "hmac",
        fields: &["drop"],
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_masked_is_nowhere() {
    run(Row {
        token: "fingerprint",
        fields: &["mask"],
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hashed_is_nowhere() {
    run(Row {
        token: "fingerprint",
        key: "hmac",
        fields: &["hmac"],
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_forwarded_is_where_records_are_and_nowhere_else() {
    run(Row {
        token: "forward",
        fields: &["drop"],
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_forwarded_is_not_in_an_encrypted_journal() {
    run(Row {
        token: "forward",
        key: "hmac",
        encrypted: true,
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_encrypted_is_read_by_its_consumer_alone() {
    run(Row {
        token: "encrypt",
        key: "hmac",
        fields: MIXED,
        ..PLAIN
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_has_its_own_policy_in_an_encrypted_journal_that_is_pruned() {
    run(Row {
        token: "encrypt",
        fields: MIXED_OTHERWISE,
        encrypted: true,
        pruned: true,
        ..PLAIN
    })
    .await;
}
