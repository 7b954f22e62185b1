//! The figures at the end, from the vendor's side and from the consumers' side, and whether they
//! add up.

use std::io::Write;

use super::stage::Stage;
use crate::app::AppError;
use crate::cli::Failed;
use crate::event::{EventType, Origin};

/// What happened, counted on both sides of the bridge.
#[derive(Debug)]
pub(super) struct Tally {
    generated: u64,
    sent: u64,
    heard: u64,
    repeats: u64,
    set_aside: u64,
    journalled_feed: u64,
    journalled_list: u64,
    blind_windows: usize,
    healed: usize,
    sinks: Vec<Delivered>,
}

/// One destination, as its consumer saw it.
#[derive(Debug)]
struct Delivered {
    sink: &'static str,
    events: u64,
    doubled: u64,
    lost: u64,
    /// Users whose last event does not show the state that the vendor has.
    wrong_users: usize,
}

impl Tally {
    pub(super) fn take(stage: &Stage) -> Result<Self, Failed> {
        let metrics = stage.status.metrics();
        let journalled = |origin: Origin| -> u64 {
            let events = &metrics.normalise.events;
            let of = |kind: EventType| events.with_label_values(&[kind.as_str(), origin.as_str()]);
            EventType::ALL.into_iter().map(|kind| of(kind).get()).sum()
        };
        let (journalled_feed, journalled_list) =
            (journalled(Origin::Feed), journalled(Origin::Reconcile));
        let windows = stage
            .status
            .report()
            .map_err(AppError::from)?
            .feed
            .blind_windows;
        let stats = stage.simulator.stats();
        let frames = |kind: &str| metrics.feed.frames.with_label_values(&[kind]).get();
        let sinks = stage.consumers.ids.iter().map(|(sink, ids)| {
            let (events, read) = (ids.len() as u64, ids.values().sum::<u64>());
            Delivered {
                sink,
                events,
                doubled: read - events,
                lost: (journalled_feed + journalled_list).saturating_sub(events),
                wrong_users: wrong_users(stage, sink),
            }
        });
        Ok(Self {
            generated: stats.events_generated,
            sent: stats.events_sent,
            heard: frames("event"),
            repeats: metrics.normalise.duplicates.get(),
            set_aside: frames("rejected"),
            journalled_feed,
            journalled_list,
            blind_windows: windows.len(),
            healed: windows
                .iter()
                .filter(|window| window.healed_at.is_some())
                .count(),
            sinks: sinks.collect(),
        })
    }

    /// Whether every event is where it belongs, once.
    pub(super) fn adds_up(&self) -> bool {
        self.heard == self.sent
            && self.heard == self.journalled_feed + self.repeats
            && self.set_aside == 0
            && self.healed == self.blind_windows
            && self.sinks.iter().all(|sink| {
                sink.doubled == 0 && sink.lost == 0 && sink.wrong_users == 0 && sink.events > 0
            })
    }

    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self {
            generated,
            sent,
            heard,
            repeats,
            journalled_feed,
            journalled_list,
            ..
        } = self;
        writeln!(
            out,
            "\nthe vendor changed users {generated} times and sent {sent} events"
        )?;
        writeln!(out, "heard        {heard}  ({repeats} repeats)")?;
        let journalled = journalled_feed + journalled_list;
        writeln!(
            out,
            "journalled   {journalled}  ({journalled_feed} from the feed, {journalled_list} only from the list)"
        )?;
        writeln!(
            out,
            "blind        {} windows, {} healed",
            self.blind_windows, self.healed
        )?;
        for Delivered {
            sink,
            events,
            doubled,
            lost,
            wrong_users,
        } in &self.sinks
        {
            writeln!(
                out,
                "delivered    {events}  to {sink}: {doubled} doubled, {lost} lost, {wrong_users} users \
                 whose last event is not the vendor's state"
            )?;
        }
        writeln!(
            out,
            "{}",
            if self.adds_up() {
                "it adds up"
            } else {
                "IT DOES NOT ADD UP"
            }
        )
    }
}

fn wrong_users(stage: &Stage, sink: &str) -> usize {
    let last = stage.consumers.last.get(sink);
    let right = |user: &crate::simulator::UserState| {
        let (status, name) = last.and_then(|last| last.get(&user.user_id))?;
        let name = name.as_str()?;
        let counter = name.rsplit('-').next()?;
        (status.as_str() == Some(user.status) && counter == user.counter.to_string()).then_some(())
    };
    let users = stage.simulator.control().users();
    users.iter().filter(|user| right(user).is_none()).count()
}
