//! `flows`: the tracked connections.

mod flush;
mod list;

use vnet_ctl::{api::types::FlowInfo, datapath::FlowFilter};

use super::{Context, port};
use crate::{
    client::segment,
    failure::{Failure, Outcome},
};

/// The commands about flows.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    #[command(visible_alias = "ls")]
    List(list::Command),
    Flush(flush::Command),
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List(command) => command.run(context).await,
            Self::Flush(command) => command.run(context).await,
        }
    }
}

/// What the filter calls the host, which is no port.
const HOST: &str = "host";

/// Which flows.
#[derive(clap::Args, Debug)]
struct FilterArg {
    /// Only flows that match every term: port=NAME, address=IP|CIDR, protocol=NAME, dst_port=N
    #[arg(long, value_name = "TERM,…")]
    filter: Option<FlowFilter>,
}

impl FilterArg {
    /// The request for these flows.
    fn path(&self) -> String {
        match &self.filter {
            Some(filter) => format!("/v1/flows?filter={}", segment(&filter.to_string())),
            None => "/v1/flows".to_owned(),
        }
    }

    async fn flows(&self, context: &Context<'_>) -> Result<Vec<FlowInfo>, Failure> {
        let flows: Vec<FlowInfo> = context.client.get(&self.path()).await?;
        if flows.is_empty() {
            self.check(context).await?;
        }
        Ok(flows)
    }

    /// Whether the port that the filter names is in force: no flow may be that of a misspelt one.
    async fn check(&self, context: &Context<'_>) -> Result<(), Failure> {
        match self.filter.as_ref().and_then(|filter| filter.port.as_deref()) {
            Some(name) if name != HOST => port::port(context, name).await.map(drop),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_travels_in_the_query() {
        let filter = Some("port=web-1,address=10.0.0.0/8".parse().expect("a filter"));
        assert_eq!(FilterArg { filter }.path(), "/v1/flows?filter=port%3Dweb-1%2Caddress%3D10.0.0.0%2F8");
        assert_eq!(FilterArg { filter: None }.path(), "/v1/flows");
    }
}
