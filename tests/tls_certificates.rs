//! Certificates by their names: added, replaced and removed while it runs, refused where they are broken, chosen by the name
//! that a client asks for, and kept over a restart. No key is ever shown.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustls::client::Resumption;
use rustls::{ClientConfig, ServerConfig};
use tests::channel::{client_config, server_config};
use tests::openssl::SClient;
use tests::{
    Authority, Backend, Channel, Config, Frontend, Identity, Lb, Place, Tries, bundle, pair, text, tries, wait,
};

#[test]
fn a_certificate_is_added_listed_replaced_and_removed_by_command() {
    let authority = Authority::root("the authority");
    let (old, new) = (authority.issue(&["old.example", "*.old.example"]), authority.issue(&["new.example"]));
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let command = |verb: &str, identity: &Identity| {
        let [chain, key] = [identity.chain_path(), identity.key_path()].map(|path| path.to_str().unwrap().to_owned());
        lb.done(&["certificate", verb, "site", "--chain", &chain, "--key", &key])
    };
    command("add", &old);
    lb.done(&["certificate", "add", "corp-ca", "--bundle", authority.pem_path().to_str().unwrap()]);
    lb.done(&["frontend", "update", "web", "--certificates", "site"]);
    let list = lb.done(&["certificate", "list"]);
    for part in ["site", "corp-ca", "old.example", "*.old.example", "the authority", "web"] {
        assert!(list.contains(part), "the list says {part}:\n{list}");
    }
    command("update", &new);
    let list = lb.done(&["certificate", "list"]);
    assert!(list.contains("new.example") && !list.contains("old.example"), "{list}");
    assert_eq!(lb.json(&["certificate", "list"]).as_array().unwrap().len(), 2);

    lb.done(&["frontend", "update", "web", "--certificates", "none"]);
    lb.done(&["certificate", "remove", "site"]);
    lb.done(&["certificate", "remove", "corp-ca"]);
    assert_eq!(lb.json(&["certificate", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_certificate_is_added_replaced_and_removed_by_request_and_that_can_be_taken_back() {
    let scene = Scene::new();
    let next = scene.authority.issue(&["next.example"]);
    let lb = &scene.lb;
    lb.change(&format!("AddCertificate{}", pair("next", &next)));
    assert!(lb.admin("ListCertificates").contains("next.example"));
    let removed = lb.change("RemoveCertificate(name:\"next\")").revision;
    assert!(!lb.admin("ListCertificates").contains("next.example"));
    lb.change(&format!("Undo(revision:{removed})"));
    assert!(lb.admin("ListCertificates").contains("next.example"));

    let replaced = scene.replace("site", &next);
    assert!(scene.shows(&next));
    lb.change(&format!("Undo(revision:{replaced})"));
    assert!(scene.shows(&scene.site));
}

#[test]
fn the_order_within_a_transaction_does_not_matter() {
    let (authority, backend) = (Authority::root("ca"), Backend::who("app"));
    let site = authority.issue(&["site.example"]);
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let (ip, port) = (backend.addr().ip(), backend.addr().port());
    let server = format!(
        "AddServer(frontend:\"web\",server:(name:\"a\",ip:\"{ip}\",port:{port},ssl_offload:true,\
         server_certificate:\"ca\"))"
    );
    let frontend = "UpdateFrontend(name:\"web\",certificates:[\"site\"])";
    let certificates = [pair("site", &site), bundle("ca", authority.pem())].map(|one| format!("AddCertificate{one}"));
    lb.change(&format!("Transaction([{server},{frontend},{}])", certificates.join(",")));
    assert_eq!(lb.server_names("web"), ["a"]);
    let remove = ["RemoveCertificate(name:\"ca\")", "RemoveCertificate(name:\"site\")", "RemoveFrontend(name:\"web\")"];
    lb.change(&format!("Transaction([{}])", remove.join(",")));
}

#[test]
fn what_is_broken_is_refused_with_the_reason_and_changes_nothing() {
    let authority = Authority::root("ca");
    let (site, other) = (authority.issue(&["site.example"]), authority.issue(&["other.example"]));
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let revision = lb.revision();
    let damaged = site.chain().replacen("\nMI", "\n!!", 1);
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let pair = |chain: &str, key: &str| format!("chain:{chain:?},key:{key:?}");
    let bundle = |pem: &str| format!("bundle:{pem:?}");
    for (content, field, part) in [
        (pair(&damaged, site.key()), "chain", ""),
        (pair(not_x509, site.key()), "chain", ""),
        (pair(site.key(), site.key()), "chain", "certificate"),
        (pair("-----BEGIN", site.key()), "chain", ""),
        (pair(site.chain(), site.chain()), "key", "key"),
        (pair(site.chain(), other.key()), "key", "fit"),
        (pair(site.chain(), &site.key().replacen("\nMI", "\n!!", 1)), "key", ""),
        (bundle(site.key()), "bundle", "certificate"),
        (bundle("-----BEGIN"), "bundle", ""),
        (bundle(&damaged), "bundle", ""),
        (bundle(not_x509), "bundle", ""),
    ] {
        for request in ["AddCertificate", "UpdateCertificate"] {
            let refused = lb.refuse(&format!("{request}(name:\"new\",{content})"));
            if request == "AddCertificate" {
                assert_eq!(refused.field.as_deref(), Some(field), "{content}: {refused:?}");
                assert!(refused.reason.contains(part), "{content}: {refused:?}");
            }
        }
    }
    for content in [
        format!("chain:{:?}", site.chain()),
        format!("key:{:?}", site.key()),
        format!("bundle:{:?},key:{:?}", authority.pem(), site.key()),
        "bundle:\"\"".to_owned(),
        String::new(),
    ] {
        let refused = lb.refuse(&format!("AddCertificate(name:\"new\",{content})"));
        assert!(!refused.reason.is_empty(), "{content}");
    }
    assert_eq!(lb.revision(), revision);
    assert_eq!(lb.json(&["certificate", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_name_is_that_of_one_certificate_which_stays_of_its_kind() {
    let scene = Scene::new();
    let lb = &scene.lb;
    for request in [
        format!("AddCertificate{}", pair("site", &scene.site)),
        format!("UpdateCertificate{}", pair("nobody", &scene.site)),
        format!("UpdateCertificate{}", bundle("site", scene.authority.pem())),
        format!("UpdateCertificate{}", pair("corp-ca", &scene.site)),
        "RemoveCertificate(name:\"nobody\")".to_owned(),
    ] {
        assert!(!lb.refuse(&request).reason.is_empty());
    }
}

#[test]
fn settings_name_certificates_that_are_there_and_of_the_right_kind() {
    let scene = Scene::new();
    let lb = &scene.lb;
    let server = |settings: &str| format!("UpdateServer(frontend:\"web\",name:\"a\",{settings})");
    let frontend = |settings: &str| format!("UpdateFrontend(name:\"web\",{settings})");
    for (request, field, part) in [
        (frontend("certificates:[\"nobody\"]"), "certificates", "nobody"),
        (frontend("certificates:[\"corp-ca\"]"), "certificates", "corp-ca"),
        (frontend("client_ca:\"nobody\""), "client_ca", "nobody"),
        (frontend("client_ca:\"site\""), "client_ca", "site"),
        (server("server_certificate:\"nobody\""), "server_certificate", "nobody"),
        (server("server_certificate:\"site\""), "server_certificate", "site"),
        (server("server_certificate:\"corp-ca\",client_certificate:\"nobody\""), "client_certificate", "nobody"),
        (server("server_certificate:\"corp-ca\",client_certificate:\"corp-ca\""), "client_certificate", "corp-ca"),
        (server("server_name:\"app.example\""), "server_name", "server_certificate"),
        (server("verify_name:false"), "verify_name", "server_certificate"),
        (server("client_certificate:\"site\""), "client_certificate", "server_certificate"),
        (server("server_certificate:\"corp-ca\",server_name:\"not a name\""), "server_name", ""),
        (frontend("certificates:[]"), "ssl_offload", "certificate"),
    ] {
        let refused = lb.refuse(&request);
        assert!(refused.reason.contains(part), "{request}: {refused:?}");
        assert_eq!(refused.field.as_deref(), Some(field), "{request}: {refused:?}");
    }
    lb.change(&server("ssl_offload:false"));
    lb.change(&frontend("certificates:[]"));
    let refused = lb.refuse("AddServer(frontend:\"web\",server:(name:\"b\",ip:\"127.0.0.1\",port:1,ssl_offload:true))");
    assert_eq!(refused.field.as_deref(), Some("ssl_offload"), "{refused:?}");
    assert!(refused.reason.contains("certificate"), "{refused:?}");
}

#[test]
fn a_certificate_in_use_can_not_be_removed_and_the_reason_says_who_uses_it() {
    let scene = Scene::new();
    let lb = &scene.lb;
    lb.change("UpdateServer(frontend:\"web\",name:\"a\",server_certificate:\"corp-ca\",server_name:\"app.example\")");
    assert!(lb.refuse("RemoveCertificate(name:\"site\")").reason.contains("web"));
    let refused = lb.refused(&["certificate", "remove", "corp-ca"]);
    assert!(refused.contains("web") && refused.contains('a'), "{refused}");
    lb.change("RemoveFrontend(name:\"web\")");
    lb.change("RemoveCertificate(name:\"site\")");
    lb.change("RemoveCertificate(name:\"corp-ca\")");
}

#[test]
fn an_expired_certificate_is_taken_with_a_warning() {
    let authority = Authority::root("ca");
    let expired = authority.issue_expired(&["site.example"]);
    let soon = authority.issue_with(&["soon.example"], |params| {
        params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(5 * 24 * 3600)).into();
    });
    let lb = Lb::start(Config::of(Frontend::new("web")));
    for (name, identity, part) in [
        ("over", expired, "certificate over has expired on 2021-01-01"),
        (
            "early",
            authority.issue_not_yet_valid(&["early.example"]),
            "certificate early is not valid before 2120-01-01",
        ),
        ("soon", soon, "certificate soon expires in "),
    ] {
        let confirmed = lb.change(&format!("AddCertificate{}", pair(name, &identity)));
        assert!(confirmed.warnings.iter().any(|warning| warning.contains(part)), "{part} is said: {confirmed:?}");
    }
}

#[test]
fn a_broken_file_stops_the_start_and_is_named_with_its_place() {
    let site = Authority::root("ca").issue(&["site.example"]);
    for (entry, part) in [
        ("(name: \"site\", chain: \"missing.pem\", key: \"missing.key\")", "missing.pem"),
        ("(name: \"ca\", bundle: \"empty.pem\")", "empty.pem"),
        ("(name: \"site\", chain: \"site.pem\", key: \"other.key\")", "site"),
    ] {
        let config = Config::of(Frontend::new("web")).certificate(entry.to_owned());
        let place = Place::new(config);
        fs::write(place.folder().join("empty.pem"), "").unwrap();
        fs::write(place.folder().join("site.pem"), site.chain()).unwrap();
        fs::write(place.folder().join("other.key"), Authority::root("other").issue(&["a.example"]).key()).unwrap();
        let exit = place.fail();
        assert_eq!(exit.code, Some(1), "{}", exit.log);
        assert!(exit.log.contains(part) && exit.log.contains("lb.ron"), "{part} is named: {}", exit.log);
        let checked = place.run(&["check", "--config", place.config().to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    }
}

#[test]
fn files_are_found_beside_the_configuration_and_read_again_when_it_is_applied() {
    let authority = Authority::root("ca");
    let (old, new) = (authority.issue(&["site.example"]), authority.issue(&["site.example"]));
    let backend = Backend::who("app");
    let frontend = Frontend::new("web").certificates(&["site"]).server_with("a", backend.addr(), "ssl_offload: true");
    let entry = "(name: \"site\", chain: \"site.pem\", key: \"site.key\")".to_owned();
    let place = Place::new(Config::of(frontend).certificate(entry));
    let write = |identity: &Identity| {
        fs::write(place.folder().join("site.pem"), identity.chain()).unwrap();
        fs::write(place.folder().join("site.key"), identity.key()).unwrap();
    };
    write(&old);
    let lb = place.start();
    let shown = || Channel::connect(lb.addr("web"), "site.example", &client_config(&authority)).unwrap();
    assert!(shown().peer_is(&old));
    write(&new);
    lb.done(&["apply", "--config", place.config().to_str().unwrap()]);
    assert!(shown().peer_is(&new));
}

#[test]
fn an_update_is_that_of_the_next_handshake_and_existing_connections_go_on() {
    let scene = Scene::new();
    let mut kept = scene.connect();
    let next = scene.authority.issue(&["site.example"]);
    scene.replace("site", &next);
    for _ in 0..10 {
        assert!(scene.shows(&next));
    }
    assert!(kept.peer_is(&scene.site));
    echo(&mut kept);
}

#[test]
fn certificate_and_bundle_are_replaced_under_load_and_no_connection_fails() {
    const ROUNDS: usize = 12;
    let (site, mut corp) = (Authority::root("site authority"), Authority::root("corp authority 0"));
    let server = Replaceable::new(&corp.issue(&["app.example"]));
    let backend = server.run();
    let settings = "ssl_offload: true, server_certificate: \"corp-ca\", server_name: \"app.example\"";
    let frontend = Frontend::new("web").certificates(&["site"]).server_with("a", backend.addr(), settings);
    let config = Config::of(frontend).pair("site", &site.issue(&["site.example"])).bundle("corp-ca", corp.pem());
    let lb = Lb::start(config.set("shards", 2));
    let tries = come_all_the_time(lb.addr("web"), &site);
    let mut admin = lb.connect_admin();
    for round in 1..=ROUNDS {
        let next = Authority::root(&format!("corp authority {round}"));
        admin.change(&update(&bundle("corp-ca", &(corp.pem().to_owned() + next.pem()))));
        tries.until_all_new(8);
        server.become_one(&next.issue(&["app.example"]));
        admin.change(&update(&pair("site", &site.issue(&["site.example"]))));
        tries.until_all_new(8);
        // Nobody who was begun before is still shown the old one.
        admin.change(&update(&bundle("corp-ca", next.pem())));
        tries.until_all_new(8);
        corp = next;
    }
    let failed: Vec<_> = tries.stop().into_iter().filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(lb.unserved("web"), 0);
    assert_eq!(lb.server("web", "a")["failed"], 0, "no handshake with the server failed");
}

#[test]
fn no_key_is_shown_by_a_log_a_reply_a_list_or_the_history() {
    let authority = Authority::root("ca");
    let (site, next) = (authority.issue(&["site.example"]), authority.issue(&["next.example"]));
    let backend = Backend::who_and_echo("");
    let frontend = Frontend::new("web").certificates(&["site"]).server_with("a", backend.addr(), "ssl_offload: true");
    let place = Place::new(Config::of(frontend).pair("site", &site)).env("LB_LOG", "trace");
    fs::set_permissions(place.config(), fs::Permissions::from_mode(0o600)).unwrap();
    let lb = place.start();
    let mut said = Vec::new();
    let mut ask = |request: &str| said.push(lb.admin(request));
    ask(&format!("AddCertificate(name:\"next\",chain:{:?},key:{:?},dry_run:true)", next.chain(), next.key()));
    ask(&format!("AddCertificate{}", pair("next", &next)));
    ask(&format!("AddCertificate{}", pair("next", &next)));
    ask(&format!("UpdateCertificate{}", pair("site", &next)));
    ask(&format!("AddCertificate(name:\"b\",chain:{:?},key:{:?})", next.chain(), site.key()));
    ask(&format!("AddCertificate(name:\"b\",chain:{:?},kay:{:?})", next.chain(), site.key()));
    ask(&format!("AddCertificate(name:\"b\",chain:{:?},key:{:?})", next.key(), site.key()));
    ask(&format!("AddCertificate(name:\"b\",bundle:{:?})", site.key()));
    ["ListCertificates", "ListFrontends", "ListServers", "Status", "History"].into_iter().for_each(ask);
    for arguments in [&["certificate", "list"][..], &["status"], &["history"], &["frontend", "list"]] {
        for output in [&[][..], &["--output", "json"], &["--output", "ron"]] {
            said.push(lb.done(&[arguments, output].concat()));
        }
    }
    let config = place.config();
    for arguments in [&["apply", "--dry-run", "--config"][..], &["apply", "--config"], &["check", "--config"]] {
        let output = lb.run(&[arguments, &[config.to_str().unwrap()]].concat());
        said.extend([text(&output.stdout), text(&output.stderr)]);
    }
    echo(&mut Channel::connect(lb.addr("web"), "site.example", &client_config(&authority)).unwrap());
    said.push(lb.log().text());
    for identity in [&site, &next] {
        let secret: Vec<_> = identity.key().lines().filter(|line| !line.starts_with("-----")).collect();
        assert!(secret.len() >= 3, "a key has several lines");
        for said in &said {
            assert!(!secret.iter().any(|line| said.contains(line)), "a key is shown: {said}");
        }
    }
    for file in fs::read_dir(place.folder()).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file())
    {
        let content = fs::read(file.path()).unwrap();
        let holds_a_key = String::from_utf8_lossy(&content).contains("PRIVATE KEY");
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert!(!holds_a_key || mode == 0o600, "{:?} holds a key and has mode {mode:o}", file.path());
    }
    assert_eq!(fs::metadata(place.state()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::root("ca");
    let [first, exact, wildcard, several] =
        [&["first.example"][..], &["www.exact.example"], &["*.exact.example"], &["one.example", "two.example"]]
            .map(|names| authority.issue(names));
    let backend = Backend::who("");
    let frontend = Frontend::new("web").certificates(&["first", "wildcard", "exact", "several"]);
    let config = Config::of(frontend.server_with("a", backend.addr(), "ssl_offload: true")).pair("first", &first);
    let lb = Lb::start(config.pair("exact", &exact).pair("wildcard", &wildcard).pair("several", &several));
    let addr = lb.addr("web");
    for (asked, shown) in [
        ("first.example", &first),
        ("www.exact.example", &exact),
        ("WWW.Exact.Example", &exact),
        ("other.exact.example", &wildcard),
        ("one.example", &several),
        ("two.example", &several),
    ] {
        assert!(Channel::connect(addr, asked, &client_config(&authority)).unwrap().peer_is(shown), "{asked}");
    }
    for arguments in [
        &["-noservername"][..],
        &["-servername", "nobody.example"],
        &["-servername", "exact.example"],
        &["-servername", "a.b.exact.example"],
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let client = SClient::start(addr, &[arguments, &[version]].concat());
            let subject = client.expect("subject=");
            assert!(subject.contains("first.example"), "{arguments:?}: {subject}");
        }
    }
}

#[test]
fn certificates_and_what_uses_them_survive_a_restart() {
    let scene = Scene::new();
    let next = scene.authority.issue(&["site.example"]);
    scene.replace("site", &next);
    scene.lb.change(&format!("AddCertificate{}", pair("spare", &scene.site)));
    let (before, revision) = (scene.lb.json(&["certificate", "list"]), scene.lb.revision());
    let lb = scene.lb.kill().start();
    assert_eq!(lb.json(&["certificate", "list"]), before);
    assert!(lb.revision() >= revision);
    let client = Channel::connect(lb.addr("web"), "site.example", &client_config(&scene.authority)).unwrap();
    assert!(client.peer_is(&next));
}

#[test]
fn a_successor_serves_the_same_certificates_while_connections_of_the_old_process_go_on() {
    let scene = Scene::new();
    let next = scene.authority.issue(&["site.example"]);
    scene.replace("site", &next);
    let mut kept = scene.connect();
    let addr = scene.lb.addr("web");
    let successor = scene.lb.place().start_successor();
    wait::until("the successor alone accepts", || successor.addr("web") == addr);
    let client = Channel::connect(addr, "site.example", &client_config(&scene.authority)).unwrap();
    assert!(client.peer_is(&next));
    echo(&mut kept);
}

/// A frontend `web` that shows the certificate `site`, before a server `a` that echoes in plain text.
struct Scene {
    authority: Authority,
    site: Identity,
    lb: Lb,
    _server: Backend,
}

impl Scene {
    fn new() -> Self {
        let authority = Authority::root("ca");
        let (site, server) = (authority.issue(&["site.example"]), Backend::echo());
        let frontend = Frontend::new("web").certificates(&["site"]);
        let frontend = frontend.server_with("a", server.addr(), "ssl_offload: true");
        let lb = Lb::start(Config::of(frontend).pair("site", &site).bundle("corp-ca", authority.pem()));
        Self { authority, site, lb, _server: server }
    }

    /// Replaces a pair, and gives the revision of that.
    fn replace(&self, name: &str, identity: &Identity) -> u64 {
        self.lb.change(&update(&pair(name, identity))).revision
    }

    /// A client that knows nothing of earlier sessions.
    fn connect(&self) -> Channel {
        Channel::connect(self.lb.addr("web"), "site.example", &client_config(&self.authority)).unwrap()
    }

    /// True if the next client is shown this certificate; whatever name it is for.
    fn shows(&self, identity: &Identity) -> bool {
        let config = client_config(&self.authority);
        let names = ["site.example", "next.example"];
        let mut clients = names.iter().filter_map(|name| Channel::connect(self.lb.addr("web"), name, &config).ok());
        clients.next().expect("one of the names is right").peer_is(identity)
    }
}

fn update(entry: &str) -> String {
    format!("UpdateCertificate{entry}")
}

fn echo(client: &mut Channel) {
    client.write_all(b"still here").unwrap();
    let mut back = [0; 10];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still here");
}

/// Clients of the site, every other one as if it had been here before.
fn come_all_the_time(addr: SocketAddr, authority: &Authority) -> Tries {
    let known = client_config(authority);
    let mut stranger = ClientConfig::clone(&known);
    stranger.resumption = Resumption::disabled();
    let (configs, next) = ([known, Arc::new(stranger)], AtomicUsize::new(0));
    Tries::start(addr, move |addr| tries::echo_in_tls(addr, &configs[next.fetch_add(1, SeqCst) % 2]))
}

/// A server whose certificate can be replaced while it serves.
struct Replaceable(Arc<Mutex<Arc<ServerConfig>>>);

impl Replaceable {
    fn new(identity: &Identity) -> Self {
        Self(Arc::new(Mutex::new(server_config(identity))))
    }

    fn run(&self) -> Backend {
        let config = Arc::clone(&self.0);
        Backend::run(move |stream| {
            let config = Arc::clone(&config.lock().unwrap());
            let Ok(mut channel) = Channel::accept(stream, &config) else { return };
            let mut message = Vec::new();
            if channel.read_to_end(&mut message).and_then(|_| channel.write_all(&message)).is_ok() {
                let _ = channel.end();
            }
        })
    }

    fn become_one(&self, identity: &Identity) {
        *self.0.lock().unwrap() = server_config(identity);
    }
}
