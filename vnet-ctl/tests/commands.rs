//! Commands that declare networks, ports, groups and the acl, against a stand-in daemon; and those that
//! ask it about addresses and events.

mod bench;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use bench::{Answer, Bench, Ended};
use serde_json::json;

fn run(bench: &Bench, line: &str) -> Ended {
    bench.run(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn a_network_comes_changes_and_goes() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let ended =
        run(&bench, "network create new --type private --subnet 10.40.0.0/24,fd00:40::/64 --no-host").code(0);
    assert_eq!(ended.stdout, "created new\n");
    assert!(ended.stderr.contains("generation 2"), "{}", ended.stderr);
    assert!(bench.text().contains("[networks.new]\ntype = \"private\""), "{}", bench.text());
    assert_eq!(daemon.texts(), [bench.text()]);
    run(&bench, "network create new --type nat --subnet 10.50.0.0/24").code(5);
    let ended =
        run(&bench, "network create new --type nat --subnet 10.50.0.0/24 --if-not-exists -o json").code(0);
    assert_eq!((&ended.json()["network"], &ended.json()["changed"]), (&json!("new"), &json!(false)));
    let ended = run(&bench, "network set new --connect front --host -o name").code(0);
    assert_eq!(ended.stdout, "new\n");
    assert!(
        bench.text().contains("connect = [\"front\"]") && !bench.text().contains("host ="),
        "{}",
        bench.text()
    );
    run(&bench, "network set new --no-connect").code(0);
    assert_eq!(run(&bench, "network rm new").code(0).stdout, "deleted new\n");
    assert_eq!(bench.text(), before);
    run(&bench, "network delete new").code(4);
    run(&bench, "network delete new --if-exists").code(0);
    let ended = run(&bench, "network delete front").code(5);
    assert!(
        ended.stderr.contains("port `web-1`") && ended.stderr.contains("vnet-ctl port delete"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_port_comes_changes_and_goes() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let create = "port create new --network front --netns new --create --address 10.10.0.40 --group web,db";
    assert_eq!(run(&bench, create).code(0).stdout, "created new\n");
    assert!(bench.text().contains("attach = { netns = \"new\", create = true }"), "{}", bench.text());
    run(&bench, create).code(5);
    run(&bench, &format!("{create} --if-not-exists")).code(0);
    assert_eq!(daemon.texts().len(), 1, "nothing to apply the second time");
    run(&bench, "port set new --group db --no-address --device tap9").code(0);
    assert!(
        bench.text().contains("security_groups = [\"db\"]\nattach = { device = \"tap9\" }"),
        "{}",
        bench.text()
    );
    run(&bench, "port delete new").code(0);
    assert_eq!(bench.text(), before);
    run(&bench, "port rm new").code(4);
    run(&bench, "port rm new --if-exists").code(0);
    assert!(daemon.runtime_ports().is_empty());
}

#[test]
fn a_port_of_a_runtime_is_in_no_file() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let create = "port create job --network front --netns job --runtime --origin ci --group web";
    assert_eq!(run(&bench, create).code(0).stdout, "created job\n");
    let asked =
        json!({"network": "front", "origin": "ci", "security_groups": ["web"], "attach": {"netns": "job"}});
    assert_eq!(daemon.runtime_ports()["job"], asked);
    let ended = run(&bench, create).code(5);
    assert!(ended.stderr.contains("vnet-ctl port set job"), "{}", ended.stderr);
    let again = run(&bench, &format!("{create} --if-not-exists -o json")).code(0).json();
    assert_eq!((&again["name"], &again["changed"]), (&json!("job"), &json!(false)));
    run(&bench, "port set job --group db,web").code(0);
    assert_eq!(daemon.runtime_ports()["job"]["security_groups"], json!(["db", "web"]));
    assert_eq!(daemon.runtime_ports()["job"]["origin"], "ci");
    assert_eq!(run(&bench, "port rm job --dry-run").code(0).stdout, "would delete job of ci\n");
    assert_eq!(run(&bench, "port rm job").code(0).stdout, "deleted job\n");
    assert!(daemon.runtime_ports().is_empty());
    run(&bench, "port create job --network front --netns job --runtime --dry-run").code(0);
    assert!(daemon.runtime_ports().is_empty());
    assert_eq!((bench.text(), daemon.texts().len()), (before, 0));
}

#[test]
fn an_entry_of_the_acl_comes_in_its_place_and_goes() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let deny = "acl add deny ingress -p tcp --port 23 --from any";
    let first = run(&bench, deny).code(0).stdout.trim().to_owned();
    assert_eq!(first.len(), 8);
    run(&bench, deny).code(5);
    assert_eq!(run(&bench, &format!("{deny} --if-not-exists")).code(0).stdout.trim(), first);
    let before_it = format!("acl add allow ingress -p tcp --port 22 --from 192.0.2.0/24 --before {first}");
    let second = run(&bench, &before_it).code(0).stdout.trim().to_owned();
    assert_eq!(run(&bench, "acl ls -o name").code(0).stdout, format!("{second}\n{first}\n"));
    run(&bench, "acl add deny egress -p any --to any --after 1").code(4);
    run(&bench, "acl add deny egress -p any --to any --position 9").code(4);
    assert_eq!(run(&bench, "acl remove --position 1").code(0).stdout, format!("removed {second}\n"));
    assert_eq!(run(&bench, &deny.replace("add", "rm")).code(0).stdout, format!("removed {first}\n"));
    assert_eq!(bench.text(), before);
    run(&bench, &format!("acl rm --id {first}")).code(4);
    run(&bench, &format!("acl rm --id {first} --if-exists")).code(0);
    assert_eq!(daemon.texts().len(), 4);
}

#[test]
fn a_forward_comes_and_goes() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let add = "forward add --listen 0.0.0.0:8443 -p tcp --to web-1:443";
    assert_eq!(run(&bench, add).code(0).stdout, "added tcp/0.0.0.0:8443\n");
    assert!(bench.text().contains("[[forwards]]\nlisten = \"0.0.0.0:8443\""), "{}", bench.text());
    assert_eq!(daemon.texts(), [bench.text()]);
    let ended = run(&bench, add).code(5);
    assert!(ended.stderr.contains("forwarded to web-1:443 already"), "{}", ended.stderr);
    let again = run(&bench, &format!("{add} --if-not-exists -o json")).code(0).json();
    assert_eq!((&again["forward"], &again["changed"]), (&json!("tcp/0.0.0.0:8443"), &json!(false)));
    let set = "forward set --listen 0.0.0.0:8443 -p tcp --to web-1 --to client:80=3 --affinity client";
    assert_eq!(run(&bench, set).code(0).stdout, "changed tcp/0.0.0.0:8443\n");
    let list = "to = [\"web-1:443\", { port = \"client:80\", weight = 3 }]\naffinity = \"client\"";
    assert!(bench.text().contains(list), "{}", bench.text());
    run(&bench, "forward rm --listen 0.0.0.0:8443 -p tcp --to web-1:443").code(4);
    run(&bench, "forward set --listen 0.0.0.0:8444 -p tcp --to web-1:443").code(4);
    let elsewhere = "forward add --listen 0.0.0.0:8443 -p tcp --to client:443 --if-not-exists";
    run(&bench, elsewhere).code(5);
    run(&bench, "forward rm --listen 0.0.0.0:8443 -p tcp --to client:443").code(4);
    let removed = run(&bench, "forward remove --listen 0.0.0.0:8443 -p tcp").code(0);
    assert_eq!(removed.stdout, "removed tcp/0.0.0.0:8443\n");
    assert_eq!(bench.text(), before);
    run(&bench, "forward rm --listen 0.0.0.0:8443 -p tcp").code(4);
    run(&bench, "forward rm --listen 0.0.0.0:8443 -p tcp --if-exists").code(0);
    let add = "forward add --listen 0.0.0.0:8443 -p tcp --to web-1:443 --to client:443=0";
    run(&bench, add).code(0);
    assert!(bench.text().contains("{ port = \"client:443\", weight = 0 }"), "{}", bench.text());
    assert_eq!(daemon.texts().len(), 4);
}

