//! Each way to log in to NATS, at a real server that knows no other: it delivers, and what is wrong is
//! told by the name of its option, and never by its content.

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use onboarding_bridge::certificates::served::{self, Greeting};
use onboarding_bridge::sink::nats::tail::ensure_stream;
use onboarding_bridge::sink::{ErrorClass, Sink};
use serde_json::{Value, json};

use super::{as_admin, sink};
use crate::support::beds::OwnBed;
use crate::support::certificates::{Authority, Issued, ends_within_two_days};
use crate::support::records::records;

const CANARY: &str = "canary-8e";

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// The stream of the sinks, by somebody who logs in with these options.
async fn create_stream(options: ConnectOptions, url: &str) {
    let stream = stream::Config {
        name: "OK".to_owned(),
        subjects: vec!["ok.users.>".to_owned()],
        ..stream::Config::default()
    };
    let context = jetstream::new(options.connect(url).await.unwrap());
    context.create_stream(stream).await.unwrap();
}

/// Publishes some records with these options, and finds them.
async fn delivers(url: &str, more: &str) {
    let mut sink = sink(url, "OK", "ok.users", more);
    sink.open().await.unwrap();
    let batch = records(20, 5);
    sink.publish(&batch).await.unwrap();
    assert_eq!(sink.held(batch[0].received_at).await.unwrap().len(), 20);
}

/// A matter of configuration, told with these words and without a secret.
async fn is_refused(url: &str, more: &str, words: &[&str], secret: &str) {
    let error = sink(url, "OK", "ok.users", more).open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    for word in words.iter().chain(&[url]) {
        assert!(error.message.contains(word), "no {word} in {error}");
    }
    assert!(!format!("{error:?}").contains(secret), "{error:?}");
}

fn option(name: &str, file: &tempfile::NamedTempFile) -> String {
    format!(", {name}: '{}'", file.path().display())
}

#[tokio::test]
async fn a_users_nkey_lets_in_and_another_does_not() {
    let (known, foreign) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!(
        "{{ users: [ {{ user: admin, password: a }}, {{ nkey: {} }} ] }}",
        known.public_key()
    );
    let bed = OwnBed::nats(&[&format!("authorization={users}")]);
    ensure_stream(&as_admin(&bed), "OK", "ok.users")
        .await
        .unwrap();
    let seed = |pair: &KeyPair| file(&(pair.seed().unwrap() + "\n"));
    delivers(&bed.address, &option("nkey_seed_file", &seed(&known))).await;
    let (wrong, secret) = (seed(&foreign), foreign.seed().unwrap());
    let words = ["`nkey_seed_file`", &wrong.path().display().to_string()];
    is_refused(
        &bed.address,
        &option("nkey_seed_file", &wrong),
        &words,
        &secret,
    )
    .await;
    // What is no seed at all, and no login where the server wants one.
    let none = file(CANARY);
    let more = option("nkey_seed_file", &none);
    is_refused(&bed.address, &more, &["`nkey_seed_file`"], CANARY).await;
    is_refused(
        &bed.address,
        "",
        &["this sink has none", "`nkey_seed_file`"],
        CANARY,
    )
    .await;
}

#[tokio::test]
async fn a_token_lets_in_and_another_does_not() {
    let bed = OwnBed::nats(&["authorization={ token: right-token }"]);
    let token = ConnectOptions::with_token("right-token".to_owned());
    create_stream(token, &bed.address).await;
    delivers(&bed.address, &option("token_file", &file("right-token\n"))).await;
    let wrong = file(CANARY);
    let more = option("token_file", &wrong);
    is_refused(&bed.address, &more, &["`token_file`"], CANARY).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_with_its_user_and_its_file() {
    let bed = OwnBed::nats(&["authorization={ users: [ { user: admin, password: a } ] }"]);
    ensure_stream(&as_admin(&bed), "OK", "ok.users")
        .await
        .unwrap();
    let (right, wrong) = (file("a"), file(CANARY));
    let more = |password| ", user: admin".to_owned() + &option("password_file", password);
    delivers(&bed.address, &more(&right)).await;
    let words = ["`user` admin", "`password_file`"];
    is_refused(&bed.address, &more(&wrong), &words, CANARY).await;
}

/// A token of NATS: claims of an issuer about a subject, signed by the issuer.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = part(&json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": "test", "sub": subject.public_key(), "nats": nats
    }));
    let signature = issuer
        .sign(format!("{header}.{claims}").as_bytes())
        .unwrap();
    format!(
        "{header}.{claims}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(signature)
    )
}

