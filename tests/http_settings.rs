//! Protocols, cookies and what clients are known by, as they are set: refused with the reason where they make no sense, and kept.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::http::{Site, Wire};
use tests::{Authority, Backend, Config, Frontend, Lb, Place};

/// A frontend `web` with a server `a`, and these fields.
fn web(backend: &Backend, protocol: &str, cookies: bool) -> Frontend {
    let frontend = Frontend::new("web").set("protocol", protocol).server("a", backend.addr());
    frontend.set("cookie_persistence", cookies)
}

fn key(lb: &Lb) -> String {
    lb.done(&["persistence", "key"]).trim().to_owned()
}

/// The key that stands in a state file.
fn kept_key(place: &Place) -> Option<String> {
    let text = fs::read_to_string(place.state()).ok()?;
    let rest = text.lines().next()?.split_once("persistence_key:\"")?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The arguments that update the frontend.
fn update<'a>(setting: &[&'a str]) -> Vec<&'a str> {
    [&["frontend", "update", "web"], setting].concat()
}

fn server(lb: &Lb, name: &str) -> Value {
    lb.server("web", name)["server"].clone()
}

#[test]
fn cookies_are_switched_on_and_off_live_and_refused_where_nobody_can_see_them() {
    let backend = Backend::who("one");
    let lb = Lb::start(Config::of(web(&backend, "tcp", false)));
    let before = lb.revision();

    let refused = lb.refused(&update(&["--cookie-persistence", "true"]));
    assert_eq!(
        refused.trim(),
        "lb: refused: cookie_persistence needs protocol: http or https, where cookies can be seen: frontend web has \
         protocol: tcp (field cookie_persistence)"
    );
    let refused = lb.refuse("UpdateFrontend(name:\"web\",protocol:https)");
    assert_eq!(refused.field.as_deref(), Some("protocol"));
    assert!(refused.reason.contains("needs certificates"), "{refused:?}");
    assert_eq!(lb.revision(), before);

    lb.done(&update(&["--protocol", "http", "--cookie-persistence", "true"]));
    assert_eq!(lb.frontend("web")["frontend"]["cookie_persistence"], true);
    let refused = lb.refuse("UpdateFrontend(name:\"web\",protocol:tcp)");
    assert_eq!(refused.field.as_deref(), Some("cookie_persistence"));
    lb.done(&update(&["--cookie-persistence", "false"]));
    lb.done(&update(&["--protocol", "tcp"]));
    assert!(lb.done(&["frontend", "list"]).contains("  tcp  "));
}

#[test]
fn who_asks_goes_on_asking_when_the_protocol_changes() {
    let site = Site::named("a");
    let lb = Lb::start(Config::of(Frontend::new("web").set("protocol", "http").server("a", site.addr())));
    let mut client = Wire::connect(lb.addr("web"));
    for protocol in ["tcp", "http", "tcp"] {
        assert_eq!(client.get("/").text(), "a");
        lb.done(&update(&["--protocol", protocol]));
        assert_eq!(client.get("/").text(), "a");
    }
}

#[test]
fn what_was_set_is_listed_and_there_after_a_restart() {
    let backend = Backend::who("one");
    let lb = Lb::start(Config::of(web(&backend, "http", false)));
    lb.done(&[
        "frontend",
        "update",
        "web",
        "--cookie-persistence",
        "true",
        "--cookie",
        "name=app,max_age=1h,strip=true",
        "--ip-persistence",
        "ttl=5m,size=100",
        "--http",
        "max_line=4096,header_timeout=2s",
    ]);
    let settings = lb.frontend("web")["frontend"].clone();
    assert_eq!(settings["cookie"]["max_age"], "1h");
    assert_eq!(settings["ip_persistence"]["size"], 100);
    assert_eq!((&settings["http"]["max_line"], &settings["http"]["max_fields"]), (&4096.into(), &100.into()));
    assert!(lb.done(&["frontend", "list"]).contains("  http  "));

    let lb = lb.kill().start();
    assert_eq!(lb.frontend("web")["frontend"], settings);
    lb.done(&["frontend", "update", "web", "--ip-persistence", "none"]);
    assert_eq!(lb.frontend("web")["frontend"]["ip_persistence"], Value::Null);
    lb.done(&["undo"]);
    assert_eq!(lb.frontend("web")["frontend"], settings);
}

#[test]
fn https_needs_certificates_and_ends_tls_for_every_server() {
    let (backend, authority) = (Backend::who("one"), Authority::root("root"));
    let identity = authority.issue(&["www.example.com"]);
    let frontend = web(&backend, "https", true).certificates(&["site"]);
    let place = Place::new(Config::of(frontend.clone().set("alpn", "[\"h2\"]")).pair("site", &identity));
    let exit = place.fail();
    assert!(format!("{exit:?}").contains("speaks http/1.1 only"), "{exit:?}");
    place.write_config(Config::of(frontend).pair("site", &identity));
    let lb = place.start();
    assert!(lb.done(&["server", "list"]).contains("termination"));
    assert!(lb.done(&["frontend", "list"]).contains("  https  "));
}