#[test]
fn an_elastic_ip_comes_moves_and_goes() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    let ended = run(&bench, "eip associate 198.51.100.20 web-1").code(0);
    assert_eq!(ended.stdout, "port web-1 has 198.51.100.20\n");
    assert!(
        bench.text().contains("[elastic_ips]\n\"198.51.100.20\" = { port = \"web-1\" }"),
        "{}",
        bench.text()
    );
    assert_eq!(
        run(&bench, "eip associate 198.51.100.20 web-1").code(0).stdout,
        "198.51.100.20 is so already\n"
    );
    let moved = run(&bench, "eip associate 198.51.100.20 client --on-change keep -o json").code(0).json();
    assert_eq!((&moved["elastic_ip"], &moved["changed"]), (&json!("198.51.100.20"), &json!(true)));
    assert!(bench.text().contains("{ port = \"client\", on_change = \"keep\" }"), "{}", bench.text());
    run(&bench, "eip associate 198.51.100.20 nobody").code(4);
    let ended = run(&bench, "port rm client").code(5);
    assert!(ended.stderr.contains("elastic IP 198.51.100.20"), "{}", ended.stderr);
    assert_eq!(run(&bench, "eip rm 198.51.100.20").code(0).stdout, "disassociated 198.51.100.20\n");
    assert_eq!(bench.text(), before);
    run(&bench, "eip disassociate 198.51.100.20").code(4);
    run(&bench, "eip disassociate 198.51.100.20 --if-exists").code(0);
    assert_eq!(daemon.texts().len(), 3);
}

