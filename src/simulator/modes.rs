//! What can be switched while the simulator runs. Plain data; the options are where it begins.

use std::time::Duration;

use crate::config::Secret;

use super::options::{
    AuthMode, BlockForm, EnterpriseForm, Options, RestMode, SubscribeMode, UpgradeMode,
};

/// How the vendor behaves now.
#[derive(Clone, Debug)]
pub(super) struct Modes {
    pub(super) key: Secret,
    pub(super) upgrade: UpgradeMode,
    pub(super) auth: AuthMode,
    pub(super) enterprise: EnterpriseForm,
    pub(super) subscribe: SubscribeMode,
    pub(super) old_replies: bool,
    pub(super) rest: RestMode,
    pub(super) rest_lag: Duration,
    pub(super) rest_lacks: f64,
    pub(super) block_form: BlockForm,
    /// Whether pings are sent.
    pub(super) pings: bool,
    /// Whether connections that open are mute.
    pub(super) mute: bool,
    /// Whether connections are not read any more once they are subscribed.
    pub(super) stop_reading: bool,
}

impl Modes {
    pub(super) fn new(options: &Options, key: Secret) -> Self {
        Self {
            key,
            upgrade: options.upgrade,
            auth: options.auth,
            enterprise: options.enterprise,
            subscribe: options.subscribe,
            old_replies: options.old_replies,
            rest: options.rest,
            rest_lag: options.list.rest_lag,
            rest_lacks: options.list.rest_lacks,
            block_form: options.limits.block_form,
            pings: true,
            mute: options.link.mute,
            stop_reading: options.link.stop_reading,
        }
    }
}
