//! Forwards to several workloads: added, changed, taken out.

use super::{code, policy};
use crate::{
    edit::{
        EditError, ForwardEdit, ForwardSpec, IfExists, Setting, add_forward, delete_port, remove_forward,
        set_forward,
    },
    policy::{Affinity, BackendSpec},
};

const TEXT: &str = r#"version = 1

[networks.n]
type = "nat"
subnets = ["10.0.0.0/24"]

[security_groups.all]
ingress = [{ protocol = "any", from = ["any"] }]

[ports]
a = { network = "n", security_groups = ["all"], attach = { netns = "a" } }
b = { network = "n", security_groups = ["all"], attach = { netns = "b" } }
c = { network = "n", security_groups = ["all"], attach = { netns = "c" } }
"#;

const LIST: &str = r#"
# the site
[[forwards]]
listen = "0.0.0.0:80"
protocol = "tcp"
to = [
  "a:8080", # the old one
  # the new one
  { port = "b:8080", weight = 3 },
] # both
"#;

fn backends(to: &str) -> Vec<BackendSpec> {
    to.split_whitespace().map(|backend| backend.parse().unwrap()).collect()
}

fn forward(to: &str, affinity: Option<Affinity>) -> ForwardSpec {
    let listen = "0.0.0.0:80".parse().unwrap();
    ForwardSpec { listen, protocol: "tcp".parse().unwrap(), to: backends(to), affinity }
}

#[track_caller]
fn set(text: &str, to: &str, affinity: Setting<Affinity>) -> String {
    let edit = ForwardEdit { to: backends(to), affinity };
    set_forward(text, &forward("", None), &edit).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_list_is_written_as_its_author_would() {
    for (to, affinity, lines) in [
        ("a:80 b:80", None, "to = [\"a:80\", \"b:80\"]\n"),
        ("a:80=3 b", None, "to = [{ port = \"a:80\", weight = 3 }, \"b\"]\n"),
        ("a:80=1", None, "to = \"a:80\"\n"),
        ("a:80=0", None, "to = [{ port = \"a:80\", weight = 0 }]\n"),
        ("a:80 b:80", Some(Affinity::Client), "to = [\"a:80\", \"b:80\"]\naffinity = \"client\"\n"),
    ] {
        let spec = forward(to, affinity);
        let after = add_forward(TEXT, &spec, IfExists::Fail).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(
            after,
            format!("{TEXT}\n[[forwards]]\nlisten = \"0.0.0.0:80\"\nprotocol = \"tcp\"\n{lines}")
        );
        assert_eq!(add_forward(&after, &spec, IfExists::Keep).unwrap(), after);
        assert_eq!(remove_forward(&after, &forward(to, None)).unwrap().0, TEXT);
    }
}

#[test]
fn a_list_is_the_same_with_the_same_backends_and_weights() {
    let text = format!("{TEXT}{LIST}");
    let add = |to: &str, affinity| add_forward(&text, &forward(to, affinity), IfExists::Keep);
    assert_eq!(add("b:8080=3 a:8080", None).unwrap(), text);
    assert_eq!(add("b:8080=3 a:8080", Some(Affinity::Flow)).unwrap(), text);
    for (to, affinity) in [
        ("b:8080 a:8080", None),
        ("b:8080=3", None),
        ("a:8080 b:80=3", None),
        ("a:8080 b:8080=3", Some(Affinity::Client)),
    ] {
        let (exit, words) = code(add(to, affinity));
        assert!(exit == 5 && words.contains("forwarded to a:8080, b:8080=3 already"), "{to}: {words}");
        assert!(words.contains("vnet-ctl forward set"), "{words}");
    }
    let remove = |to: &str| remove_forward(&text, &forward(to, None)).map(|(text, _)| text);
    for to in ["", "a:8080 b:8080", "b:8080=3 a:8080=1"] {
        assert_eq!(remove(to).unwrap(), TEXT, "{to}");
    }
    for to in ["a:8080", "a:8080 b:8080=2", "a:8080 c:8080"] {
        let (exit, words) = code(remove(to));
        assert!(exit == 4 && words.contains("it is forwarded to a:8080, b:8080=3"), "{to}: {words}");
    }
}

#[test]
fn backends_come_and_go_and_the_comments_of_the_others_stay() {
    let text = format!("{TEXT}{LIST}");
    let list = |items: &str| {
        text.replace(
            "  \"a:8080\", # the old one\n  # the new one\n  { port = \"b:8080\", weight = 3 },\n",
            items,
        )
    };
    for (to, items) in [
        (
            "a b c:80",
            "  \"a:8080\", # the old one\n  # the new one\n  { port = \"b:8080\", weight = 3 },\n  \"c:80\",\n",
        ),
        (
            "a=0 b",
            "  { port = \"a:8080\", weight = 0 }, # the old one\n  # the new one\n  { port = \"b:8080\", weight = 3 },\n",
        ),
        ("a b:80=1", "  \"a:8080\", # the old one\n  # the new one\n  \"b:80\",\n"),
        ("b", "  # the new one\n  { port = \"b:8080\", weight = 3 },\n"),
        (
            "b:8080=3 a:8080",
            "  \"a:8080\", # the old one\n  # the new one\n  { port = \"b:8080\", weight = 3 },\n",
        ),
    ] {
        assert_eq!(set(&text, to, Setting::Keep), list(items), "{to}");
    }
}

#[test]
fn one_becomes_several_where_it_stands() {
    let one = format!(
        "{TEXT}\n[[forwards]]\nlisten = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = \"a:8080\" # alone\n"
    );
    let several = set(&one, "a b:80=3", Setting::Keep);
    assert_eq!(several, one.replace("\"a:8080\" #", "[\"a:8080\", { port = \"b:80\", weight = 3 }] #"));
    assert_eq!(set(&one, "b:8080", Setting::Keep), one.replace("a:8080", "b:8080"));
    let client = set(&several, "", Setting::Set(Affinity::Client));
    assert_eq!(client, format!("{several}affinity = \"client\"\n"));
    assert_eq!(set(&client, "", Setting::Set(Affinity::Flow)), client.replace("client", "flow"));
    assert_eq!(set(&client, "", Setting::Unset), several);
    let inline = TEXT.replace(
        "version = 1\n",
        "version = 1\nforwards = [{ listen = \"0.0.0.0:80\", protocol = \"tcp\", to = \"a\" }]\n",
    );
    let after = set(&inline, "a b", Setting::Set(Affinity::Client));
    assert_eq!(after, inline.replace("to = \"a\" }]", "to = [\"a:80\", \"b\"], affinity = \"client\" }]"));
    assert_eq!(policy(&after).forwards[0].targets(), "a:80, b:80");
}

#[test]
fn a_change_that_makes_no_sense_is_refused() {
    let text = format!("{TEXT}{LIST}");
    let change = |text: &str, to: &str| {
        let edit = ForwardEdit { to: backends(to), ..ForwardEdit::default() };
        code(set_forward(text, &forward("", None), &edit))
    };
    for (to, exit, words) in
        [("a a", 2, "port `a` is a backend of this forward already"), ("d:80", 2, "no port `d`")]
    {
        let (found, told) = change(&text, to);
        assert!(found == exit && told.contains(words), "{to}: {told}");
    }
    let (exit, told) = change(TEXT, "a:80");
    assert!(exit == 4 && told.contains("there is no forward tcp/0.0.0.0:80"), "{told}");
    let in_use: Result<String, EditError> = delete_port(&text, "b");
    let (exit, told) = code(in_use);
    assert!(exit == 5 && told.contains("forward tcp/0.0.0.0:80"), "{told}");
}