#[test]
fn forwards_and_elastic_ips_are_listed_as_they_are_in_force() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let row = |line: &str| -> Vec<String> {
        let ended = run(&bench, line).code(0);
        ended.stdout.lines().nth(1).expect("a row").split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("forward list"), ["0.0.0.0:8080", "tcp", "web-1:80", "1"]);
    assert_eq!(row("forward ls -o wide")[4..], ["flow", "front", "10.10.0.10"]);
    assert_eq!(run(&bench, "forward ls -o name").code(0).stdout, "tcp/0.0.0.0:8080\n");
    assert_eq!(run(&bench, "forward ls -o json").code(0).json()[0]["backends"][0]["port"], "web-1");
    assert!(run(&bench, "forward ls -o yaml").code(0).stdout.contains("to: web-1:80"));
    assert_eq!(row("eip list"), ["198.51.100.20", "web-1", "10.10.0.10"]);
    assert_eq!(row("eip ls -o wide")[3..], ["front", "eth0", "cut"]);
    assert_eq!(run(&bench, "eip ls -o name").code(0).stdout, "198.51.100.20\n");
    assert_eq!(run(&bench, "eip list -o json").code(0).json()[0]["elastic_ip"], "198.51.100.20");
}

#[test]
fn a_network_is_told_how_it_leads_outside() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let create = "network create out --type nat --subnet 10.40.0.0/24 --uplink eth0 --snat 198.51.100.9 \
                  --snat-ports 2000-2999 --no-snat 10.0.0.0/8,192.0.2.0/24 \
                  --mapping endpoint-independent --clamp-mss true";
    run(&bench, &create.split_whitespace().collect::<Vec<_>>().join(" ")).code(0);
    let keys = "uplink = \"eth0\"\nsnat = [\"198.51.100.9\"]\nsnat_ports = \"2000-2999\"\nno_snat = [\"10.0.0.0/8\", \"192.0.2.0/24\"]\n\
                mapping = \"endpoint-independent\"\nclamp_mss = true\n";
    assert!(bench.text().contains(keys), "{}", bench.text());
    run(&bench, "network set out --no-snat 10.0.0.0/8 --snat 198.51.100.9,198.51.100.10").code(0);
    assert!(bench.text().contains("no_snat = [\"10.0.0.0/8\"]\n"), "{}", bench.text());
    run(&bench, "network set out --no-uplink --snat uplink --no-snat-ports --no-snat none").code(0);
    run(&bench, "network set out --mapping endpoint-dependent --clamp-mss false").code(0);
    let keys = "subnets = [\"10.40.0.0/24\"]\nmapping = \"endpoint-dependent\"\nclamp_mss = false\n\n";
    assert!(bench.text().contains(keys), "{}", bench.text());
    let ended = run(&bench, "network set back --uplink eth0").code(2);
    assert!(ended.stderr.contains("`uplink` does not go with a private network"), "{}", ended.stderr);
}

