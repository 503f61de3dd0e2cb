//! `lb doctor` on real troubles, and that a start says the same.
#![forbid(unsafe_code)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;
use tests::fault::{SmallDisk, has, is_root, skipped};
use tests::program::{Nginx, succeeds};
use tests::{Authority, Backend, Config, Frontend, Place, lb_path, text, wait};

/// Examines a place after a line of shell, which may be empty; gives exit code and findings.
fn examine(place: &Place, shell: &str) -> (Option<i32>, Vec<Value>) {
    let output = doctor(place, shell, "json");
    let findings = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON ({error}): {}{}", text(&output.stdout), text(&output.stderr)));
    (output.status.code(), findings)
}

fn doctor(place: &Place, shell: &str, form: &str) -> Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{shell}\nexec \"$0\" \"$@\"")).arg(lb_path());
    command.args(["doctor", "--output", form, "--config"]).arg(place.config()).arg("--admin").arg(place.admin());
    command.output().unwrap()
}

/// The finding about `check`.
fn finding<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("nothing about {check} in {findings:#?}"))
}

fn found(findings: &[Value], check: &str) -> String {
    finding(findings, check)["found"].as_str().unwrap().to_owned()
}

/// The one failure, in the words of a start.
fn only_failure(findings: &[Value]) -> String {
    let failures: Vec<&Value> = findings.iter().filter(|finding| finding["verdict"] == "failure").collect();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    let [found, remedy] = ["found", "remedy"].map(|field| failures[0][field].as_str().unwrap());
    format!("{found}: {remedy}")
}

#[test]
fn a_good_machine_and_configuration_have_no_failure() {
    let backend = Backend::who("app");
    let place = Place::new(Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", 1));
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(0), "{findings:#?}");
    for check in ["io_uring", "locked memory", "descriptors", "clock", "configuration", "address of frontend web"] {
        assert_eq!(finding(&findings, check)["verdict"], "ok");
    }
    assert!(findings.iter().all(|finding| finding["verdict"] != "failure"));

    let output = doctor(&place, "", "table");
    assert!(text(&output.stdout).contains("\n0 failures, "), "{}", text(&output.stdout));
    assert!(text(&doctor(&place, "", "ron").stdout).starts_with('['));
    let without = place.run(&["doctor"]);
    assert_eq!(without.status.code(), Some(0), "{}", text(&without.stdout));
}

#[test]
fn a_balancer_that_runs_already_is_no_failure() {
    let backend = Backend::who("app");
    let place = Place::new("()");
    let addr = tests::program::free_addr();
    place.write_config(Config::of(Frontend::new("web").bind(addr).server("a", backend.addr())).set("shards", 1));
    let lb = place.start();
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(0), "{findings:#?}");
    let balancer = format!("the balancer of process {}", lb.pid());
    assert_eq!(found(&findings, "address of frontend web"), format!("{balancer} has {addr}"));
    assert!(found(&findings, "admin socket").starts_with(&format!("{balancer} answers")));
}

#[test]
fn io_uring_that_is_forbidden_is_a_failure_and_a_start_says_the_same() {
    if skipped("io_uring_that_is_forbidden", has("strace"), "strace") {
        return;
    }
    for (error, why) in [("EPERM", "it is forbidden"), ("ENOSYS", "this kernel has none"), ("EINVAL", "too old")] {
        let strace = format!(
            "set -- -D -f -o /dev/null -e trace=io_uring_setup -e inject=io_uring_setup:error={error} \"$0\" \"$@\"
             exec strace \"$@\""
        );
        let place = Place::new(Config::of(Frontend::new("web")));
        let (code, findings) = examine(&place, &strace);
        assert_eq!(code, Some(1), "{error}");
        let failure = only_failure(&findings);
        assert!(failure.contains("io_uring") && failure.contains(why), "{error}: {failure}");
        assert!(finding(&findings, "io_uring")["remedy"].is_string());
        let exit = place.after(&strace).fail();
        assert!(exit.log.contains(&failure), "{failure}\n{}", exit.log);
    }
}

#[test]
fn little_locked_memory_is_a_failure_and_a_start_says_the_same() {
    let place = Place::new(Config::of(Frontend::new("web")));
    let (code, findings) = examine(&place, "ulimit -l 64");
    assert_eq!(code, Some(1));
    let failure = only_failure(&findings);
    assert!(failure.contains("64 KiB of memory may be locked"), "{failure}");
    let exit = place.after("ulimit -l 64").fail();
    assert!(exit.log.contains(&failure), "{failure}\n{}", exit.log);
}

