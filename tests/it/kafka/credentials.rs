//! Each way to log in to Kafka, at a real broker that knows no other: it delivers, and what is wrong is
//! told by the name of its option, and never by its content.

use std::io::Write as _;
use std::path::Path;

use onboarding_bridge::certificates::served::{self, Greeting};
use onboarding_bridge::sink::kafka::tail::ensure_topic;
use onboarding_bridge::sink::{ErrorClass, Sink};

use super::{numbers, sink};
use crate::support::beds::OwnBed;
use crate::support::certificates::{Authority, Issued, ends_within_two_days};
use crate::support::kafka_admin::{grant, set_password};
use crate::support::oracle::read_by_java;
use crate::support::records::records;
use crate::support::unique;

const ALL: [&str; 3] = ["WRITE", "DESCRIBE", "READ"];
const CANARY: &str = "canary-5d";

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{content}").unwrap();
    file
}

/// Publishes some records by these options.
async fn delivers(bed: &OwnBed, topic: &str, options: &str) {
    let mut sink = sink(&bed.address, topic, options);
    sink.open().await.unwrap();
    sink.publish(&records(20, 5)).await.unwrap();
    sink.close().await.unwrap();
    let found = read_by_java(&bed.direct, topic);
    assert_eq!(numbers(&found).len(), 20);
}

/// A matter of configuration, told with these words and without a secret.
async fn is_refused(bed: &OwnBed, topic: &str, options: &str, words: &[&str]) {
    let error = sink(&bed.address, topic, options).open().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    for word in words.iter().chain(&[bed.address.as_str()]) {
        assert!(error.message.contains(word), "no {word} in {error}");
    }
    for secret in [CANARY, "bridge-secret", "BEGIN"] {
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
}

/// The settings of a broker whose clients come by TLS; what it has is in the folder.
fn by_tls(folder: &Path, authority: &Authority, protocol: &str, clients: &str) -> Vec<String> {
    let server = authority.issue();
    std::fs::write(folder.join("server.pem"), server.key + &server.certificate).unwrap();
    std::fs::write(folder.join("clients.pem"), &authority.pem).unwrap();
    let at = |store: &str, file: &str| {
        let path = folder.join(file);
        format!(
            "listener.name.client.ssl.{store}.location={}",
            path.display()
        )
    };
    vec![
        format!(
            "listener.security.protocol.map=CLIENT:{protocol},CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT"
        ),
        format!("listener.name.client.ssl.client.auth={clients}"),
        "listener.name.client.ssl.keystore.type=PEM".to_owned(),
        "listener.name.client.ssl.truststore.type=PEM".to_owned(),
        at("keystore", "server.pem"),
        at("truststore", "clients.pem"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_lets_in_and_none_or_a_foreign_one_does_not() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let settings = by_tls(folder.path(), &authority, "SSL", "required");
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let bed = OwnBed::kafka(&settings);
    let topic = unique("mtls");
    ensure_topic(&bed.direct, &topic, 1).await.unwrap();
    let trust = |authority: &Authority| file(&authority.pem);
    let options = |trusted: &tempfile::NamedTempFile, more: &str| {
        format!(
            "{{security.protocol: ssl, ssl.ca.pem_file: '{}'{more}}}",
            trusted.path().display()
        )
    };
    let (ours, theirs) = (trust(&authority), trust(&foreign));
    let client = |client: &Issued| {
        let (certificate, key) = (file(&client.certificate), file(&client.key));
        let (at, key_at) = (certificate.path().display(), key.path().display());
        let more = format!(", ssl.certificate.pem_file: '{at}', ssl.key.pem_file: '{key_at}'");
        (more, [certificate, key])
    };
    let (known, _files) = client(&authority.issue());
    let (unknown, _more_files) = client(&foreign.issue());
    delivers(&bed, &topic, &options(&ours, &known)).await;
    let words = ["`options.ssl.ca.pem_file`"];
    // The server is not the one that is trusted; the client is not known; there is no client.
    is_refused(&bed, &topic, &options(&theirs, &known), &words).await;
    let certificate = ["`options.ssl.certificate.pem_file`"];
    is_refused(&bed, &topic, &options(&ours, &unknown), &certificate).await;
    is_refused(&bed, &topic, &options(&ours, ""), &words).await;
    // Whom it trusts by default does not know the authority of a test.
    is_refused(&bed, &topic, "{security.protocol: ssl}", &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_within_tls_lets_in_and_another_does_not() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = vec!["--profile".to_owned(), "acl".to_owned()];
    for setting in by_tls(folder.path(), &authority, "SASL_SSL", "none") {
        settings.extend(["--set".to_owned(), setting]);
    }
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let bed = OwnBed::kafka_with(&settings);
    let (_, port) = bed.address.rsplit_once(':').unwrap();
    let ends = served::ends("127.0.0.1", port.parse().unwrap(), Greeting::None).await;
    assert!(ends.is_some_and(ends_within_two_days), "{ends:?}");
    let topic = unique("sasl-ssl");
    ensure_topic(&bed.direct, &topic, 1).await.unwrap();
    grant(&bed.direct, "bridge", &format!("topic:{topic}"), &ALL);
    let trusted = file(&authority.pem);
    let options = |password: &tempfile::NamedTempFile| {
        format!(
            "{{security.protocol: sasl_ssl, ssl.ca.pem_file: '{}', sasl.mechanism: PLAIN, \
             sasl.username: bridge, sasl.password_file: '{}'}}",
            trusted.path().display(),
            password.path().display()
        )
    };
    delivers(&bed, &topic, &options(&file("bridge-secret\n"))).await;
    let wrong = file(CANARY);
    let words = ["`options.sasl.username`", "`options.sasl.password_file`"];
    is_refused(&bed, &topic, &options(&wrong), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_by_scram_with_sha_512_lets_in_and_another_does_not() {
    let jaas = "listener.name.client.scram-sha-512.sasl.jaas.config=\
        org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let bed = OwnBed::kafka_with(&[
        "--profile",
        "acl",
        "--set",
        "listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512",
        "--set",
        jaas,
    ]);
    let topic = unique("scram");
    ensure_topic(&bed.direct, &topic, 1).await.unwrap();
    set_password(&bed.direct, "bridge", "bridge-secret");
    grant(&bed.direct, "bridge", &format!("topic:{topic}"), &ALL);
    let options = |mechanism: &str, password: &tempfile::NamedTempFile| {
        format!(
            "{{security.protocol: sasl_plaintext, sasl.mechanism: {mechanism}, sasl.username: bridge, \
             sasl.password_file: '{}'}}",
            password.path().display()
        )
    };
    let (right, wrong) = (file("bridge-secret"), file(CANARY));
    delivers(&bed, &topic, &options("SCRAM-SHA-512", &right)).await;
    let words = ["`options.sasl.password_file`"];
    is_refused(&bed, &topic, &options("SCRAM-SHA-512", &wrong), &words).await;
    // The broker says which ways it knows.
    let words = ["`options.sasl.mechanism`", "SCRAM-SHA-512"];
    is_refused(&bed, &topic, &options("PLAIN", &right), &words).await;
}