#[test]
fn a_network_goes_beyond_the_host() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    run(&bench, "network create red --type private --subnet 10.40.0.0/24 --vlan 10 --trunk eth1").code(0);
    assert!(bench.text().contains("vlan = 10\ntrunk = \"eth1\"\n"), "{}", bench.text());
    run(&bench, "network set red --vlan 100,10 --priority 5").code(0);
    let keys = "vlan = [100, 10]\ntrunk = \"eth1\"\npriority = 5\n";
    assert!(bench.text().contains(keys), "{}", bench.text());
    run(&bench, "network set red --no-priority --vni 7 --peer 192.0.2.12").code(2);
    run(&bench, "network set red --no-vlan --vni 7 --peer 192.0.2.12,192.0.2.13 --uplink eth0").code(0);
    let keys = "uplink = \"eth0\"\nvni = 7\npeers = [\"192.0.2.12\", \"192.0.2.13\"]\n";
    assert!(bench.text().contains(keys), "{}", bench.text());
    let ended = run(&bench, "network set red --no-vni").code(2);
    assert!(ended.stderr.contains("`uplink` does not go with a private network"), "{}", ended.stderr);
    run(&bench, "network set red --no-vni --no-uplink").code(0);
    run(&bench, "network rm red").code(0);
    run(&bench, "network create lan --type bridged --uplink eth1").code(0);
    assert!(bench.text().contains("type = \"bridged\"\nuplink = \"eth1\"\n"), "{}", bench.text());
    let ended = run(&bench, "network create two --type bridged --uplink eth1").code(2);
    assert!(ended.stderr.contains("network `lan` is bridged to `eth1` without a tag"), "{}", ended.stderr);
    run(&bench, "network create out --type routed --subnet 10.41.0.0/24 --vlan 20 --trunk eth1").code(0);
    let port = "port create vm --network lan --tap tap1 --owner 1000 --vlan-of out";
    run(&bench, port).code(0);
    let keys = "vlans = [\"out\"]\nattach = { tap = \"tap1\", create = true, owner = 1000 }\n";
    assert!(bench.text().contains(keys), "{}", bench.text());
    let ended = run(&bench, "network rm out").code(5);
    assert!(ended.stderr.contains("port `vm`"), "{}", ended.stderr);
    run(&bench, "port set vm --no-vlan-of --tap tap1").code(0);
    assert!(bench.text().contains("network = \"lan\"\nattach = { tap = \"tap1\" }\n"), "{}", bench.text());
    for line in ["port rm vm", "network rm out", "network rm lan"] {
        run(&bench, line).code(0);
    }
    assert_eq!(bench.text(), before);
}

#[test]
fn a_runtime_may_ask_for_a_tap() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let create = "port create vm --network front --tap tap1 --owner 1000 --vlan-of red --runtime";
    run(&bench, create).code(0);
    let asked = json!({
        "network": "front", "vlans": ["red"], "origin": "vnet-ctl",
        "attach": {"tap": "tap1", "create": true, "owner": 1000}
    });
    assert_eq!(daemon.runtime_ports()["vm"], asked);
}