#[test]
fn few_descriptors_are_warned_of_and_so_are_more_connections_than_they_allow() {
    let place = Place::new(Config::of(Frontend::new("web")));
    let (code, findings) = examine(&place, "ulimit -n 64");
    assert_eq!(code, Some(0));
    assert_eq!(finding(&findings, "descriptors")["verdict"], "warning");
    assert!(found(&findings, "descriptors").starts_with("64 are allowed, enough for "));

    let place = Place::new(Config::of(Frontend::new("web")).set("max_connections", 100_000));
    let (_, findings) = examine(&place, "ulimit -n 64");
    let warning = found(&findings, "descriptors");
    assert!(warning.starts_with("max_connections is 100000, but 64 descriptors are enough for "), "{warning}");
    let lb = place.after("ulimit -n 64").start();
    assert!(lb.log().text().contains(&warning), "{warning}\n{}", lb.log().text());
}

#[test]
fn who_has_an_address_is_named_and_a_start_says_the_same() {
    let nginx = Nginx::start(&["site"]);
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let this = format!("(process {})", std::process::id());
    for (addr, holder) in [(nginx.addrs()[0], "nginx (process "), (own.local_addr().unwrap(), this.as_str())] {
        let place = Place::new(Config::of(Frontend::new("web").bind(addr)));
        let (code, findings) = examine(&place, "");
        assert_eq!(code, Some(1));
        let failure = only_failure(&findings);
        let said = format!("{addr} is in use by ");
        assert!(failure.starts_with(&said) && failure.contains(holder), "{failure}");
        let exit = place.fail();
        // A child that another test's thread is just starting may have the test's own for a moment, too.
        let same = if holder == this { said.as_str() } else { failure.as_str() };
        assert!(exit.log.contains(same) && exit.log.contains(holder), "{failure}\n{}", exit.log);
    }
}

#[test]
fn an_address_of_another_host_and_a_port_without_the_privilege_are_failures() {
    let place = Place::new(Config::of(Frontend::new("web").bind("192.0.2.1:80")));
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    assert!(only_failure(&findings).starts_with("192.0.2.1:80 is not an address of this host: "));

    if skipped("a_port_without_the_privilege", is_root() && has("setpriv"), "root and setpriv") {
        return;
    }
    let place = Place::new(Config::of(Frontend::new("web").bind("127.0.0.1:81")));
    let without = "set -- --bounding-set=-net_bind_service \"$0\" \"$@\"; exec setpriv \"$@\"";
    let (code, findings) = examine(&place, without);
    assert_eq!(code, Some(1));
    assert!(only_failure(&findings).starts_with("127.0.0.1:81 needs a privilege: "), "{findings:#?}");
}

#[test]
fn a_configuration_that_is_wrong_is_a_failure_with_its_place() {
    let place = Place::new("(\n  frontends: [ (name: \"web\", bind: \"nowhere\") ]\n)");
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    assert!(only_failure(&findings).contains("lb.ron:2:"), "{findings:#?}");
}

