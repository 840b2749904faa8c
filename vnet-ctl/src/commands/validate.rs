//! `validate`: checks a policy file and touches nothing.

use serde::Serialize;
use vnet_ctl::policy::Policy;

use super::{
    Context,
    source::{FileArg, Source},
};
use crate::{
    failure::{Done, Outcome},
    output::{View, counted},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl validate -f policy.toml
  generate-policy | vnet-ctl validate -f -
  vnet-ctl validate -f policy.json             the same schema in JSON (see vnet-ctl schema)
  vnet-ctl validate -f policy.toml -o json     errors as JSON, for editors and CI";

/// Check a policy file without touching anything.
///
/// The file is TOML, or JSON if it begins with a brace. Prints all errors at once, each with file, line and column; exit code 2 if there are any.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    file: FileArg,
}

#[derive(Serialize)]
pub(crate) struct Answer {
    file: String,
    valid: bool,
    networks: usize,
    ports: usize,
    security_groups: usize,
    rules: usize,
    forwards: usize,
    elastic_ips: usize,
    warnings: Vec<String>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let source = Source::read(context, self.file.file.as_deref()).await?;
        let (policy, warnings) = source.parse(context.output)?;
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        if context.output.is_for_people() {
            warnings.iter().for_each(|warning| context.output.warn(warning));
            let file = source.origin.display();
            context.output.print(&format!("{file}: valid: {}\n", summary(&policy)))?;
            return Ok(Done::Success);
        }
        let answer = Answer::new(source.origin.display().to_string(), &policy, warnings);
        context.output.show(&answer, &View::of(&answer.file))?;
        Ok(Done::Success)
    }
}

impl Answer {
    /// What is told of a valid policy to programs.
    pub(crate) fn new(file: String, policy: &Policy, warnings: Vec<String>) -> Self {
        Self {
            file,
            valid: true,
            networks: policy.networks.len(),
            ports: policy.ports.len(),
            security_groups: policy.security_groups.len(),
            rules: policy.rule_count(),
            forwards: policy.forwards.len(),
            elastic_ips: policy.elastic_ips.len(),
            warnings,
        }
    }
}

/// `2 networks, 3 ports, 4 rules`.
pub(crate) fn summary(policy: &Policy) -> String {
    let [networks, ports] = [(policy.networks.len(), "network"), (policy.ports.len(), "port")]
        .map(|(count, noun)| counted(count, noun));
    format!("{networks}, {ports}, {}", counted(policy.rule_count(), "rule"))
}
