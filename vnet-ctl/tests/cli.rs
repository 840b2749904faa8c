//! The program itself, as far as it needs neither root nor a daemon.

mod bench;

use std::{fs, process::Stdio};

use bench::Bench;
use vnet_ctl::state::State;

#[test]
fn a_valid_policy_is_summed_up() {
    let bench = Bench::new();
    let ended = bench.run(&["validate", "-f", "policy.toml"]).code(0);
    assert!(ended.stdout.starts_with("policy.toml: valid: 2 networks, 3 ports, "), "{}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 1);
}

#[test]
fn a_valid_policy_is_summed_up_as_json() {
    let bench = Bench::new();
    let json = bench.run(&["validate", "--policy", "policy.toml", "-o", "json"]).code(0).json();
    assert_eq!((&json["valid"], &json["networks"], &json["ports"]), (&true.into(), &2.into(), &3.into()));
}

#[test]
fn a_policy_can_come_from_stdin() {
    let bench = Bench::new();
    let ended = bench.run_with_input(&["validate", "-f", "-"], bench::POLICY).code(0);
    assert!(ended.stdout.starts_with("<stdin>: valid: "), "{}", ended.stdout);
    let ended = bench.run_with_input(&["validate", "-f", "-"], "version = 1\nnetwroks = 1\n").code(2);
    assert!(ended.stderr.contains("<stdin>:2:1"), "{}", ended.stderr);
}

#[test]
fn a_policy_can_be_json() {
    let json = r#"{ "version": 1, "networks": { "a": { "type": "nat", "subnets": ["10.0.0.0/24"] } } }"#;
    let bench = Bench::with(json);
    let ended = bench.run(&["validate", "-f", "policy.toml"]).code(0);
    assert!(ended.stdout.contains("valid: 1 network, 0 ports, "), "{}", ended.stdout);
    let ended = bench.run_with_input(&["validate", "-f", "-", "-o", "json"], json).code(0).json();
    assert_eq!((&ended["file"], &ended["networks"]), (&"<stdin>".into(), &1.into()));
    let wrong = json.replace("nat", "natt");
    let ended = bench.run_with_input(&["validate", "-f", "-"], &wrong).code(2);
    assert!(ended.stderr.contains("<stdin>:1:46"), "{}", ended.stderr);
    let errors = bench.run_with_input(&["validate", "-f", "-", "-o", "json"], &wrong).code(2).error_json();
    assert_eq!(errors["diagnostics"][0]["column"], 46);
}

#[test]
fn the_schema_is_json_and_needs_no_daemon() {
    let bench = Bench::new();
    let schema = bench.run(&["schema"]).code(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(bench.run(&["schema", "--help"]).code(0).stdout.contains("#:schema"));
}

#[test]
fn all_errors_of_a_policy_are_told_at_once_with_their_place() {
    let text =
        bench::POLICY.replace("subnets = [\"10.20.0.0/24\"]", "subnet = 1").replace("[443]", "[70000]");
    let bench = Bench::with(&text);
    let ended = bench.run(&["validate", "-f", "policy.toml"]).code(2);
    assert!(ended.stdout.is_empty());
    assert!(
        ended.stderr.contains("policy.toml:10:") && ended.stderr.contains("policy.toml:16:"),
        "{}",
        ended.stderr
    );
}

#[test]
fn errors_of_a_policy_are_json_when_asked() {
    let bench = Bench::with(&bench::POLICY.replace("[443]", "[70000]"));
    let json = bench.run(&["validate", "-f", "policy.toml", "-o", "json"]).code(2).error_json();
    assert_eq!(json["code"], 2);
    let diagnostics = json["diagnostics"].as_array().expect("a list");
    assert_eq!(diagnostics.len(), 1, "{json}");
    assert_eq!((&diagnostics[0]["file"], &diagnostics[0]["line"]), (&"policy.toml".into(), &16.into()));
    assert!(diagnostics[0]["message"].is_string() && diagnostics[0]["column"].is_u64());
}

#[test]
fn a_policy_that_is_missing_empty_or_a_folder_is_refused_by_name() {
    let bench = Bench::with("");
    let ended = bench.run(&["validate", "-f", "none.toml"]).code(2);
    assert!(ended.stderr.contains("none.toml"), "{}", ended.stderr);
    let ended = bench.run(&["validate", "-f", "policy.toml"]).code(2);
    assert!(ended.stderr.contains("policy.toml"), "{}", ended.stderr);
    let ended = bench.run(&["validate", "-f", "."]).code(2);
    assert!(ended.stderr.contains("directory"), "{}", ended.stderr);
}

#[test]
fn wrong_usage_is_exit_code_2_and_suggests() {
    let bench = Bench::new();
    let ended = bench.run(&["statsu"]).code(2);
    assert!(ended.stderr.contains("'status'"), "{}", ended.stderr);
    bench.run(&[]).code(2);
    bench.run(&["sg"]).code(2);
    for (args, hint) in [
        ("sg add web ingress -p tpc --from any", "did you mean `tcp`?"),
        ("sg add web ingress -p tcp --port 70000 --from any", "70000"),
        ("sg add web ingress -p tcp --port 90-80 --from any", "80-90"),
        ("sg add web ingress -p tcp --from 10.0.0.1/8", "10.0.0.0/8"),
        ("sg add web ingress -p tcp --to any", "--from"),
        ("sg add web egress -p tcp", "--to"),
        ("sg add web ingress -p icmp --icmp-code 1 --from any", "--icmp-type"),
        ("sg add web sideways -p tcp --from any", "ingress"),
        ("sg remove web", "--id"),
        ("sg remove web --id 1 -p tcp", "--id"),
        ("sg remove web --id xyz", "rule id"),
        ("flows list --filter nonsense", "nonsense"),
        ("acl add deny ingress -p tcp --port 23 --from any --position 1 --before 1", "--position"),
        ("acl remove", "--position"),
        ("acl remove --id 1 --position 1", "--id"),
        ("acl add drop ingress -p tcp --from any", "deny"),
        ("network create web --type nat", "--subnet"),
        ("network create web --type net --subnet 10.0.0.0/24", "'nat'"),
        ("network set web", "--mtu"),
        ("network set web --mtu 1400 --no-mtu", "--no-mtu"),
        ("port create a --network web", "--netns"),
        ("port create a --network web --netns a --device tap0", "--device"),
        ("port create a --network web --device tap0 --create", "--create"),
        ("port create a --network web --netns a --origin x", "--runtime"),
        ("port create a --network web --netns a --tap tap0", "--tap"),
        ("port create a --network web --netns a --owner 1000", "--tap"),
        ("port create a --network web --tap tap0 --interface eth0", "--interface"),
        ("port create a --network web --tap tap0 --owner qemu", "'qemu'"),
        ("network create web --type routed", "--subnet"),
        ("network set web --vlan 10 --no-vlan", "--no-vlan"),
        ("network set web --peer 192.0.2.12 --no-vni", "--no-vni"),
        ("port set a", "--group"),
        ("sg set web", "--on-change"),
        ("sg set web --on-change kepe", "keep"),
        ("ipam release nonsense", "nonsense"),
        ("forward add --listen 8080 -p tcp --to web-1:80", "write \"0.0.0.0:8080\" for IPv4"),
        ("forward add --listen 0.0.0.0:0 -p tcp --to web-1:80", "0 is not a port"),
        ("forward add --listen 0.0.0.0:80 -p icmp --to web-1:80", "'icmp'"),
        ("forward add --listen 0.0.0.0:80 -p tcp --to web-1:80-81", "web-1:80"),
        ("forward add --listen 0.0.0.0:80 -p tcp", "--to"),
        ("forward add --listen 0.0.0.0:80 -p tcp --to web-1:80=101", "101 is not a weight"),
        ("forward add --listen 0.0.0.0:80 -p tcp --to web-1:80 --affinity source", "'source'"),
        ("forward set --listen 0.0.0.0:80 -p tcp", "--to"),
        ("forward remove --listen 0.0.0.0:80", "--protocol"),
        ("eip associate 198.51.100.0/24 web-1", "198.51.100.0/24"),
        ("eip associate 198.51.100.20", "<PORT>"),
        ("eip associate 198.51.100.20 web-1 --on-change kepe", "keep"),
        ("network set web --uplink eth0 --no-uplink", "--no-uplink"),
        ("completion tcsh", "bash"),
        ("man", "<DIR>"),
    ] {
        let ended = bench.run(&args.split(' ').collect::<Vec<_>>()).code(2);
        assert!(ended.stderr.contains(hint), "{args}: {}", ended.stderr);
    }
}

#[test]
fn usage_errors_are_json_when_asked() {
    let bench = Bench::new();
    for args in [["statsu", "-o", "json"], ["-o", "json", "statsu"], ["--output=json", "sg", "lsit"]] {
        let json = bench.run(&args).code(2).error_json();
        assert_eq!(json["code"], 2);
        assert!(json["error"].as_str().expect("a sentence").starts_with("unrecognized subcommand"), "{json}");
        assert!(json["help"].as_str().expect("advice").contains("similar"), "{json}");
    }
}

#[test]
fn without_a_daemon_nothing_changes_and_the_way_to_start_it_is_told() {
    let bench = Bench::new();
    let before = bench.text();
    for args in [
        "status",
        "port list",
        "port show web-1",
        "port stats web-1",
        "network ls",
        "drops",
        "flows list",
        "flows flush",
        "apply -f policy.toml",
        "sg add web ingress -p tcp --port 80 --from any",
        "sg add web ingress -p tcp --port 80 --from any --policy policy.toml",
        "sg remove web ingress -p tcp --port 443 --from any --policy policy.toml",
        "sg create new --policy policy.toml",
        "sg delete db --policy policy.toml",
        "sg set db --description x --policy policy.toml",
        "acl add deny ingress -p tcp --from any --policy policy.toml",
        "network create new --type private --subnet 10.40.0.0/24 --policy policy.toml",
        "network delete back --policy policy.toml",
        "port create new --network front --netns new --policy policy.toml",
        "port create new --network front --netns new --runtime",
        "port delete web-1 --policy policy.toml",
        "forward list",
        "forward add --listen 0.0.0.0:80 -p tcp --to web-1:80 --policy policy.toml",
        "forward set --listen 0.0.0.0:80 -p tcp --to web-1:80 --policy policy.toml",
        "forward remove --listen 0.0.0.0:80 -p tcp --policy policy.toml",
        "eip list",
        "eip associate 198.51.100.20 web-1 --policy policy.toml",
        "eip disassociate 198.51.100.20 --policy policy.toml",
        "ipam show",
        "ipam check",
        "monitor",
    ] {
        let ended = bench.run(&args.split(' ').collect::<Vec<_>>()).code(3);
        assert!(ended.stderr.contains("vnet-ctl run"), "{args}: {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{args}: {}", ended.stdout);
    }
    assert_eq!(bench.text(), before);
    assert_eq!(bench.names(), ["policy.toml"]);
}

#[test]
fn a_socket_that_nobody_listens_to_is_no_daemon() {
    let bench = Bench::new();
    drop(std::os::unix::net::UnixListener::bind(bench.path().join("vnet.sock")).expect("a socket"));
    let ended = bench.run(&["status", "-o", "json"]).code(3);
    let json = ended.error_json();
    assert_eq!(json["code"], 3);
    assert!(json["error"].as_str().expect("a sentence").contains("vnet.sock"), "{json}");
    assert!(json["help"].as_str().expect("advice").contains("vnet-ctl run"), "{json}");
    assert_eq!(json["diagnostics"], serde_json::json!([]));
}

#[test]
fn groups_are_listed_from_the_file_without_a_daemon() {
    let bench = Bench::new();
    let ended = bench.run(&["sg", "ls", "--policy", "policy.toml"]).code(0);
    assert!(ended.stdout.starts_with("NAME"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}') && ended.stdout.contains("public web tier"));
    let names = bench.run(&["sg", "ls", "--policy", "policy.toml", "-o", "name"]).code(0);
    assert_eq!(names.stdout, "db\ndefault\nweb\n");
    let json = bench.run(&["sg", "list", "--policy", "policy.toml", "-o", "json"]).code(0).json();
    let web = json.as_array().expect("a list").iter().find(|group| group["name"] == "web").expect("web");
    assert_eq!(web["ports"], serde_json::json!(["web-1"]));
    assert_eq!(web["ingress"][0]["id"].as_str().map(str::len), Some(8));
}

#[test]
fn a_group_shows_its_rules_with_ids() {
    let bench = Bench::new();
    let ended = bench.run(&["sg", "show", "web", "--policy", "policy.toml"]).code(0);
    let rule = ended.stdout.lines().find(|line| line.ends_with("https")).expect("the rule");
    let cells: Vec<&str> = rule.split_whitespace().skip(1).collect();
    assert_eq!(cells, ["ingress", "tcp", "443", "any", "https"], "{}", ended.stdout);
    let ended = bench.run(&["sg", "show", "wbe", "--policy", "policy.toml"]).code(4);
    assert!(ended.stderr.contains("did you mean `web`?"), "{}", ended.stderr);
}

#[test]
fn a_group_test_says_which_rule_decides() {
    let bench = Bench::new();
    let test = |args: &str| {
        let args = format!("sg test --policy policy.toml {args}");
        bench.run(&args.split(' ').collect::<Vec<_>>())
    };
    let ended = test("--from client --to web-1 -p tcp --port 443").code(0);
    assert!(ended.stdout.starts_with("allowed  10.10.0.20 -> 10.10.0.10\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("of sg:web at web-1: ingress tcp 443 from any"), "{}", ended.stdout);
    let ended = test("--from client --to web-1 -p tcp --port 80").code(1);
    assert!(ended.stdout.contains("denied at web-1: no rule of sg:web allows it"), "{}", ended.stdout);
    let json = test("--from client --to web-1 -p tcp --port 80 -o json").code(1).json();
    assert_eq!((&json["allowed"], &json["ingress"]["verdict"]), (&false.into(), &"denied".into()));
    test("--from host --to web-1 -p tcp --port 80").code(0);
    test("--from nobody --to web-1 -p tcp --port 80").code(4);
    test("--from client --to web-1 -p tcp --port 0").code(2);
}

#[test]
fn a_group_test_knows_the_addresses_that_were_assigned() {
    let bench = Bench::with(&bench::POLICY.replace("addresses = [\"10.10.0.20\"]\n", ""));
    let args = "sg test --policy policy.toml --from client --to web-1 -p tcp --port 443";
    let args: Vec<&str> = args.split(' ').collect();
    let ended = bench.run(&args).code(0);
    assert!(ended.stdout.starts_with("allowed  10.10.0.2 -> 10.10.0.10\n"), "{}", ended.stdout);
    let mut state = State::default();
    state.addresses.insert("client".to_owned(), vec!["10.10.0.77".parse().unwrap()]);
    state.save(&bench.path().join("state")).unwrap();
    let ended = bench.run(&args).code(0);
    assert!(ended.stdout.starts_with("allowed  10.10.0.77 -> 10.10.0.10\n"), "{}", ended.stdout);
}

#[test]
fn a_group_test_warns_of_a_state_that_it_cannot_read() {
    let bench = Bench::new();
    fs::create_dir(bench.path().join("state")).expect("a folder");
    fs::write(bench.path().join("state/state.json"), "{").expect("written");
    let args = "sg test --policy policy.toml --from client --to web-1 -p tcp --port 443";
    let ended = bench.run(&args.split(' ').collect::<Vec<_>>()).code(0);
    assert!(ended.stderr.contains("state.json is damaged"), "{}", ended.stderr);
}

#[test]
fn a_dry_run_shows_the_diff_and_changes_nothing() {
    let bench = Bench::new();
    let before = bench.text();
    let args = ["sg", "add", "web", "ingress", "-p", "tcp", "--port", "80", "--from", "any", "--dry-run"];
    let ended = bench.run(&[&args[..], &["--policy", "policy.toml"]].concat()).code(0);
    let added: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with('+')).collect();
    assert!(added.len() >= 2 && added[1].contains("80"), "{}", ended.stdout);
    assert!(!ended.stdout.lines().skip(2).any(|line| line.starts_with('-')), "{}", ended.stdout);
    assert_eq!((bench.text(), bench.names()), (before, vec!["policy.toml".to_owned()]));
}

#[test]
fn help_is_worth_reading() {
    let bench = Bench::new();
    for (args, expected) in [
        ("--help", "Exit codes:"),
        ("help sg", "Security groups"),
        ("sg add --help", "vnet-ctl sg add web ingress -p tcp --port 80,443 --from any"),
        ("sg test --help", "--from <WHO>"),
        ("forward add --help", "vnet-ctl forward add --listen 0.0.0.0:8080 -p tcp --to web-1:80"),
        ("eip associate --help", "--on-change"),
        ("network set --help", "--snat uplink"),
        ("network create --help", "Beyond this host:"),
        ("port create --help", "--owner <UID>"),
        ("run --help", "--ephemeral"),
        ("run --help", "VNET_STATE_DIR"),
        ("teardown --help", "VNET_BPFFS"),
        ("validate -h", "-f, --file <FILE>"),
        ("flows flush --help", "--filter <TERM,…>"),
    ] {
        let ended = bench.run(&args.split(' ').collect::<Vec<_>>()).code(0);
        assert!(ended.stdout.contains(expected), "{args}: {}", ended.stdout);
        assert!(ended.stderr.is_empty());
    }
}

#[test]
fn the_version_needs_no_daemon() {
    let bench = Bench::new();
    let ended = bench.run(&["version"]).code(0);
    assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")) && ended.stdout.contains("not running"));
    let json = bench.run(&["version", "-o", "json"]).code(0).json();
    assert_eq!(
        (&json["version"], &json["daemon"]),
        (&env!("CARGO_PKG_VERSION").into(), &serde_json::Value::Null)
    );
    bench.run(&["--version"]).code(0);
}

#[test]
fn a_packet_is_tested_against_the_acl_and_between_networks() {
    let acl = "[[acl]]\naction = \"deny\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = [443]\nfrom = [\"any\"]\n";
    let bench = Bench::with(&format!("{}{acl}", bench::POLICY));
    let test = |from, to, port| {
        bench.run(&[
            "sg",
            "test",
            "--policy",
            "policy.toml",
            "--from",
            from,
            "--to",
            to,
            "-p",
            "tcp",
            "--port",
            port,
        ])
    };
    let ended = test("client", "web-1", "443").code(1);
    assert!(
        ended.stdout.contains("denied by entry 1 of the acl at web-1: ingress tcp 443"),
        "{}",
        ended.stdout
    );
    let ended = test("web-1", "db-1", "5432").code(1);
    assert!(
        ended.stdout.contains("are not joined: add connect = [\"back\"] to [networks.front]"),
        "{}",
        ended.stdout
    );
    let joined = bench.text().replace("type = \"nat\"", "type = \"nat\"\nconnect = [\"back\"]");
    std::fs::write(bench.policy(), joined).unwrap();
    test("web-1", "db-1", "5432").code(0);
    let ended = test("db-1", "host", "22").code(0);
    assert!(ended.stdout.contains("a failsafe port of the host"), "{}", ended.stdout);
}

#[test]
fn shells_get_a_script_that_they_understand() {
    let bench = Bench::new();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef vnet-ctl"), ("fish", "complete -c vnet-ctl")]
    {
        let ended = bench.run(&["completion", shell]).code(0);
        assert!(ended.stdout.contains(word) && ended.stdout.contains("if-not-exists"), "{shell}");
    }
    let script = bench.run(&["completion", "bash"]).code(0).stdout;
    fs::write(bench.path().join("script"), script).expect("written");
    let bash = std::process::Command::new("bash").args(["-n", "script"]).current_dir(bench.path()).status();
    assert!(bash.expect("bash").success());
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let bench = Bench::new();
    let ended = bench.run(&["man", "deep/folder"]).code(0);
    assert!(ended.stderr.contains("deep/folder"), "{}", ended.stderr);
    let page = fs::read_to_string(bench.path().join("deep/folder/vnet-ctl-acl-add.1")).expect("a page");
    assert!(page.contains("acl add deny ingress") && page.contains("\\-\\-position"), "{page}");
    assert!(!bench.path().join("deep/folder/vnet-ctl-help.1").exists());
    let again = bench.run(&["man", "deep/folder", "-o", "name"]).code(0);
    assert!(again.stdout.lines().any(|line| line == "deep/folder/vnet-ctl.1"), "{}", again.stdout);
    let ended = bench.run(&["man", "policy.toml"]).code(2);
    assert!(ended.stderr.contains("is a file, not a folder"), "{}", ended.stderr);
    bench.run(&["man", "none", "--dry-run"]).code(0);
    assert!(!bench.path().join("none").exists());
}

#[test]
fn the_acl_is_listed_from_the_file_without_a_daemon() {
    let entry = |action: &str, port: u16| {
        format!(
            "\n[[acl]]\naction = \"{action}\"\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = [{port}]\nfrom = [\"any\"]\n"
        )
    };
    let bench = Bench::with(&format!("{}{}{}", bench::POLICY, entry("deny", 23), entry("allow", 22)));
    let ended = bench.run(&["acl", "ls", "--policy", "policy.toml"]).code(0);
    let rows: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["ID", "POSITION", "ACTION"]);
    assert_eq!(rows[1][1..], ["1", "deny", "ingress", "tcp", "23", "any", "-"]);
    assert_eq!(rows[2][1..3], ["2", "allow"]);
    let json = bench.run(&["acl", "list", "--policy", "policy.toml", "-o", "json"]).code(0).json();
    assert_eq!((&json[1]["action"], &json[1]["position"]), (&"allow".into(), &2.into()));
    let empty = Bench::new().run(&["acl", "list", "--policy", "policy.toml", "-o", "json"]).code(0).json();
    assert_eq!(empty, serde_json::json!([]));
}

#[test]
fn color_is_for_terminals_unless_forced() {
    let bench = Bench::new();
    let plain = bench.run(&["sg", "ls", "--policy", "policy.toml"]).code(0);
    let forced = bench.run(&["sg", "ls", "--policy", "policy.toml", "--color", "always"]).code(0);
    assert!(!plain.stdout.contains('\u{1b}') && forced.stdout.contains('\u{1b}'));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let bench = Bench::new();
    for args in [&["sg", "ls", "--policy", "policy.toml"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = bench.command(args).stdout(writer).stderr(Stdio::piped()).spawn().expect("runs");
        let output = child.wait_with_output().expect("ends");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn a_broken_file_is_not_edited() {
    let bench = Bench::with(&bench::POLICY.replace("[443]", "[70000]"));
    let args =
        ["sg", "add", "web", "ingress", "-p", "tcp", "--from", "any", "--policy", "policy.toml", "--dry-run"];
    let ended = bench.run(&args).code(2);
    assert!(ended.stderr.contains("70000"), "{}", ended.stderr);
    assert!(fs::exists(bench.policy()).expect("looked"));
}