#[test]
fn what_no_rule_admits_is_warned_of_by_name() {
    let forward = "[[forwards]]\nlisten = \"0.0.0.0:80\"\nprotocol = \"tcp\"\nto = \"web-1\"\n";
    let bench = Bench::with(&format!("{}\n{forward}", bench::POLICY));
    let ended = run(&bench, "validate -f policy.toml").code(0);
    for words in
        ["policy.toml:", "forward tcp/0.0.0.0:80", "vnet-ctl sg add web ingress -p tcp --port 80 --from any"]
    {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    let json = run(&bench, "validate -f policy.toml -o json").code(0).json();
    assert_eq!((json["warnings"].as_array().map(Vec::len), &json["forwards"]), (Some(1), &json!(1)));
}

#[test]
fn a_group_is_described_and_says_what_a_change_does() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    run(&bench, "sg create new --on-change keep").code(0);
    assert!(bench.text().contains("[security_groups.new]\non_change = \"keep\""), "{}", bench.text());
    run(&bench, "sg set new --on-change cut --description x").code(0);
    assert!(bench.text().contains("on_change = \"cut\"\ndescription = \"x\""), "{}", bench.text());
    run(&bench, "sg set new --no-description").code(0);
    assert!(!bench.text().contains("description = \"x\""), "{}", bench.text());
    run(&bench, "sg set none --description x").code(4);
    let ended = run(&bench, "sg set new --on-change cut").code(0);
    assert_eq!(ended.stdout, "new is so already\n");
}

#[test]
fn a_mistake_is_shown_at_its_place_and_changes_nothing() {
    let bench = Bench::new();
    let daemon = bench.daemon(Answer::Yes);
    let before = bench.text();
    for (line, words) in [
        ("network create b --type nat --subnet 10.60.0.1/24", "write \"10.60.0.0/24\""),
        ("network create b --type nat --subnet 10.10.0.0/16", "overlaps"),
        ("network create b --type nat --subnet 10.60.0.0/24 --mtu 100", "out of range"),
        ("network create b --type nat --subnet 10.60.0.0/24 --connect none", "`none`"),
        ("network set back --connect back", "`back`"),
        ("port create p --network frnt --netns p", "did you mean `front`?"),
        (
            "port create p --network front --netns p --address 10.10.0.10",
            "the address 10.10.0.10 belongs to port",
        ),
        ("port create p --network front --netns p --group none", "no security group `none`"),
        ("port set web-1 --mac 01:00:00:00:00:01", "no interface can have"),
        ("acl add deny ingress -p tcp --from sg:none", "no security group `none`"),
        ("forward add --listen 0.0.0.0:80 -p tcp --to none:80", "no port `none`"),
        ("forward add --listen 0.0.0.0:80 -p tcp --to db-1:80", "the private network `back`"),
        ("forward add --listen [::]:80 -p tcp --to client:80", "no IPv6 address"),
        ("forward add --listen 0.0.0.0:80 -p sctp --to web-1:81", "SCTP keeps its ports"),
        ("eip associate 10.10.0.99 web-1", "in the subnet 10.10.0.0/24"),
        ("eip associate 198.51.100.20 db-1", "the private network `back`"),
        ("network set front --snat 10.20.0.9", "of network `back`, not outside"),
        ("network set front --snat-ports 0", "0 is not a port"),
    ] {
        let ended = run(&bench, line).code(2);
        assert!(
            ended.stderr.contains(words) && ended.stderr.contains("nothing was changed"),
            "{line}: {}",
            ended.stderr
        );
        assert!(ended.stderr.contains("as it would be:"), "{line}: {}", ended.stderr);
        let json = run(&bench, &format!("{line} -o json")).code(2).error_json();
        assert!(json["diagnostics"][0]["line"].as_u64().is_some_and(|number| number > 1), "{json}");
    }
    assert_eq!((bench.text(), daemon.texts().len()), (before, 0));
    assert_eq!(bench.names(), ["policy.toml", "vnet.sock"]);
}

#[test]
fn a_refusal_of_the_daemon_leaves_the_file_as_it_was() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::No);
    let before = bench.text();
    for line in [
        "network create new --type private --subnet 10.40.0.0/24",
        "port set web-1 --group db",
        "acl add deny ingress -p tcp --from any",
        "sg set web --on-change keep",
        "forward add --listen 0.0.0.0:8443 -p tcp --to web-1:443",
        "eip associate 198.51.100.20 web-1",
    ] {
        let ended = run(&bench, line).code(1);
        assert!(ended.stderr.contains("the kernel said no") && ended.stdout.is_empty(), "{ended:?}");
    }
    assert_eq!(bench.text(), before);
}

