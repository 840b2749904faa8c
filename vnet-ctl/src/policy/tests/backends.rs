//! Forwards to several workloads.

use super::{BASE, mistakes, one_mistake, parse_text, valid};
use crate::policy::{Affinity, MAX_BACKENDS, Policy};

const PORTS: &str = r#"
[security_groups.open]
ingress = [{ protocol = "any", from = ["any"] }]
[ports.web-1]
network = "web"
security_groups = ["open"]
attach = { netns = "web-1" }
[ports.web-2]
network = "web"
security_groups = ["open"]
attach = { netns = "web-2" }
[ports.old]
network = "web"
addresses = ["10.10.0.7"]
security_groups = ["open"]
attach = { netns = "old" }
[ports.closed]
network = "web"
security_groups = []
attach = { netns = "closed" }
[ports.db-1]
network = "backend"
attach = { netns = "db-1" }
"#;

fn forward(listen: &str, to: &str, more: &str) -> String {
    format!("[[forwards]]\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nto = {to}\n{more}\n")
}

fn policy(to: &str, more: &str) -> Policy {
    valid(&format!("{BASE}{PORTS}{}", forward("0.0.0.0:8080", to, more)))
}

#[track_caller]
fn warnings(to: &str) -> Vec<String> {
    let text = format!("{BASE}{PORTS}{}", forward("0.0.0.0:8080", to, ""));
    let (_, warnings) = parse_text(&text).unwrap_or_else(|errors| panic!("{errors}"));
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_list_has_backends_with_weights() {
    let policy = policy(
        "[\"web-1:80\", { port = \"web-2\", weight = 3 }, { port = \"old:81\", weight = 0 }]",
        "affinity = \"client\"",
    );
    let forward = &policy.forwards[0];
    assert_eq!(
        (forward.targets().as_str(), forward.affinity),
        ("web-1:80, web-2:8080=3, old:81=0", Affinity::Client)
    );
    assert!(forward.to[2].drains() && !forward.to[1].drains());
    let json = serde_json::json!({"listen": "0.0.0.0:8080", "protocol": "tcp", "affinity": "client", "to":
        ["web-1:80", {"port": "web-2:8080", "weight": 3}, {"port": "old:81", "weight": 0}]});
    assert_eq!(serde_json::to_value(forward).unwrap(), json);
}

#[test]
fn a_list_of_one_is_that_one() {
    let alone = policy("\"web-1:80\"", "");
    for (to, more) in [
        ("[\"web-1:80\"]", ""),
        ("[{ port = \"web-1:80\" }]", "affinity = \"flow\""),
        ("[{ port = \"web-1:80\", weight = 1 }]", ""),
    ] {
        assert_eq!(policy(to, more), alone, "{to}");
    }
    assert_eq!(serde_json::to_value(&alone.forwards[0]).unwrap()["to"], "web-1:80");
    let drains = policy("[{ port = \"web-1:80\", weight = 0 }, \"old:80\"]", "");
    assert_eq!(serde_json::to_value(&drains.forwards[0]).unwrap()["to"][0]["weight"], 0);
}

#[test]
fn each_mistake_is_told_where_it_is() {
    let many: Vec<String> = (0..=MAX_BACKENDS).map(|number| format!("\"many-{number}\"")).collect();
    let ports: String = (0..=MAX_BACKENDS)
        .map(|number| format!("[ports.many-{number}]\nnetwork = \"web\"\nsecurity_groups = [\"open\"]\nattach = {{ netns = \"m{number}\" }}\n"))
        .collect();
    let too_many = format!("{PORTS}{ports}{}", forward("0.0.0.0:80", &format!("[{}]", many.join(", ")), ""));
    one_mistake(&too_many, &["a forward has 64 backends at most", "these are 65"], "[\"many-0");
    for (listen, to, more, words, at) in [
        ("0.0.0.0:80", "[]", "", "no backend is named", "[]"),
        ("0.0.0.0:80", "80", "", "write \"80\"", "80"),
        ("0.0.0.0:80", "{ port = \"web-1\" }", "", "write brackets around it", "{ port"),
        ("0.0.0.0:80", "[80]", "", "write \"80\"", "80]"),
        ("0.0.0.0:80", "[\"web-1\", \"wbe-2\"]", "", "did you mean `web-2`?", "\"wbe"),
        (
            "0.0.0.0:80",
            "[\"web-1:80\", \"web-1:81\"]",
            "",
            "port `web-1` is a backend of this forward already",
            "\"web-1:81",
        ),
        ("0.0.0.0:80", "[\"web-1\", \"db-1\"]", "", "in the private network `backend`", "\"db-1"),
        ("[::]:80", "[\"web-1\", { port = \"old\" }]", "", "port `old` has no IPv6 address", "\"old"),
        ("0.0.0.0:80-81", "[\"web-1\", \"web-2:65535\"]", "", "65534 is the highest", "\"web-2"),
        ("0.0.0.0:80", "[\"web-1\", { weight = 1 }]", "", "this backend has no `port`", "{ weight"),
        ("0.0.0.0:80", "[{ port = \"web-1\", wieght = 1 }]", "", "did you mean `weight`?", "wieght"),
        ("0.0.0.0:80", "[{ port = \"web-1\", weight = 101 }]", "", "101 is not a weight", "101"),
        ("0.0.0.0:80", "[{ port = \"web-1\", weight = -1 }]", "", "-1 is not a weight", "-1"),
        ("0.0.0.0:80", "[{ port = \"web-1\", weight = \"3\" }]", "", "write 3 without quotes", "\"3"),
        ("0.0.0.0:80", "[{ port = \"web-1=3\" }]", "", "no port `web-1=3`", "\"web-1=3"),
        ("0.0.0.0:80", "\"web-1\"", "affinity = \"clinet\"", "did you mean \"client\"?", "\"clinet"),
        ("0.0.0.0:80", "\"web-1\"", "affinity = true", "expected a string", "true"),
    ] {
        one_mistake(&format!("{PORTS}{}", forward(listen, to, more)), &[words], at);
    }
    let sctp = forward("0.0.0.0:80", "[\"web-1\", \"web-2:81\"]", "").replace("tcp", "sctp");
    one_mistake(&format!("{PORTS}{sctp}"), &["SCTP keeps its ports, so 80 cannot become 81"], "\"web-2");
    let both = forward("0.0.0.0:80", "[\"nobody\", \"web-1:0\", \"web-2\"]", "");
    assert_eq!(mistakes(&format!("{PORTS}{both}")).len(), 2, "all at once");
}

#[test]
fn who_has_the_address_already_is_named_with_all_of_its_backends() {
    let list = forward("0.0.0.0:80", "[\"web-1\", \"web-2\"]", "");
    let words = ["tcp/192.0.2.1:80 overlaps tcp/0.0.0.0:80, which is forwarded to ports `web-1`, `web-2`"];
    one_mistake(&format!("{PORTS}{list}{}", forward("192.0.2.1:80", "\"old\"", "")), &words, "\"192.0.2.1");
    let shown = parse_text(&format!("{BASE}{PORTS}{}", forward("0.0.0.0:80", "[\"web-1\", \"web-1\"]", "")));
    let shown = shown.unwrap_err().to_string();
    assert!(shown.contains("named here") && shown.contains("a weight gives it a larger part"), "{shown}");
}

#[test]
fn a_backend_that_nothing_admits_is_warned_of() {
    assert_eq!(warnings("[\"web-1\", \"web-2:81\"]"), [""; 0]);
    let found = warnings("[\"web-1\", \"closed:81\"]");
    assert!(
        found.len() == 1
            && found[0].contains("the forward tcp/0.0.0.0:8080 loses a part of what it brings: no rule admits what it brings to port `closed`")
            && found[0].contains("sg add default ingress -p tcp --port 81 --from any"),
        "{found:?}"
    );
    let column = format!(":{}: ", "to = [\"web-1\", ".len() + 1);
    assert!(found[0].contains(&column), "{found:?}");
    assert_eq!(warnings("[\"web-1\", { port = \"closed\", weight = 0 }]"), [""; 0], "it gets nothing");
}

#[test]
fn a_forward_that_drains_is_warned_of() {
    let found = warnings("[{ port = \"web-1\", weight = 0 }, { port = \"closed\", weight = 0 }]");
    assert!(
        found.len() == 1 && found[0].contains("brings no new connections: all of its backends drain"),
        "{found:?}"
    );
}
