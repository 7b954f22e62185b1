//! What a vendor can send of a person, and every wrong way to send it, with a canary in each spot.
//!
//! It only writes; each canary has a name, `person.spot`, by which a row says where it may be.

use onboarding_bridge::event::FEED_NAME;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::scanner::Canary;

/// The vendor's other feeds begin like ours.
const FOREIGN: &str = "private.enterprise.users.balances";

/// More than `feed.max_frame_bytes` of a row.
const HUGE: usize = 70_000;

/// More than a topic takes that refuses large records.
const LARGE: usize = 8000;

/// A frame as a test gives it to the simulator.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    /// A payload for a recipient, with the next number.
    Envelope(String, String),
    Text(String),
    Binary(Vec<u8>),
}

impl Sent {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Envelope(recipient, payload) => format!("{recipient} {payload}").into_bytes(),
            Self::Text(text) => text.clone().into_bytes(),
            Self::Binary(bytes) => bytes.clone(),
        }
    }

    fn ours(payload: &Value) -> Self {
        Self::Envelope(FEED_NAME.to_owned(), payload.to_string())
    }
}

/// All canaries of one row.
#[derive(Debug)]
pub(super) struct Corpus {
    salt: String,
    pub(super) canaries: Vec<Canary>,
}

impl Corpus {
    pub(super) fn new(salt: &str) -> Self {
        Self {
            salt: salt.to_owned(),
            canaries: Vec::new(),
        }
    }

    fn digest(&self, name: &str) -> [u8; 18] {
        let digest: [u8; 32] = Sha256::digest(format!("{} {name}", self.salt)).into();
        *digest.first_chunk().unwrap()
    }

    fn note(&mut self, name: &str, text: &str) {
        if self.canaries.iter().all(|canary| canary.name != name) {
            let (name, text) = (name.to_owned(), text.to_owned());
            self.canaries.push(Canary { name, text });
        }
    }

    /// A canary of letters and digits in turn: nobody takes it for one of the vendor's names.
    pub(super) fn word(&mut self, name: &str) -> String {
        let character = |(place, byte): (usize, u8)| match place % 2 {
            0 => char::from(b'a' + byte % 26),
            _ => char::from(b'0' + byte % 10),
        };
        let digest = self.digest(name).into_iter().enumerate();
        let text: String = digest.map(character).collect();
        self.note(name, &text);
        text
    }

    /// A canary of digits alone.
    fn number(&mut self, name: &str) -> String {
        let digits = self.digest(name).map(|byte| char::from(b'0' + byte % 10));
        let text: String = digits.iter().take(16).collect();
        self.note(name, &text);
        text
    }

    /// A payload of the feed, or an entry of the list, about the person `id`, told for the `who`th time.
    pub(super) fn person(&mut self, id: &str, who: &str) -> Value {
        let mut word = |spot: &str| self.word(&format!("{who}.{spot}"));
        let email = format!("{}@example.test", word("email"));
        let (requirement, unknown) = (word("requirement"), word("unknown_name"));
        let mut payload = json!({
            "account_type": word("account_type"),
            "account_role": word("account_role"),
            "email": email,
            "first_name": word("first_name"),
            "last_name": word("last_name"),
            "status": word("status"),
            "requirements": {"kyc": {"note": word("note")}, requirement: true},
            "advisor_user_id": word("advisor"),
            "user_token": {"token": word("token"), "expires": word("expires"),
                "partner_user_id": word("partner")},
            "unknown": {"nested": [word("unknown_value")]},
            unknown: word("unknown_too"),
        });
        payload["user_id"] = self.word(&format!("{id}.user_id")).into();
        payload["phone_number"] =
            format!("+{}", self.number(&format!("{who}.phone_number"))).into();
        payload
    }

    /// Messages that become events: a user twice, one whose payload is a text and whose token is bare, and
    /// one whose record is large.
    pub(super) fn messages(&mut self) -> Vec<Sent> {
        let first = self.person("heard", "heard");
        let again = self.person("heard", "heard-again");
        let mut spoken = self.person("spoken", "spoken");
        let token = spoken["user_token"]["token"].take();
        replace(&mut spoken, "user_token", token);
        let text = json!({"recipient": FEED_NAME, "timestamp": 1_750_000_000_000_000_000_u64,
            "payload": spoken.to_string()});
        let mut large = self.person("large", "large");
        // It cannot be compressed.
        let noise: Vec<u8> = (0..LARGE)
            .map(|_| b'a' + rand::random::<u8>() % 26)
            .collect();
        large["requirements"]["noise"] = String::from_utf8(noise).unwrap().into();
        vec![
            Sent::ours(&first),
            Sent::ours(&again),
            Sent::Text(text.to_string()),
            Sent::ours(&large),
        ]
    }