#[test]
fn a_renamed_server_keeps_its_identity_over_a_restart() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(web(&one, "http", true)));
    lb.done(&["server", "update", "web", "a", "--rename", "b"]);
    assert_eq!(server(&lb, "b")["identity"], "a");
    let port = two.addr().port().to_string();
    let added = lb.done(&["server", "add", "web", "a", "127.0.0.1", &port]);
    assert!(added.contains("server a added to web, known to cookies as a-2"), "{added}");

    let lb = lb.kill().start();
    assert_eq!((&server(&lb, "b")["identity"], &server(&lb, "a")["identity"]), (&"a".into(), &"a-2".into()));
    lb.done(&["server", "remove", "web", "a"]);
    lb.done(&["server", "update", "web", "b", "--rename", "a"]);
    assert_eq!(server(&lb, "a")["identity"], Value::Null, "its name is what it is known by again");
}

#[test]
fn a_key_is_made_once_kept_for_nobody_else_and_outlives_an_edited_configuration() {
    let backend = Backend::who("one");
    let place = Place::new(Config::of(web(&backend, "http", true)));
    let lb = place.start();
    let kept = kept_key(&place).expect("it is kept before anything is changed");
    assert_eq!((key(&lb), kept.len()), (kept.clone(), 64));
    assert_eq!(fs::metadata(place.state()).unwrap().permissions().mode() & 0o777, 0o600);

    let place = lb.kill();
    let lb = place.start();
    assert_eq!(key(&lb), kept);
    let place = lb.kill();
    place.write_config(Config::of(web(&backend, "http", true).set("queue", 7)));
    let lb = place.start();
    assert_eq!((key(&lb), lb.frontend("web")["frontend"]["queue"].clone()), (kept, 7.into()));
    let files = fs::read_dir(place.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!files.into_iter().any(|name| name.contains("replaced")), "nothing was changed that had to be set aside");

    let other = Lb::start(Config::of(web(&backend, "http", true)));
    assert_ne!(key(&other), key(&lb));
}

#[test]
fn without_cookies_a_key_is_kept_only_when_it_is_asked_for() {
    let backend = Backend::who("one");
    let place = Place::new(Config::of(web(&backend, "tcp", false)));
    let lb = place.start();
    assert!(!place.state().exists());
    assert_eq!(Some(key(&lb)), kept_key(&place));
}

#[test]
fn the_key_of_the_configuration_is_the_one_in_force_and_another_one_waits_for_the_next_start() {
    let backend = Backend::who("one");
    let [first, second] = ["ab".repeat(32), "cd".repeat(32)];
    let config = |key: &str| Config::of(web(&backend, "http", true)).set("persistence_key", format!("\"{key}\""));
    let place = Place::new(config(&first));
    let lb = place.start();
    assert_eq!(key(&lb), first);

    place.write_config(config(&second));
    let path = place.config();
    let applied = lb.done(&["apply", "--config", path.to_str().unwrap()]);
    assert!(applied.contains("persistence_key is another one than that in force"), "{applied}");
    assert_eq!(key(&lb), first);
    let lb = lb.kill().start();
    assert_eq!(key(&lb), second);

    place.write_config(config("abc"));
    let checked = lb.run(&["check", "--config", path.to_str().unwrap()]);
    let reason = String::from_utf8(checked.stderr).unwrap();
    assert!(reason.contains("a key is 64 hexadecimal digits") && !reason.contains("abc"), "{reason}");
}

#[test]
fn the_key_is_in_no_other_reply_and_not_in_the_log() {
    let backend = Backend::who("one");
    let lb = Lb::start(Config::of(web(&backend, "http", true)));
    let secret = key(&lb);
    lb.done(&["server", "update", "web", "a", "--rename", "b"]);
    lb.done(&["frontend", "update", "web", "--cookie-persistence", "false"]);
    lb.done(&["undo"]);
    for question in ["Status", "History", "ListFrontends", "ListServers", "ListCertificates", "Version"] {
        assert!(!lb.admin(question).contains(&secret), "{question}");
    }
    lb.signal("HUP");
    lb.log().wait_for("SIGHUP").expect("the configuration is applied");
    assert!(!lb.log().contains(&secret), "{}", lb.log().text());
    let place = lb.kill();
    let lb = place.start();
    assert_eq!(key(&lb), secret);
    assert!(!lb.log().contains(&secret));
}
