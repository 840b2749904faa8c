//! `monitor`: what happens, as it happens.

use vnet_ctl::api::types::{Event, EventKind};

use super::Context;
use crate::{
    failure::{Done, Failure, Outcome},
    output::{Reader, Tone, printable},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl monitor                              from now on, until Ctrl-C
  vnet-ctl monitor --past                       what the daemon remembers, and no more
  vnet-ctl monitor --after 17                   what came after event 17, and from now on
  vnet-ctl monitor -o json | jq 'select(.kind == \"problem\")'

The daemon remembers its last 1024 events; it counts from 1 when it starts. Older ones are in its journal.";

/// Print what happens to the policy in force, as it happens.
///
/// Policies that were applied, ports that came and went, what somebody else changed and vnet put right,
/// and problems. With -o json each event is an object in a line of its own.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// Begin behind the event with this number [default: the last there is]
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// Print what is remembered, and end
    #[arg(long)]
    past: bool,
}

impl Command {
    /// What an empty past means.
    const fn nothing(&self) -> &'static str {
        match self.after {
            None => "Nothing has happened since the daemon started.",
            Some(_) => "Nothing has happened after that event; numbers begin at 1 when the daemon starts.",
        }
    }

    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let past = events(context, self.after.unwrap_or_default()).await?;
        let mut last = past.last().map_or(self.after.unwrap_or_default(), |event| event.id);
        if (self.past || self.after.is_some()) && told(context, &past)? == Reader::Gone {
            return Ok(Done::Success);
        }
        if self.past {
            if past.is_empty() {
                context.output.note(self.nothing());
            }
            return Ok(Done::Success);
        }
        loop {
            let path = format!("/v1/events?after={last}&wait=true");
            // The daemon may answer now and then that there is nothing yet.
            let new: Vec<Event> = context.client.wait(&path).await?;
            last = new.last().map_or(last, |event| event.id);
            if told(context, &new)? == Reader::Gone {
                return Ok(Done::Success);
            }
        }
    }
}

async fn events(context: &Context<'_>, after: u64) -> Result<Vec<Event>, Failure> {
    context.client.get(&format!("/v1/events?after={after}")).await
}

fn told(context: &Context<'_>, events: &[Event]) -> Result<Reader, Failure> {
    for event in events {
        let (tone, kind) = kind(event.kind);
        let kind = context.output.painted(tone, &format!("{kind:<8}"));
        let line = format!("{:>5}  {kind}  {}", event.id, printable(&event.message));
        if context.output.stream(event, &event.id.to_string(), &line)? == Reader::Gone {
            return Ok(Reader::Gone);
        }
    }
    Ok(Reader::Reads)
}

fn kind(kind: EventKind) -> (Tone, &'static str) {
    match kind {
        EventKind::Applied => (Tone::Good, "applied"),
        EventKind::Followed => (Tone::Good, "followed"),
        EventKind::Repaired => (Tone::Warn, "repaired"),
        EventKind::Problem => (Tone::Bad, "problem"),
    }
}