    /// Frames that become dead letters.
    pub(super) fn malformed(&mut self) -> Vec<Sent> {
        let mut frames = Vec::new();
        let mut ours = |corpus: &mut Self, who: &str, spoil: &dyn Fn(&mut Value, String)| {
            let mut payload = corpus.person(who, who);
            spoil(&mut payload, corpus.word(&format!("{who}.bad")));
            frames.push(Sent::ours(&payload));
        };
        ours(self, "bad-field", &|payload, bad| {
            replace(payload, "email", json!([bad]));
        });
        ours(self, "bad-object", &|payload, bad| {
            replace(payload, "phone_number", json!({bad.as_str(): bad}));
        });
        ours(self, "bad-id", &|payload, bad| {
            replace(payload, "user_id", json!([bad]))
        });
        ours(self, "no-id", &|payload, bad| {
            replace(payload, "user_id", Value::Null);
            payload[bad] = true.into();
        });
        ours(self, "long-id", &|payload, bad| {
            replace(payload, "user_id", bad.repeat(60).into());
        });
        ours(self, "list", &|payload, bad| {
            *payload = json!([payload, bad])
        });
        ours(self, "words", &|payload, bad| {
            *payload = format!("{payload} {bad}").into();
        });
        let foreign = self.person("foreign", "foreign");
        let (recipient, payload) = (self.word("foreign.recipient"), foreign.to_string());
        frames.push(Sent::Envelope(FOREIGN.to_owned(), payload.clone()));
        frames.push(Sent::Envelope(recipient, payload));
        frames.extend(self.odd_texts());
        let binary = self.person("binary", "binary").to_string();
        frames.push(Sent::Binary(binary.into_bytes()));
        frames
    }

    /// Texts that are no message of any feed.
    fn odd_texts(&mut self) -> Vec<Sent> {
        let person = self.person("odd", "odd");
        let mut word = |spot: &str| self.word(&format!("odd.{spot}"));
        // Its `type` is a list: else it would be a reply.
        let unrecognised = json!({"type": [word("type")], "action": word("action"),
            word("key"): word("value"), "sequence": word("sequence"),
            "timestamp": word("timestamp"), "payload": person});
        let ours = json!({"recipient": FEED_NAME, "type": word("our-type"), "action": word("our-action"),
            "sequence": word("our-sequence"), "timestamp": word("our-timestamp"),
            "payload": {"user_id": [word("our-id")], word("our-key"): {word("our-deep-key"): 1}}});
        let html = format!("<html><body>{}</body></html>", word("html"));
        let text = json!(word("text")).to_string();
        let items = json!([word("item"), {word("item-key"): person}]).to_string();
        let mut cut = person.to_string();
        cut.truncate(cut.len() - 1);
        let filler = "x".repeat(HUGE);
        let mut huge = self.person("huge", "huge");
        huge["last_name"] = format!("{}{filler}", huge["last_name"].as_str().unwrap()).into();
        let huge = json!({"recipient": FEED_NAME, "payload": huge}).to_string();
        [
            unrecognised.to_string(),
            ours.to_string(),
            html,
            text,
            items,
            cut,
            huge,
        ]
        .map(Sent::Text)
        .into()
    }

    /// Refusals that quote somebody, and the key that was given to them.
    pub(super) fn refusals(&mut self, api_key: &str) -> Vec<String> {
        let mut word = |spot: &str| self.word(&format!("refusal.{spot}"));
        let person = word("person");
        let refusal = json!({"type": "error", "error": format!("no right for {person}"),
            "message": format!("invalid key {api_key}"), "code": word("code"),
            "action": word("action"), "payload": {"reason": word("reason"), "action": word("deep-action"),
            "message": format!("{}@example.test", word("email"))}});
        let other =
            json!({"type": word("type"), "error": word("error"), word("key"): word("value")});
        vec![refusal.to_string(), other.to_string()]
    }

    /// A list with entries that can be read and entries that cannot.
    pub(super) fn half_a_list(&mut self) -> String {
        let listed = self.person("listed", "listed");
        let mut bad = |who: &str, spoil: &dyn Fn(&mut Value, String)| {
            let mut entry = self.person(who, who);
            spoil(&mut entry, self.word(&format!("{who}.bad")));
            entry
        };
        let entries = [
            bad("entry-field", &|entry, bad| {
                replace(entry, "email", json!({bad.as_str(): [bad]}))
            }),
            bad("entry-id", &|entry, bad| {
                replace(entry, "user_id", json!({bad.as_str(): bad}))
            }),
            bad("entry-text", &|entry, bad| {
                *entry = format!("{entry} {bad}").into()
            }),
            bad("entry-list", &|entry, bad| *entry = json!([bad, entry])),
            listed,
        ];
        json!({"data": entries, self.word("list.key"): self.word("list.value")}).to_string()
    }

    /// A whole list: one user is as only the list knows, one is gone.
    pub(super) fn list(&mut self) -> String {
        let entries = [
            self.person("listed", "listed-again"),
            self.person("heard", "heard-listed"),
        ];
        json!({"data": entries}).to_string()
    }

    /// Bodies that are no list.
    pub(super) fn no_lists(&mut self) -> Vec<String> {
        let person = self.person("body", "body");
        let mut word = |spot: &str| self.word(&format!("body.{spot}"));
        let html = format!("<html><title>{}</title>{person}</html>", word("html"));
        let wrong = json!({"data": word("data"), "error": word("error")}).to_string();
        let without = json!({word("key"): [person]}).to_string();
        let cut = format!("{{\"data\":[{person},{{\"email\":\"{}", word("cut"));
        vec![html, wrong, without, cut]
    }
}

/// Puts something in the place of a value, which stays where nobody looks for it.
fn replace(payload: &mut Value, name: &str, value: Value) {
    payload["elsewhere"] = std::mem::replace(&mut payload[name], value);
}
