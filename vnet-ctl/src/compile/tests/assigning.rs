//! Which addresses ports get.

use std::{collections::BTreeMap, net::IpAddr};

use super::{addr, policy};
use crate::compile::{Assigned, Released, assign, assign_rested};

/// Ports with lines of their own in one network with `subnets`.
fn network(subnets: &str, ports: &[(&str, &str)]) -> crate::policy::Policy {
    let mut text = format!("version = 1\n[networks.n]\ntype = \"private\"\nsubnets = [{subnets}]\n");
    for (name, lines) in ports {
        text += &format!("[ports.{name}]\nnetwork = \"n\"\nattach = {{ netns = \"{name}\" }}\n{lines}\n");
    }
    policy(&text)
}

fn kept(ports: &[(&str, &[&str])]) -> Assigned {
    ports
        .iter()
        .map(|(name, list)| ((*name).to_owned(), list.iter().map(|text| addr(text)).collect()))
        .collect()
}

fn show(assigned: &Assigned, port: &str) -> Vec<String> {
    assigned[port].iter().map(IpAddr::to_string).collect()
}

#[test]
fn each_subnet_gives_its_lowest_free_address() {
    let policy = network(
        "\"10.0.0.0/29\", \"fd00::/64\"",
        &[("a", ""), ("b", "addresses = [\"10.0.0.2\", \"fd00::3\"]"), ("c", "")],
    );
    let assigned = assign(&policy, &BTreeMap::new()).unwrap();
    assert_eq!(show(&assigned, "a"), ["10.0.0.3", "fd00::2"]);
    assert_eq!(show(&assigned, "b"), ["10.0.0.2", "fd00::3"]);
    assert_eq!(show(&assigned, "c"), ["10.0.0.4", "fd00::4"]);
}

#[test]
fn kept_addresses_stay_while_they_fit() {
    let policy = network("\"10.0.0.0/29\"", &[("a", ""), ("b", ""), ("c", "addresses = [\"10.0.0.5\"]")]);
    let before = kept(&[("a", &["10.0.0.5"]), ("b", &["10.0.0.2", "192.0.2.1"]), ("gone", &["10.0.0.3"])]);
    let assigned = assign(&policy, &before).unwrap();
    // c has taken a's address; what a port had that is gone is free.
    assert_eq!(show(&assigned, "a"), ["10.0.0.3"]);
    assert_eq!(show(&assigned, "b"), ["10.0.0.2"]);
    assert_eq!(assign(&policy, &assigned).unwrap(), assigned);
}

#[test]
fn what_ports_had_comes_before_what_others_get() {
    let policy = network("\"10.0.0.0/29\"", &[("a", ""), ("b", "")]);
    let assigned = assign(&policy, &kept(&[("b", &["10.0.0.2"])])).unwrap();
    assert_eq!(
        (show(&assigned, "a"), show(&assigned, "b")),
        (vec!["10.0.0.3".to_owned()], vec!["10.0.0.2".to_owned()])
    );
}

#[test]
fn a_new_subnet_is_added_to_what_was_kept() {
    let policy = network("\"10.0.0.0/29\", \"fd00::/64\"", &[("a", "")]);
    let assigned = assign(&policy, &kept(&[("a", &["10.0.0.6"])])).unwrap();
    assert_eq!(show(&assigned, "a"), ["10.0.0.6", "fd00::2"]);
}

#[test]
fn the_gateway_and_the_subnets_own_addresses_are_not_given() {
    let policy = network("\"10.0.0.0/30\"\n]\ngateway = [\"10.0.0.2\"", &[("a", "")]);
    assert_eq!(show(&assign(&policy, &BTreeMap::new()).unwrap(), "a"), ["10.0.0.1"]);
    let unfit = kept(&[("a", &["10.0.0.2", "10.0.0.3", "10.0.0.0"])]);
    assert_eq!(show(&assign(&policy, &unfit).unwrap(), "a"), ["10.0.0.1"]);
}

#[test]
fn a_full_subnet_names_the_port_left_over() {
    let policy = network("\"10.0.0.0/30\"", &[("a", ""), ("b", "")]);
    let error = assign(&policy, &BTreeMap::new()).unwrap_err();
    assert_eq!((error.port.as_str(), error.network.as_str()), ("b", "n"));
    assert!(error.to_string().contains("larger subnet"));
}

#[test]
fn many_ports_are_assigned_in_no_time() {
    let names: Vec<_> = (0..3000).map(|number| format!("p{number}")).collect();
    let ports: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    let assigned = assign(&network("\"10.0.0.0/16\"", &ports), &BTreeMap::new()).unwrap();
    let distinct: std::collections::BTreeSet<_> = assigned.values().flatten().collect();
    assert_eq!(distinct.len(), 3000);
}

#[test]
fn released_addresses_come_last_and_go_back_to_their_port() {
    let policy = policy(
        "version = 1\n[networks.web]\ntype = \"private\"\nsubnets = [\"10.0.0.0/29\"]\n\
         [ports.a]\nnetwork = \"web\"\nattach = { netns = \"a\" }\n\
         [ports.b]\nnetwork = \"web\"\nattach = { netns = \"b\" }\n",
    );
    let released = |list: &[(u8, &str)]| -> Vec<Released> {
        let released = |&(n, port): &(u8, &str)| Released {
            address: IpAddr::from([10, 0, 0, n]),
            port: port.to_owned(),
            network: None,
        };
        list.iter().map(released).collect()
    };
    let last = |list: &[(u8, &str)]| -> Vec<String> {
        let assigned = assign_rested(&policy, &Assigned::new(), &released(list)).unwrap();
        assigned.values().flatten().map(ToString::to_string).collect()
    };

    assert_eq!(last(&[(2, "x"), (3, "x")]), ["10.0.0.4", "10.0.0.5"]);
    assert_eq!(last(&[(2, "x"), (3, "b")]), ["10.0.0.4", "10.0.0.3"]);
    let full = [(5, "x"), (6, "x"), (2, "x"), (3, "x"), (4, "x")];
    assert_eq!(last(&full), ["10.0.0.5", "10.0.0.6"], "the longest ago first");
}
