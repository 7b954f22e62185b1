//! Plays a script: events at the rate and actions at their time, one after the other.
//!
//! Nothing here depends on how fast the machine is: a step that comes late is not left out, and
//! nothing overtakes it. So the course of the world is the same each time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Script, Start};
use crate::simulator::action::faster;
use crate::simulator::batch::Delivery;
use crate::simulator::control::Control;
use crate::simulator::generator::Pace;
use crate::simulator::hub::{Ask, Hub};

/// Runs until the script is over, or the hub stops; then the world stands still.
pub(in crate::simulator) async fn run(hub: Arc<Hub>, script: Script) {
    tokio::select! {
        () = play(&hub, script) => {}
        () = hub.stopped() => return,
    }
    hub.pace.send_replace(Pace::Paused);
    hub.count(|stats| stats.played = true);
    tracing::info!("the script is over");
}

async fn play(hub: &Arc<Hub>, script: Script) {
    let control = Control::new(Arc::clone(hub));
    match script.start {
        Start::Subscribed => control.wait_subscribed().await,
        Start::Now => {}
    }
    let (begin, speed) = (Instant::now(), hub.options.play.speed);
    let mut steps = script.steps.into_iter().peekable();
    let mut events_left = hub.options.events.unwrap_or(u64::MAX);
    let mut last_event = Duration::ZERO;
    loop {
        let pace = *hub.pace.borrow();
        let event = next_event(pace, last_event).filter(|_| events_left > 0);
        let step = steps.peek().map(|step| step.at);
        let moment = [event, step].into_iter().flatten().min();
        let moment = moment.unwrap_or(script.length).min(script.length);
        sleep_until(begin + faster(moment, speed)).await;
        if step == Some(moment)
            && let Some(step) = steps.next()
        {
            let action = step.action.name();
            if let Err(error) = control.perform(step.action.at_speed(speed)).await {
                tracing::warn!(action, %error, "a step of the script was not done");
            }
            if *hub.pace.borrow() != pace {
                last_event = moment;
            }
        } else if event == Some(moment) {
            last_event = moment;
            events_left -= 1;
            hub.emit(Ask::Any(1), Delivery::InOrder).await;
        } else {
            break;
        }
    }
    Hub::barrier(&hub.lines(true)).await;
}

/// When the next event is due, in the time of the script.
fn next_event(pace: Pace, last: Duration) -> Option<Duration> {
    match pace {
        Pace::Every(period) => Some(last.saturating_add(period)),
        // A script has no "as fast as can be": its time would stand still.
        Pace::Paused | Pace::Full => None,
    }
}
