//! Everything that the simulated vendor can be told while it runs, as a value.
//!
//! One enum serves the script and the control endpoint; what each does is in
//! [`Control`], once. It holds no state and does no I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Span;

use super::control::Control;
use super::options::{
    AuthMode, BlockForm, DripBy, EnterpriseForm, Noise, Oddity, RestMode, SubscribeMode,
    UpgradeMode,
};

/// One thing to do, written as `{"name": {arguments}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "docs/simulator.md says what each does")]
pub enum Action {
    Step {
        #[serde(default = "one")]
        n: u64,
    },
    Event {
        user: u32,
    },
    Odd {
        shape: Oddity,
        #[serde(default = "one")]
        n: u64,
    },
    Noise {
        frame: Noise,
    },
    Gap {
        #[serde(default = "one")]
        n: u64,
    },
    Reorder {
        #[serde(default = "one")]
        n: u64,
    },
    Repeat {},
    SameEnvelope {
        #[serde(default)]
        user: u32,
    },
    RestartNumbers {
        #[serde(default = "one")]
        at: u64,
    },
    RawText {
        text: String,
    },
    RawBinary {
        hex: String,
    },
    Envelope {
        recipient: String,
        payload: Value,
    },
    Snapshot {},
    Drip {
        by: DripBy,
        #[serde(default = "drip_interval")]
        interval: Span,
    },
    Close {
        #[serde(default = "going_away")]
        code: u16,
    },
    CloseWithoutCode {},
    Eof {},
    Reset {},
    Stall {
        #[serde(default = "yes")]
        on: bool,
    },
    Mute {
        #[serde(default = "yes")]
        on: bool,
    },
    Pings {
        #[serde(default = "yes")]
        on: bool,
    },
    WithholdPongs {
        #[serde(default = "yes")]
        on: bool,
    },
    StopReading {
        #[serde(default = "yes")]
        on: bool,
    },
    Down {
        #[serde(default = "yes")]
        on: bool,
    },
    Block {
        span: Span,
        #[serde(default)]
        form: Option<BlockForm>,
    },
    Upgrade {
        mode: UpgradeMode,
    },
    Auth {
        mode: AuthMode,
    },
    Enterprise {
        form: EnterpriseForm,
    },
    Subscribe {
        mode: SubscribeMode,
    },
    OldReplies {
        #[serde(default = "yes")]
        on: bool,
    },
    RotateKey {
        key: String,
    },
    Rest {
        mode: RestMode,
    },
    RestLag {
        span: Span,
    },
    RestLacks {
        share: f64,
    },
    ChangeSilently {
        #[serde(default = "one")]
        n: u64,
    },
    RemoveUser {
        user: u32,
    },
    Pause {},
    Resume {},
    Rate {
        events_per_second: f64,
    },
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ActionError {
    /// It names a user that does not exist, or was removed.
    #[error("there is no user {0}")]
    NoSuchUser(u32),
    /// It holds something else than bytes in hex.
    #[error("not hex: {0}")]
    Hex(String),
    /// A number is out of its range.
    #[error("{0}")]
    Range(&'static str),
}

/// So many events or users one action is about at most: it holds the world for as long as it takes.
const COUNT_MAX: u64 = 1_000_000;

const fn one() -> u64 {
    1
}

const fn yes() -> bool {
    true
}

const fn going_away() -> u16 {
    super::session::GOING_AWAY
}

const fn drip_interval() -> Span {
    Span(Duration::from_millis(20))
}

impl Action {
    /// Its name, without its arguments.
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        let name = value.as_object().and_then(|fields| fields.keys().next());
        name.cloned().unwrap_or_default()
    }

    /// What ends it, for those that last; none for those that are done at once.
    pub fn undone(&self) -> Option<Self> {
        Some(match self {
            Self::Stall { on: true } => Self::Stall { on: false },
            Self::Mute { on: true } => Self::Mute { on: false },
            Self::Pings { on: false } => Self::Pings { on: true },
            Self::WithholdPongs { on: true } => Self::WithholdPongs { on: false },
            Self::StopReading { on: true } => Self::StopReading { on: false },
            Self::Down { on: true } => Self::Down { on: false },
            Self::OldReplies { on: true } => Self::OldReplies { on: false },
            Self::Upgrade { .. } => Self::Upgrade {
                mode: UpgradeMode::Ok,
            },
            Self::Auth { .. } => Self::Auth { mode: AuthMode::Ok },
            Self::Enterprise { .. } => Self::Enterprise {
                form: EnterpriseForm::Any,
            },
            Self::Subscribe { .. } => Self::Subscribe {
                mode: SubscribeMode::Ok,
            },
            Self::Rest { .. } => Self::Rest { mode: RestMode::Ok },
            Self::RestLag { .. } => Self::RestLag {
                span: Span(Duration::ZERO),
            },
            Self::RestLacks { .. } => Self::RestLacks { share: 0.0 },
            Self::Pause {} => Self::Resume {},
            _ => return None,
        })
    }

    /// The same where time goes so many times as fast.
    pub(super) fn at_speed(self, speed: f64) -> Self {
        let faster = |span: Span| Span(faster(span.0, speed));
        match self {
            Self::Block { span, form } => Self::Block {
                span: faster(span),
                form,
            },
            Self::RestLag { span } => Self::RestLag { span: faster(span) },
            other => other,
        }
    }
}

/// A span where time goes so many times as fast; 0 waits for nothing.
pub(super) fn faster(span: Duration, speed: f64) -> Duration {
    if speed > 0.0 {
        Duration::try_from_secs_f64(span.as_secs_f64() / speed).unwrap_or(Duration::MAX)
    } else {
        Duration::ZERO
    }
}

impl Control {
    /// Does what the action says; how many events, frames or users it made, changed or took away, where
    /// it is about those.
    ///
    /// # Errors
    /// [`ActionError`] when its arguments make no sense; then nothing was done.
    pub async fn perform(&self, action: Action) -> Result<u64, ActionError> {
        if let Action::Step { n }
        | Action::Odd { n, .. }
        | Action::Gap { n }
        | Action::Reorder { n }
        | Action::ChangeSilently { n } = action
            && n > COUNT_MAX
        {
            return Err(ActionError::Range("n: at most 1000000 at a time"));
        }
        match action {
            Action::Step { n } => return Ok(self.step(n).await),
            Action::Event { user } => return known(user, self.send_event_for(user).await),
            Action::Odd { shape, n } => return Ok(self.send_odd(shape, n).await),
            Action::Noise { frame } => self.send_noise(frame).await,
            Action::Gap { n } => return Ok(self.skip(n).await),
            Action::Reorder { n } => {
                let n = usize::try_from(n).unwrap_or(usize::MAX);
                return Ok(self.reorder(n).await as u64);
            }
            Action::Repeat {} => self.repeat_last().await,
            Action::SameEnvelope { user } => {
                return known(user, self.send_with_same_envelope(user).await);
            }
            Action::RestartNumbers { at } => self.restart_numbers(at).await,
            Action::RawText { text } => self.send_raw_text(text).await,
            Action::RawBinary { hex } => {
                let bytes =
                    hex::decode(hex).map_err(|error| ActionError::Hex(error.to_string()))?;
                self.send_raw_binary(bytes).await;
            }
            Action::Envelope { recipient, payload } => {
                self.send_envelope(&recipient, &payload.to_string()).await;
            }
            Action::Snapshot {} => return Ok(self.send_snapshot().await),
            Action::Drip { by, interval } => return Ok(self.send_dripped(by, interval.0).await),
            Action::Close { code } => self.close(code).await,
            Action::CloseWithoutCode {} => self.close_without_code().await,
            Action::Eof {} => self.end_streams().await,
            Action::Reset {} => self.reset().await,
            other => return self.switch(other).await,
        }
        Ok(1)
    }

