//! `port show`.

use vnet_ctl::api::types::{PortInfo, PortState};

use super::{Context, attach, note_missing, port, state, vlans};
use crate::{
    failure::{Done, Outcome},
    output::{View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl port show web-1
  vnet-ctl port show web-1 -o json | jq -r '.addresses[0]'";

/// Show one port.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The port's name
    #[arg(value_name = "PORT")]
    name: String,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let port = port(context, &self.name).await?;
        note_missing(context, std::slice::from_ref(&port));
        context.output.show(&port, &view(&port))?;
        Ok(Done::Success)
    }
}

fn view(port: &PortInfo) -> View {
    View::of(&port.name).fields([
        ("Name", port.name.clone()),
        ("Network", port.network.clone()),
        ("VLANs", vlans(port)),
        ("Addresses", listed(&port.addresses)),
        ("MAC", port.mac.clone()),
        ("Groups", listed(&port.security_groups)),
        ("Attached to", attach(&port.attach)),
        ("Device", device(port)),
        ("State", state(port.state).to_owned()),
        ("Origin", port.origin.clone()),
    ])
}

fn device(port: &PortInfo) -> String {
    match port.state {
        PortState::Remote => String::new(),
        _ => format!("{} (index {})", port.device, port.ifindex),
    }
}