#[test]
fn a_dry_run_needs_no_daemon_and_shows_the_diff() {
    let bench = Bench::new();
    let before = bench.text();
    for (line, added) in [
        ("network create new --type private --subnet 10.40.0.0/24", "+[networks.new]"),
        ("port create new --network front --netns new", "+[ports.new]"),
        ("port set web-1 --mac 02:00:00:00:00:0b", "+mac = "),
        ("port delete web-1", "-[ports.web-1]"),
        ("acl add deny ingress -p tcp --port 23 --from any", "+[[acl]]"),
        ("sg set web --description y", "+description = \"y\"   # a comment"),
        ("forward add --listen 0.0.0.0:8443 -p tcp --to web-1:443", "+[[forwards]]"),
        ("eip associate 198.51.100.20 web-1", "+[elastic_ips]"),
    ] {
        let ended = run(&bench, &format!("{line} --dry-run --policy policy.toml")).code(0);
        assert!(ended.stdout.contains(added), "{line}: {}", ended.stdout);
    }
    assert_eq!((bench.text(), bench.names()), (before, vec!["policy.toml".to_owned()]));
}

#[test]
fn addresses_are_shown_checked_and_released() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let ended = run(&bench, "ipam show").code(0);
    assert!(ended.stdout.contains("10.10.0.0/24") && ended.stdout.contains("252"), "{}", ended.stdout);
    assert_eq!(run(&bench, "ipam show -o name").code(0).stdout, "10.10.0.10\n");
    run(&bench, "ipam show --network none").code(4);
    let ended = run(&bench, "ipam check").code(1);
    assert!(ended.stdout.contains("release it"), "{}", ended.stdout);
    run(&bench, "ipam release 10.10.0.10").code(5);
    assert_eq!(
        run(&bench, "ipam release 10.10.0.10 --dry-run").code(0).stdout,
        "would remove port web-1 of policy\n"
    );
    let ended = run(&bench, "ipam release 10.10.0.11").code(0);
    assert_eq!(ended.stdout, "released 10.10.0.11, port job is gone\n");
    run(&bench, "ipam release 10.10.0.12").code(4);
    run(&bench, "ipam release 10.10.0.12 --if-exists").code(0);
}

#[test]
fn a_change_that_takes_long_shows_how_far_it_is_on_a_terminal() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Slowly);
    let on_terminal = |line: &str| {
        // script(1) gives it a terminal.
        let line = format!("stty cols 100; {} {line}", env!("CARGO_BIN_EXE_vnet-ctl"));
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
        command.env("VNET_SOCKET", bench.path().join("vnet.sock")).current_dir(bench.path());
        let output = command.output().expect("script(1) of util-linux");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let seen = on_terminal("apply");
    assert!(seen.contains("preparing devices") && seen.contains("300/700"), "{seen:?}");
    // The line is erased before the answer is printed.
    let answer = seen.find("applied as generation 2").expect("an answer");
    assert!(seen[..answer].ends_with("\r\u{1b}[2K"), "{seen:?}");
    assert!(!on_terminal("apply -q").contains("preparing"));
    let piped = bench.run(&["apply"]).code(0);
    assert!(piped.stderr.is_empty(), "{piped:?}");
}

#[test]
fn past_events_are_printed_and_that_is_it() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let ended = run(&bench, "monitor --past").code(0);
    assert_eq!(ended.stdout, "    1  applied   a policy\n    2  problem   a device is gone\n");
    let ended = run(&bench, "monitor --past --after 1 -o json").code(0);
    assert_eq!(ended.stdout, "{\"id\":2,\"kind\":\"problem\",\"message\":\"a device is gone\"}\n");
    let ended = run(&bench, "monitor --past --after 2").code(0);
    assert!(ended.stdout.is_empty() && ended.stderr.contains("Nothing"), "{ended:?}");
}

#[test]
fn events_are_printed_as_they_come() {
    let bench = Bench::new();
    let _daemon = bench.daemon(Answer::Yes);
    let mut child = bench.command(&["monitor", "-o", "json"]).stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let first = lines.next().expect("a line").expect("read");
    assert!(first.starts_with("{\"id\":3,"), "{first}");
    child.kill().expect("killed");
    child.wait().expect("ended");
}