    /// The actions that change how the vendor behaves from now on.
    async fn switch(&self, action: Action) -> Result<u64, ActionError> {
        match action {
            Action::Stall { on } => self.stall(on).await,
            Action::Mute { on } => self.mute(on).await,
            Action::Pings { on } => self.set_pings(on),
            Action::WithholdPongs { on } => self.withhold_pongs(on),
            Action::StopReading { on } => self.stop_reading(on).await,
            Action::Down { on } => self.set_down(on).await,
            Action::Block { span, form } => match form {
                Some(form) => self.block_by(span.0, form),
                None => self.block(span.0),
            },
            Action::Upgrade { mode } => self.set_upgrade(mode),
            Action::Auth { mode } => self.set_auth(mode),
            Action::Enterprise { form } => self.set_enterprise(form),
            Action::Subscribe { mode } => self.set_subscribe(mode),
            Action::OldReplies { on } => self.set_old_replies(on),
            Action::RotateKey { key } => self.rotate_key(key),
            Action::Rest { mode } => self.set_rest(mode),
            Action::RestLag { span } => self.set_rest_lag(span.0),
            Action::RestLacks { share } => {
                if !(0.0..=1.0).contains(&share) {
                    return Err(ActionError::Range("share must be between 0 and 1"));
                }
                self.set_rest_lacks(share);
            }
            Action::ChangeSilently { n } => self.change_silently(n),
            Action::RemoveUser { user } => return known(user, self.remove_user(user)),
            Action::Pause {} => self.pause(),
            Action::Resume {} => self.resume(),
            Action::Rate { events_per_second } => {
                if !(0.0..=1e9).contains(&events_per_second) {
                    return Err(ActionError::Range("a rate is between 0 and 1000000000"));
                }
                self.set_rate(events_per_second);
            }
            Action::Step { .. }
            | Action::Event { .. }
            | Action::Odd { .. }
            | Action::Noise { .. }
            | Action::Gap { .. }
            | Action::Reorder { .. }
            | Action::Repeat {}
            | Action::SameEnvelope { .. }
            | Action::RestartNumbers { .. }
            | Action::RawText { .. }
            | Action::RawBinary { .. }
            | Action::Envelope { .. }
            | Action::Snapshot {}
            | Action::Drip { .. }
            | Action::Close { .. }
            | Action::CloseWithoutCode {}
            | Action::Eof {}
            | Action::Reset {} => unreachable!("perform does these"),
        }
        Ok(1)
    }
}

const fn known(user: u32, found: bool) -> Result<u64, ActionError> {
    if found {
        Ok(1)
    } else {
        Err(ActionError::NoSuchUser(user))
    }
}