/// The file of a user of this account.
fn credentials(account: &KeyPair) -> (tempfile::NamedTempFile, String) {
    let user = KeyPair::new_user();
    let seed = user.seed().unwrap();
    let may_all = json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1,
        "payload": -1});
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
        jwt(account, &user, may_all)
    );
    (file(&text), seed)
}

/// A server that believes an operator, who knows this account and one for the server itself.
fn of_operator(operator: &KeyPair, account: &KeyPair) -> OwnBed {
    let system = KeyPair::new_account();
    let of_operator = jwt(
        operator,
        operator,
        json!({"type": "operator", "version": 2}),
    );
    let unlimited = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1});
    let mut with_jetstream = unlimited.clone();
    for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
        with_jetstream[limit] = (-1).into();
    }
    let of = |account: &KeyPair, limits: Value| {
        let claims = json!({"type": "account", "version": 2, "limits": limits,
            "default_permissions": {"pub": {}, "sub": {}}});
        format!(
            "{}: {}",
            account.public_key(),
            jwt(operator, account, claims)
        )
    };
    let accounts = [of(account, with_jetstream), of(&system, unlimited)];
    OwnBed::nats(&[
        &format!("operator={of_operator}"),
        "resolver=MEMORY",
        &format!("system_account={}", system.public_key()),
        &format!("resolver_preload={{ {} }}", accounts.join(", ")),
    ])
}

#[tokio::test]
async fn a_credentials_file_lets_in_and_one_of_another_account_does_not() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let bed = of_operator(&operator, &account);
    let (right, _) = credentials(&account);
    let options = ConnectOptions::with_credentials_file(right.path());
    create_stream(options.await.unwrap(), &bed.address).await;
    delivers(&bed.address, &option("credentials_file", &right)).await;
    let (wrong, seed) = credentials(&KeyPair::new_account());
    let words = ["`credentials_file`", &wrong.path().display().to_string()];
    is_refused(
        &bed.address,
        &option("credentials_file", &wrong),
        &words,
        &seed,
    )
    .await;
}

#[tokio::test]
async fn a_client_certificate_lets_in_and_none_or_a_foreign_one_does_not() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let server = authority.issue();
    for (name, content) in [
        ("server.pem", &server.certificate),
        ("server.key", &server.key),
        ("clients.pem", &authority.pem),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let at = folder.path().display();
    let tls = format!(
        "tls={{ cert_file: \"{at}/server.pem\", key_file: \"{at}/server.key\", \
         ca_file: \"{at}/clients.pem\", verify: true }}"
    );
    // The test itself comes without.
    let bed = OwnBed::nats(&[&tls, "allow_non_tls=true"]);
    ensure_stream(&bed.address, "OK", "ok.users").await.unwrap();
    let url = bed.address.replace("nats://", "tls://");
    let (_, port) = url.rsplit_once(':').unwrap();
    let ends = served::ends("127.0.0.1", port.parse().unwrap(), Greeting::Line).await;
    assert!(ends.is_some_and(ends_within_two_days), "{ends:?}");
    let client = |client: &Issued| {
        let (certificate, key) = (file(&client.certificate), file(&client.key));
        let more = option("client_cert_file", &certificate) + &option("client_key_file", &key);
        (more, [certificate, key])
    };
    let (known, _files) = client(&authority.issue());
    let (unknown, _more_files) = client(&foreign.issue());
    let (ours, theirs) = (file(&authority.pem), file(&foreign.pem));
    let (trusts, trusts_another) = (option("ca_file", &ours), option("ca_file", &theirs));
    delivers(&url, &(trusts.clone() + &known)).await;
    let words = ["`ca_file`", "`client_cert_file`"];
    for more in [trusts_another + &known, trusts.clone() + &unknown, trusts] {
        is_refused(&url, &more, &words, "BEGIN").await;
    }
}
