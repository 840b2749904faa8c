//! One port by itself, as a runtime declares it: judged by the rules of the file, against the rest of a
//! policy. Whether another port has already what it wants is left to the caller.

use std::path::{Path, PathBuf};

use super::{
    Attach, Mistake, NetnsRef, Policy, Port, diagnostic::Finding, parse::names_of, ports::ports,
    section::Report, tree::Tree,
};

/// The port called `name` that `declaration` describes as JSON with the keys of `[ports.NAME]`.
///
/// # Errors
/// Everything that is wrong with it, in the words that the policy file's mistakes have.
pub fn parse_port(name: &str, declaration: &str, policy: &Policy) -> Result<Port, Vec<Mistake>> {
    let names = names_of(policy);
    let mut report = Report::default();
    let tree = Tree::of_json(declaration, &mut report);
    let port = tree.as_ref().and_then(|tree| {
        ports(&[(name, 0..0, tree.root())], &policy.networks, &names, &mut report).remove(name)
    });
    match port {
        Some(port) if report.errors.is_empty() => Ok(port),
        _ => Err(report.errors.into_iter().map(Finding::into_mistake).collect()),
    }
}

impl Attach {
    /// What only one port may have: a device, or an interface in a namespace, however it is written. Nothing if it is
    /// elsewhere.
    #[must_use]
    pub fn place(&self) -> Option<(PathBuf, &str)> {
        match self {
            Self::Netns { netns, name, .. } => Some((netns.in_one_form().path(), name)),
            Self::Device { device } | Self::Tap { tap: device, .. } => Some((PathBuf::new(), device)),
            Self::Remote { .. } => None,
        }
    }

    /// The place in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Netns { netns, name, .. } => format!("the interface `{name}` in namespace `{netns}`"),
            Self::Device { device } | Self::Tap { tap: device, .. } => format!("the device {device}"),
            Self::Remote { .. } => "another host".to_owned(),
        }
    }
}

/// Where named namespaces are, as `ip netns` keeps them.
pub const NETNS_DIR: &str = "/run/netns";

impl NetnsRef {
    /// What `Display` wrote, or a person. One namespace has one form: a path below `/run/netns` is a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        // /var/run is a link to /run.
        let text = text.strip_prefix("/var").filter(|rest| rest.starts_with("/run/")).unwrap_or(text);
        let named = text.strip_prefix(NETNS_DIR).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = named.filter(|name| !name.is_empty() && !name.contains('/')) {
            return Self::Name(name.to_owned());
        }
        if text.starts_with('/') { Self::Path(text.into()) } else { Self::Name(text.to_owned()) }
    }

    /// The same namespace in the form that all ways to write it share.
    #[must_use]
    pub fn in_one_form(&self) -> Self {
        Self::parse(&self.to_string())
    }

    /// The file that holds the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => Path::new(NETNS_DIR).join(name),
            Self::Path(path) => path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::DEFAULT_GROUP;

    fn policy() -> Policy {
        let text = "version = 1\n[networks.web]\ntype = \"nat\"\nsubnets = [\"10.10.0.0/24\"]\n";
        crate::policy::parse(text, Path::new("policy.toml")).unwrap().0
    }

    fn mistakes(declaration: &str) -> String {
        let mistakes = parse_port("c1", declaration, &policy()).unwrap_err();
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_port_alone_is_as_if_it_stood_in_the_file() {
        let port = parse_port(
            "c1",
            r#"{"network": "web", "addresses": ["10.10.0.9"], "attach": {"netns": "n1"}}"#,
            &policy(),
        )
        .unwrap();
        assert_eq!(port.security_groups, [DEFAULT_GROUP]);
        assert_eq!(port.mac, crate::policy::port_mac("c1"));
        assert_eq!(port.attach.place(), Some((PathBuf::from("/run/netns/n1"), "eth0")));
    }

    #[test]
    fn its_mistakes_are_told_in_the_words_of_the_file() {
        let text =
            mistakes(r#"{"network": "wbe", "addresses": ["10.10.0.1"], "attach": {"device": "vnet-web"}}"#);
        assert!(text.contains("there is no network `wbe`; did you mean `web`?"), "{text}");
        assert!(text.contains("`vnet-web` is the bridge of a network"), "{text}");
        let text = mistakes(r#"{"network": "web", "addresses": ["10.10.0.1"], "colour": 1}"#);
        assert!(text.contains("10.10.0.1 is the gateway of network `web`"), "{text}");
        assert!(text.contains("unknown key `ports.c1.colour`") && text.contains("no `attach`"), "{text}");
    }

    #[test]
    fn a_namespace_is_one_however_it_is_written() {
        for text in ["a", "/run/netns/a", "/var/run/netns/a"] {
            assert_eq!(NetnsRef::parse(text), NetnsRef::Name("a".to_owned()), "{text}");
        }
        for text in ["/run/netns/a/b", "/proc/1/ns/net", "/various/netns", "/run/netns/"] {
            assert_eq!(NetnsRef::parse(text), NetnsRef::Path(text.into()));
        }
    }
}