#[test]
fn a_console_without_its_password_or_with_an_open_token_is_a_failure_and_a_start_says_the_same() {
    let console = "(bind: \"127.0.0.1:0\", password_file: \"none\")";
    let place = Place::new(Config::of(Frontend::new("web")).set("console", console));
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    let failure = found(&findings, "configuration");
    assert!(failure.contains("/none: "), "{failure}");
    let exit = place.fail();
    assert!(exit.log.contains(&failure), "{failure}\n{}", exit.log);

    let place = Place::new(Config::of(Frontend::new("web")).set("console", "\"127.0.0.1:0\""));
    let token = place.folder().join("lb.ron.console-token");
    assert_eq!(examine(&place, "").0, Some(0));
    assert!(!token.exists(), "it is only looked for");
    fs::write(&token, "a".repeat(64)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    let failure = found(&findings, "configuration");
    assert!(failure.contains("others may read the console's token"), "{failure}");
    let exit = place.fail();
    assert!(exit.log.contains(&failure), "{failure}\n{}", exit.log);
}

#[test]
fn what_was_changed_at_run_time_is_looked_at_as_it_would_run() {
    let old = Authority::root("CA").issue_expired(&["old.example"]);
    let [web, api] = [tests::program::free_addr(), tests::program::free_addr()];
    let place = Place::new(Config::of(Frontend::new("web").bind(web)));
    let lb = place.start();
    lb.change("RemoveFrontend(name:\"web\")");
    lb.change(&format!("AddFrontend(frontend:{})", Frontend::new("api").bind(api)));
    lb.change(&format!("AddCertificate{}", tests::pair("old", &old)));
    let place = lb.kill();
    let bind = |addr| wait::until_some("the address is free", || TcpListener::bind(addr).ok());
    let _taken = [web, api].map(bind);

    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    let (failure, said) = (found(&findings, "address of frontend api"), format!("{api} is in use by "));
    assert!(failure.starts_with(&said), "{failure}");
    assert_eq!(finding(&findings, "certificate old")["verdict"], "failure");
    assert!(findings.iter().all(|finding| finding["check"] != "address of frontend web"), "{findings:#?}");
    let state = place.state().display().to_string();
    assert!(found(&findings, "changes at run time").starts_with(&format!("{state} goes on from revision ")));
    let exit = place.fail();
    assert!(exit.log.contains(&said), "{failure}\n{}", exit.log);

    let before = fs::read(place.state()).unwrap();
    place.write_config(Config::of(Frontend::new("web").bind(web)).set("max_connections", 7));
    let (_, findings) = examine(&place, "");
    assert!(only_failure(&findings).starts_with(&format!("{web} is in use by ")), "{findings:#?}");
    assert_eq!(finding(&findings, "changes at run time")["verdict"], "warning");
    assert_eq!(fs::read(place.state()).unwrap(), before, "it is only looked at");

    fs::write(place.state(), "damaged").unwrap();
    let (_, findings) = examine(&place, "");
    assert!(found(&findings, "changes at run time").starts_with(&format!("{state} can't be read: ")));
    assert_eq!(fs::read(place.state()).unwrap(), b"damaged");
}

#[test]
fn certificates_are_looked_at_and_so_is_who_may_read_their_keys() {
    let authority = Authority::root("CA");
    let (good, old) = (authority.issue(&["a.example"]), authority.issue_expired(&["b.example"]));
    let pair = |name: &str, identity: &tests::Identity| {
        let (chain, key) = (identity.chain_path().display(), identity.key_path().display());
        format!("(name: \"{name}\", chain: \"{chain}\", key: \"{key}\")")
    };
    let config = Config::of(Frontend::new("web").certificates(&["good"]));
    let place = Place::new(config.certificate(pair("good", &good)).certificate(pair("old", &old)));
    let set_mode = |mode| fs::set_permissions(good.key_path(), fs::Permissions::from_mode(mode)).unwrap();
    let secrets = format!("secrets in {}", good.key_path().display());

    set_mode(0o644);
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    assert_eq!(finding(&findings, "certificate good")["verdict"], "ok");
    assert!(only_failure(&findings).starts_with("certificate old has expired on "), "{findings:#?}");
    let readable = finding(&findings, &secrets);
    assert_eq!(readable["verdict"], "warning");
    assert_eq!(readable["remedy"], format!("`chmod 640 {}`", good.key_path().display()));
    let lb = place.start();
    assert!(lb.log().text().contains(readable["found"].as_str().unwrap()), "{}", lb.log().text());
    drop(lb);

    set_mode(0o600);
    let (_, findings) = examine(&place, "");
    assert_eq!(finding(&findings, &secrets)["verdict"], "ok");
}

#[test]
fn a_folder_that_can_not_be_written_is_told_of_and_a_start_says_the_same() {
    if skipped("a_folder_that_can_not_be_written", is_root(), "root") {
        return;
    }
    let disk = SmallDisk::mount();
    let place = Place::new(Config::of(Frontend::new("web"))).with_state_in(disk.path());
    succeeds(Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()));
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(0), "it serves nevertheless: {findings:#?}");
    let folder = finding(&findings, "folder of the state");
    assert_eq!(folder["verdict"], "warning");
    let warning = folder["found"].as_str().unwrap();
    assert_eq!(
        warning,
        format!("nothing can be written in {}: Read-only file system (os error 30)", disk.path().display())
    );
    let lb = place.start();
    assert!(lb.log().text().contains(warning), "{}", lb.log().text());
    drop(lb);

    let place = place.with_admin(disk.path().join("lb/admin.sock"));
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(1));
    let failure = found(&findings, "admin socket");
    assert!(failure.contains("nothing can be made in"), "{failure}");
    let exit = place.fail();
    assert!(exit.log.contains(&failure), "{failure}\n{}", exit.log);
}

#[test]
fn more_shards_than_cores_are_warned_of() {
    let place = Place::new(Config::of(Frontend::new("web")).set("shards", 1000));
    let (code, findings) = examine(&place, "");
    assert_eq!(code, Some(0), "{findings:#?}");
    assert!(found(&findings, "cores").starts_with("1000 shards on "), "{findings:#?}");
}
