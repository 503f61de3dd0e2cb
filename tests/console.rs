//! The console as people use it: in a real browser, against a real balancer. What a test does in the page it checks at the admin
//! socket, and the other way round.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::browser::{Browser, Look, button, key};
use tests::http::{Site, Wire, reply};
use tests::program::free_addr;
use tests::{Admin, Authority, Backend, Config, Frontend, Lb, Place, client, lb_path, text, wait};

#[test]
fn a_server_is_added_in_the_dialog_and_the_pop_up_names_revision_and_shards() {
    let (page, lb) = logged_in(Config::of(web()).set("shards", 2));
    let backend = Backend::who("two");
    add_server(&page, "app2", &backend.addr().port().to_string());
    page.until_text(".toast", "Saved as revision 2, in use on 2 shards.");
    page.until_text("[data-server=app2]", &backend.addr().port().to_string());
    page.until_gone("dialog");
    assert_eq!(lb.server("web", "app2")["server"]["port"], backend.addr().port());
    assert_eq!(client::ask(lb.addr("web")), "two");
    page.keep_picture("tcp-config");
}

#[test]
fn every_field_of_the_dialog_arrives() {
    let ca = Authority::root("internal");
    let (page, lb) = logged_in(with_certificates(web(), &ca));
    page.click(&button("Add Server to web"));
    page.fill("dialog [name=name]", "app2");
    page.fill("dialog [name=ip]", "::1");
    page.fill("dialog [name=port]", "8443");
    page.click("dialog [name=ssl_offload]");
    page.click("dialog [name=passive]");
    page.choose("dialog [name=server_certificate]", "internal-ca");
    page.click("dialog summary");
    page.fill("dialog [name=weight]", "7");
    page.fill("dialog [name=server_name]", "app2.example.com");
    page.click("//dialog//summary[.='Check']");
    page.choose("dialog [name='check.kind']", "Send and expect");
    page.fill("dialog [name='check.send']", "PING\\r\\n");
    page.fill("dialog [name='check.expect']", "PONG");
    page.keep_picture("add-server");
    page.click(&button("ADD SERVER"));
    page.until_text("[data-server=app2]", "internal-ca");
    let expected = serde_json::json!({
        "name": "app2", "ip": "::1", "port": 8443, "weight": 7, "passive": true, "ssl_offload": true,
        "server_certificate": "internal-ca", "server_name": "app2.example.com",
        "check": {"own": {
            "kind": {"send_expect": {"send": "PING\r\n", "expect": "PONG"}},
            "interval": "2s", "timeout": "2s", "fall": 3, "rise": 2,
        }},
    });
    assert_eq!(lb.server("web", "app2")["server"], expected);
}

#[test]
fn a_server_is_updated_in_its_row() {
    let ca = Authority::root("internal");
    let (page, lb) = logged_in(with_certificates(web_of(&["app1"]), &ca));
    page.click(&button("Update app1"));
    page.fill("[data-server=app1] [name=name]", "first");
    page.fill("[data-server=app1] [name=ip]", "127.0.0.2");
    page.fill("[data-server=app1] [name=port]", "8081");
    page.click("[data-server=app1] [name=passive]");
    page.click("[data-server=app1] [name=ssl_offload]");
    page.choose("[data-server=app1] [name=server_certificate]", "internal-ca");
    page.keep_picture("update-server");
    page.click("[data-server=app1] [type=submit]");
    page.until_text(".toast", "Saved as revision 2");
    page.until_text("[data-server=first]", "127.0.0.2");
    page.until_gone("[data-server=app1]");
    let expected = serde_json::json!({
        "name": "first", "ip": "127.0.0.2", "port": 8081, "passive": true, "ssl_offload": true,
        "server_certificate": "internal-ca", "identity": "app1",
    });
    assert_eq!(lb.server("web", "first")["server"], expected);
    page.until_holds("the focus is on the row that was edited", || page.focused() == "Update first");
    // A bundle is taken away again, and nothing else is touched.
    page.click(&button("Update first"));
    page.choose("[data-server=first] [name=server_certificate]", "None");
    page.click("[data-server=first] [type=submit]");
    page.until_text(".toast:last-child", "Saved as revision 3");
    assert_eq!(lb.server("web", "first")["server"].get("server_certificate"), None);
    assert_eq!(lb.server("web", "first")["server"]["port"], 8081);
}

#[test]
fn what_is_refused_is_said_beside_its_field_and_nothing_changes() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1"])));
    page.click(&button("Add Server to web"));
    let error = |field: &str| format!("//dialog//div[.//*[@name='{field}']]/span[@class='field-error']");
    for (name, ip, port, field, reason) in [
        ("app 2", "127.0.0.1", "80", "name", "only letters, digits"),
        ("<b>app</b>", "127.0.0.1", "80", "name", "only letters, digits"),
        ("", "127.0.0.1", "80", "name", "can't be empty"),
        ("app1", "127.0.0.1", "80", "name", "already has a server app1"),
        ("app2", "127.0.0", "80", "ip", "IP address"),
        ("app2", "0.0.0.0", "80", "ip", "0.0.0.0"),
        ("app2", "127.0.0.1", "0", "port", "1 to 65535"),
        ("app2", "127.0.0.1", "65536", "port", "1 to 65535"),
        ("app2", "127.0.0.1", "http", "port", "whole number"),
        ("app2", "127.0.0.1", "", "port", "whole number"),
    ] {
        page.fill("dialog [name=name]", name);
        page.fill("dialog [name=ip]", ip);
        page.fill("dialog [name=port]", port);
        page.click(&button("ADD SERVER"));
        page.until_text(&error(field), reason);
        page.until_holds("only the field at fault is marked", || page.count("dialog [aria-invalid]") == 1);
        assert_eq!(page.run("return document.activeElement.name"), field, "the focus is on the field at fault");
    }
    page.keep_picture("refused");
    assert_eq!((lb.revision(), lb.server_names("web")), (1, vec!["app1".to_owned()]));
    page.fill("dialog [name=port]", "80");
    page.click(&button("ADD SERVER"));
    page.until_gone("dialog");
    assert_eq!(lb.server_names("web"), ["app1", "app2"], "what was refused can be mended");
}

#[test]
fn what_is_refused_in_a_row_is_said_there() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1", "app2"])));
    page.click(&button("Update app2"));
    page.fill("[data-server=app2] [name=name]", "app1");
    page.click("[data-server=app2] [type=submit]");
    page.until_text("[data-server=app2] .name .field-error", "already has a server app1");
    page.fill("[data-server=app2] [name=name]", "app2");
    page.fill("[data-server=app2] [name=ip]", "nowhere");
    page.click("[data-server=app2] [type=submit]");
    page.until_text("[data-server=app2] .address .field-error", "IP address");
    page.press(key::ESCAPE);
    page.until_gone("[data-server=app2] [name=ip]");
    page.until_text("[data-server=app2] .address", "127.0.0.1");
    assert_eq!((lb.revision(), page.focused()), (1, "Update app2".to_owned()));
}

#[test]
fn the_cookie_switch_holds_at_once_or_says_why_not() {
    let config = Config::of(web().set("protocol", "http")).frontend(Frontend::new("raw"));
    let (page, lb) = logged_in(config);
    let switch = |frontend: &str| format!("[data-frontend={frontend}] [name=cookie_persistence]");
    page.click(&switch("web"));
    page.until_text(".toast", "Saved as revision 2");
    assert_eq!(lb.frontend("web")["frontend"]["cookie_persistence"], true);
    page.until_holds("the switch is on", || page.property(&switch("web"), "checked") == "true");
    page.click(&switch("web"));
    page.until_text(".toast:last-child", "Saved as revision 3");
    assert_eq!(lb.frontend("web")["frontend"].get("cookie_persistence"), None);
    page.click(&switch("raw"));
    page.until_text("[data-frontend=raw] .cookie .field-error", "http");
    page.until_holds("the switch is off again", || page.property(&switch("raw"), "checked") == "false");
    assert_eq!(lb.revision(), 3);
}

#[test]
fn drain_and_enable_change_the_state_and_delete_asks_first() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1", "app2"])));
    page.click(&button("Drain app1"));
    page.until_text("[data-server=app1] .state", "Draining");
    assert_eq!(lb.server("web", "app1")["server"]["drain"], true);
    page.click(&button("Enable app1"));
    page.until(&button("Drain app1"));
    assert_eq!(lb.server("web", "app1")["server"].get("drain"), None);
    page.click(&button("Delete app1"));
    page.until_text("dialog", "Delete server app1?");
    page.keep_picture("delete-asks");
    page.press(key::ESCAPE);
    page.until_gone("dialog");
    assert_eq!((lb.revision(), page.focused()), (3, "Delete app1".to_owned()));
    page.click(&button("Delete app1"));
    page.click("dialog .danger");
    page.until_gone("[data-server=app1]");
    assert_eq!(lb.server_names("web"), ["app2"]);
}

#[test]
fn a_server_is_disabled_after_a_question_and_enabled_again() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1"])));
    page.click(&button("Disable app1"));
    page.until_text("dialog", "gets no new connections and no checks");
    page.press(key::ESCAPE);
    page.until_gone("dialog");
    assert_eq!((lb.revision(), page.focused()), (1, "Disable app1".to_owned()));
    page.click(&button("Disable app1"));
    page.press(key::ENTER);
    page.until_text("[data-server=app1] .state", "Disabled");
    assert_eq!(lb.server("web", "app1")["server"]["disabled"], true);
    page.until_gone(&button("Drain app1"));
    page.until_holds("the focus stays on the button", || page.focused() == "Enable app1");
    page.click(&button("Enable app1"));
    page.until(&button("Drain app1"));
    assert_eq!(lb.server("web", "app1")["server"].get("disabled"), None);
    // One that drains can be taken out as well.
    page.click(&button("Drain app1"));
    page.until(&button("Enable app1"));
    page.click(&button("Disable app1"));
    page.click("dialog .danger");
    page.until_text("[data-server=app1] .state", "Disabled");
}

#[test]
fn a_server_has_a_check_of_its_own_or_its_frontends() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1"])));
    let field = |name: &str| format!("[data-server=app1] [name='check.{name}']");
    let error = |name: &str| {
        format!("//tbody[@data-server='app1']//div[.//*[@name='check.{name}']]/span[@class='field-error']")
    };
    let check = || lb.server("web", "app1")["server"].get("check").cloned();
    let save = |reason: Option<(&str, &str)>| {
        page.click("[data-server=app1] [type=submit]");
        match reason {
            Some((name, reason)) => drop(page.until_text(&error(name), reason)),
            None => page.until(&button("Update app1")),
        }
    };
    page.click(&button("Update app1"));
    page.click("//summary[.='Check']");
    assert!(!page.is_visible(&field("interval")), "there is nothing to set for the frontend's check");
    page.choose(&field("kind"), "HTTP request");
    page.fill(&field("path"), "health");
    save(Some(("path", "does not begin with '/'")));
    page.fill(&field("path"), "/health");
    page.fill(&field("status"), "twice");
    save(Some(("status", "whole number")));
    page.fill(&field("status"), "204");
    page.fill(&field("interval"), "often");
    save(Some(("interval", "duration")));
    page.fill(&field("interval"), "5s");
    page.fill(&field("fall"), "0");
    save(Some(("fall", "0 results in a row")));
    page.fill(&field("fall"), "1");
    page.keep_picture("server-check");
    assert_eq!(check(), None);
    save(None);
    let own = |kind: serde_json::Value| serde_json::json!({"own": {"kind": kind, "interval": "5s", "timeout": "2s", "fall": 1, "rise": 2}});
    assert_eq!(check(), Some(own(serde_json::json!({"http": {"path": "/health", "status": 204}}))));
    page.until_text("[data-server=app1] .name", "own check");

    page.click(&button("Update app1"));
    page.click("//summary[.='Check']");
    assert_eq!(page.property(&field("path"), "value"), "/health");
    // What is hidden is not looked at.
    page.fill(&field("status"), "twice");
    page.choose(&field("kind"), "TLS handshake");
    page.until_gone(&field("status"));
    save(None);
    assert_eq!(check(), Some(own("tls".into())));
    page.click(&button("Update app1"));
    page.click("//summary[.='Check']");
    page.choose(&field("kind"), "As the frontend");
    save(None);
    assert_eq!((check(), lb.revision()), (None, 4));
}

#[test]
fn while_a_successor_is_taking_over_the_pop_up_says_that_a_change_has_to_wait() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1"])));
    let mut successor = Admin::connect(lb.place().admin());
    assert!(successor.ask("TakeOver()").starts_with("HandOver("));
    page.click(&button("Drain app1"));
    let said = page.until_text(".toast.bad", "A successor is taking over");
    assert!(said.contains("Try again in a moment."), "{said}");
    page.keep_picture("taken-over");
    drop(successor);
    lb.log().wait_for("nothing was handed over").expect("lb runs");
    page.click(&button("Drain app1"));
    page.until_text("[data-server=app1] .state", "Draining");
}

#[test]
fn a_frontend_is_added_changed_and_deleted() {
    let (page, lb) = logged_in(Config::default());
    page.until_text("main", "No frontends yet");
    page.click(&button("Add Frontend"));
    page.fill("dialog [name=name]", "shop");
    page.fill("dialog [name=bind]", "127.0.0.1");
    page.click("dialog [type=submit]");
    page.until_text("dialog .field-error:not(:empty)", "not an IP address and port");
    page.fill("dialog [name=bind]", "127.0.0.1:0");
    page.choose("dialog [name=protocol]", "HTTP");
    page.choose("dialog [name=policy]", "Least connections");
    page.click("dialog [type=submit]");
    page.until_text("[data-frontend=shop]", "least_connections");
    assert_eq!(lb.frontend("shop")["frontend"]["protocol"], "http");

    page.click(&button("Settings of shop"));
    page.click("//summary[.='Checks']");
    page.choose("dialog [name='check.kind']", "HTTP request");
    page.fill("dialog [name='check.path']", "/health");
    page.fill("dialog [name='check.interval']", "often");
    page.keep_picture("frontend-settings");
    page.click("dialog [type=submit]");
    page.until_text("dialog .field-error:not(:empty)", "duration");
    page.fill("dialog [name='check.interval']", "5s");
    page.click("//summary[.='Limits and timeouts']");
    page.fill("dialog [name=on_unavailable]", "wait(3s)");
    page.click("dialog [type=submit]");
    page.until_text("[data-frontend=shop] .settings", "http /health every 5s");
    let settings = &lb.frontend("shop")["frontend"];
    assert_eq!(settings["check"]["kind"], serde_json::json!({"http": {"path": "/health"}}));
    assert_eq!(settings["on_unavailable"], serde_json::json!({"wait": "3s"}));

    page.click(&button("Delete frontend shop"));
    page.click("dialog .danger");
    page.until_gone("[data-frontend=shop]");
    assert_eq!((lb.revision(), lb.settings().len()), (4, 0));
}

#[test]
fn several_changes_are_looked_at_as_a_difference_and_saved_as_one() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1", "app2"])));
    page.click("[name=collect]");
    add_server(&page, "app3", "8003");
    page.until_text(".collected-bar", "1 change collected");
    page.click(&button("Update app1"));
    page.fill("[data-server=app1] [name=port]", "8001");
    page.click("[data-server=app1] [type=submit]");
    page.until_text(".collected-bar", "2 changes collected");
    page.click(&button("Drain app2"));
    page.until_text(".collected-bar", "3 changes collected");
    page.click(&button("Delete app2"));
    page.click("dialog .danger");
    page.until_text(".collected-bar", "4 changes collected");
    // What can't be saved is not collected.
    page.click(&button("Add Server to web"));
    page.fill("dialog [name=name]", "app3");
    page.fill("dialog [name=ip]", "127.0.0.1");
    page.fill("dialog [name=port]", "1");
    page.click(&button("ADD SERVER"));
    page.until_text("dialog .field-error:not(:empty)", "already has a server app3");
    page.press(key::ESCAPE);
    page.until_gone("dialog");
    assert_eq!(lb.revision(), 1, "nothing is saved while it is collected");

    page.click(&button("Review and save"));
    page.until_text(".difference", "8001");
    let difference = page.until_text(".difference", "removed");
    for part in ["server app3 added to web", "server app1 of web updated", "server app2 removed from web"] {
        assert!(difference.to_lowercase().contains(part), "{difference}");
    }
    assert_eq!(page.text(".difference ins").as_deref(), Some("8001"));
    page.keep_picture("difference");
    page.click(&button("Remove: Drain server app2 of web"));
    page.until_holds("three changes are left", || page.count(".collected li") == 3);
    page.click(&button("Save all as one revision"));
    page.until_text(".toast", "Saved as revision 2");
    page.until_gone(".collected-bar");
    assert_eq!((lb.revision(), lb.server_names("web")), (2, vec!["app1".to_owned(), "app3".to_owned()]));
    assert_eq!(lb.server("web", "app1")["server"]["port"], 8001);
}

#[test]
fn a_change_elsewhere_shows_up_and_is_not_overwritten() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1", "app2"])));
    let other = Browser::start(Look::Light);
    log_in(&other, &lb);
    page.click(&button("Update app1"));
    page.fill("[data-server=app1] [name=name]", "mine");
    // In another browser.
    other.click(&button("Update app1"));
    other.fill("[data-server=app1] [name=port]", "8099");
    other.click("[data-server=app1] [type=submit]");
    other.until_text(".toast", "Saved as revision 2");
    page.until_text("[data-server=app1] .conflict", "8099");
    assert_eq!(page.property("[data-server=app1] [name=name]", "value"), "mine", "what is edited stays");
    page.keep_picture("conflict");
    page.click("[data-server=app1] [type=submit]");
    page.until_holds("the choice is asked for", || page.focused() == "Keep mine");
    assert_eq!(lb.server_names("web"), ["app1", "app2"], "nothing was overwritten");
    page.click(&button("Keep mine"));
    page.click("[data-server=app1] [type=submit]");
    page.until_text(".toast", "Saved as revision 3");
    assert_eq!(lb.server("web", "mine")["server"]["port"], 8099, "only what was edited here was saved");
    // On the command line.
    lb.done(&["server", "update", "web", "app2", "--port", "8088"]);
    other.until_text("[data-server=app2]", "8088");
    page.until_text("[data-server=app2]", "8088");
    // Both show what the other one has done, without reload.
    other.until_text("[data-server=mine]", "8099");
}

#[test]
fn a_server_that_is_deleted_elsewhere_is_not_lost_silently() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1", "app2"])));
    page.click(&button("Update app1"));
    lb.change("RemoveServer(frontend: \"web\", name: \"app1\")");
    page.until_text("[data-server=app1] .conflict", "deleted or renamed elsewhere");
    page.click("[data-server=app1] .conflict button");
    page.until_gone("[data-server=app1]");
    page.until("[data-server=app2]");
}

#[test]
fn a_wrong_token_opens_nothing_and_the_right_one_does() {
    let lb = start(Config::of(web_of(&["app1"])));
    let page = Browser::start(Look::Light);
    page.open(&url(&lb));
    page.fill("[name=token]", "guessed");
    page.keep_picture("login");
    page.press(key::ENTER);
    page.until_text(".field-error:not(:empty)", "oken");
    assert!(!page.run("return document.documentElement.textContent").as_str().unwrap().contains("app1"));
    page.fill("[name=token]", &token(&lb));
    page.press(key::ENTER);
    page.until("[data-server=app1]");
    page.reload();
    page.until("[data-server=app1]");
    let kept = page.run("return JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])");
    assert_eq!(kept, "[\"\",{},{}]", "a script can read nothing of the session");
    page.click(&button("Log out"));
    page.until("[name=token]");
    page.reload();
    page.until("[name=token]");
}

#[test]
fn a_session_that_has_ended_asks_for_the_token_and_goes_on_where_it_was() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1"])));
    page.click(&button("Update app1"));
    page.fill("[data-server=app1] [name=port]", "8085");
    page.run(
        "return (async () => {
             const { csrf } = await (await fetch('/api/v1/session')).json();
             await fetch('/api/v1/session', { method: 'DELETE', headers: { 'X-CSRF-Token': csrf } });
         })()",
    );
    page.until_text("dialog", "Your session has ended");
    page.keep_picture("session-ended");
    page.fill("dialog [name=token]", &token(&lb));
    page.press(key::ENTER);
    page.until_gone("dialog");
    assert_eq!(page.property("[data-server=app1] [name=port]", "value"), "8085");
    page.click("[data-server=app1] [type=submit]");
    page.until_text(".toast", "Saved as revision 2");
    assert_eq!(lb.server("web", "app1")["server"]["port"], 8085);
}

#[test]
fn a_balancer_that_is_gone_is_said_and_its_successor_is_found() {
    let addr = free_addr();
    let lb = Lb::start(Config::of(web_of(&["app1"])).set("console", format!("\"{addr}\"")));
    let page = Browser::start(Look::Light);
    log_in(&page, &lb);
    page.until("[data-server=app1]");
    let place = lb.kill();
    page.until_text(".lost", "does not answer");
    page.until_text("nav .pill", "No answer");
    assert!(page.is_visible("[data-server=app1]"), "what was known stays");
    page.keep_picture("no-answer");
    let lb = place.start();
    page.until_text("dialog", "Your session has ended");
    page.fill("dialog [name=token]", &token(&lb));
    page.press(key::ENTER);
    page.until_gone(".lost");
    page.until_text("nav .pill", "Live");
}

#[test]
fn over_tls_it_is_opened_by_the_password() {
    let site = Authority::root("internal").issue(&["127.0.0.1"]);
    let console = "(bind: \"127.0.0.1:0\", certificate: \"site\", password_file: \"console.password\")";
    let place = Place::new(Config::of(web_of(&["app1"])).pair("site", &site).set("console", console));
    fs::write(place.folder().join("console.password"), password_line(&place, "correct horse")).unwrap();
    fs::set_permissions(place.folder().join("console.password"), fs::Permissions::from_mode(0o600)).unwrap();
    let lb = place.start();
    let page = Browser::start(Look::Light);
    assert!(url(&lb).starts_with("https://"));
    page.open(&url(&lb));
    page.fill("[name=password]", "wrong horse");
    page.press(key::ENTER);
    page.until_text(".field-error:not(:empty)", "assword");
    page.fill("[name=password]", "correct horse");
    page.press(key::ENTER);
    page.until("[data-server=app1]");
    page.click(&button("Drain app1"));
    page.until_text("[data-server=app1] .state", "Draining");
    assert_eq!(lb.server("web", "app1")["server"]["drain"], true);
}

#[test]
fn everything_can_be_done_by_the_keyboard() {
    let backend = Backend::echo();
    let lb = start(Config::of(web().server("app1", backend.addr())));
    let page = Browser::start(Look::Light);
    page.open(&url(&lb));
    page.until_holds("the token's field has the focus", || page.focused() == "token");
    page.press(&format!("{}{}", token(&lb), key::ENTER));
    page.until("[data-server=app1]");
    let walk_to = |label: &str| {
        for _ in 0..60 {
            if page.focused() == label {
                return;
            }
            page.press(key::TAB);
        }
        panic!("{label} is not reached; the focus is on {}", page.focused());
    };
    page.press(key::TAB);
    assert_eq!(page.focused(), "Skip to the content", "it is the first");
    walk_to("Add Server to web");
    page.press(key::ENTER);
    page.until("dialog [name=name]");
    page.press(key::ESCAPE);
    page.until_gone("dialog");
    assert_eq!(page.focused(), "Add Server to web", "the focus is where it was");
    page.press(key::ENTER);
    page.until("dialog [name=name]");
    page.press(&format!("app2{}127.0.0.1{}8002{}{}", key::TAB, key::TAB, key::TAB, key::TAB));
    assert_eq!(page.run("return document.activeElement.name"), "passive");
    page.press(key::SPACE);
    page.press(key::ENTER);
    page.until_text("[data-server=app2]", "8002");
    assert_eq!(lb.server("web", "app2")["server"]["passive"], true);

    walk_to("Update app1");
    page.press(key::ENTER);
    page.until("[data-server=app1] [name=name]");
    page.press(&format!("{}{}8001", key::TAB, key::TAB));
    // Updates go on meanwhile, and neither the focus nor what is written is touched.
    let mut connection = client::connect(lb.addr("web"));
    client::echo(&mut connection, b"hello");
    page.until_text("[data-frontend=web] .live", "1 connection");
    assert_eq!(page.run("return document.activeElement.name"), "port");
    assert_eq!(page.run("return document.activeElement.value"), "8001");
    page.press(key::ENTER);
    page.until_text(".toast:last-child", "Saved as revision 3");
    page.until_holds("the focus is on the row that was edited", || page.focused() == "Update app1");
    page.press(&format!("{}{}", key::TAB, key::ENTER));
    page.until_text("[data-server=app1] .state", "Draining");
    page.until_holds("the focus stays on the button", || page.focused() == "Enable app1");
    page.press(&format!("{}{}{}", key::TAB, key::TAB, key::ENTER));
    page.until("dialog");
    page.press(key::ENTER);
    page.until_gone("[data-server=app1]");
    for _ in 0..60 {
        page.press(key::SHIFT_TAB);
        if page.focused() == "Status" {
            break;
        }
    }
    page.press(key::ENTER);
    page.until(&button("Undo revision 5"));
    assert_eq!(lb.server_names("web"), ["app2"]);
}

#[test]
fn a_phone_shows_everything_within_its_width() {
    let ca = Authority::root("internal");
    let lb = start(
        Config::of(web_of(&["app1", "a-server-with-a-rather-long-name.example.com"])).bundle("internal-ca", ca.pem()),
    );
    let page = Browser::start(Look::Phone);
    log_in(&page, &lb);
    assert_eq!(page.run("return innerWidth"), 360);
    let fits = |view: &str| {
        let width = page.run("return document.documentElement.scrollWidth");
        assert!(width.as_u64().unwrap() <= 360, "{view} is {width} pixels wide");
    };
    page.keep_picture("phone-tcp-config");
    fits("TCP Config");
    add_server(&page, "app3", "8003");
    page.until("[data-server=app3]");
    page.click(&button("Update app3"));
    page.fill("[data-server=app3] [name=port]", "8004");
    page.keep_picture("phone-update-server");
    fits("a row that is edited");
    page.click("[data-server=app3] [type=submit]");
    page.until_text("[data-server=app3]", "8004");
    for (view, place) in [("Certificates", "[data-certificate=internal-ca]"), ("Status", ".revisions li")] {
        page.click(&format!("//nav//a[.='{view}']"));
        page.until(place);
        page.run("scrollTo(0, 0)");
        page.keep_picture(&format!("phone-{}", view.to_lowercase()));
        fits(view);
    }
}

#[test]
fn the_dark_look_is_dark_and_nothing_moves_for_who_wants_that() {
    let lb = start(Config::of(web_of(&["app1"])));
    let page = Browser::start(Look::Dark);
    log_in(&page, &lb);
    let light = "const [r, g, b] = getComputedStyle(arguments[0] ?? document.body).backgroundColor.match(/\\d+/g); return +r + +g + +b";
    assert!(page.run(light).as_u64().unwrap() < 3 * 64, "the ground is dark");
    page.click(&button("Drain app1"));
    page.until(".toast");
    assert_eq!(page.run("return document.getAnimations().length"), 0);
    page.keep_picture("dark-tcp-config");
    page.click("//nav//a[.='Status']");
    page.until(".revisions li");
    page.keep_picture("dark-status");
}

#[test]
fn certificates_are_added_replaced_and_deleted() {
    let ca = Authority::root("internal");
    let (site, next) = (ca.issue(&["shop.example.com"]), ca.issue(&["shop.example.com", "www.example.com"]));
    let (page, lb) = logged_in(Config::of(web().set("protocol", "http")));
    page.click("//nav//a[.='Certificates']");
    page.until_text("main", "No certificates yet");
    page.click(&button("Add Certificate"));
    page.fill("dialog [name=name]", "shop");
    page.fill("dialog [name=chain]", "not a certificate");
    page.fill("dialog [name=key]", site.key());
    page.click("dialog [type=submit]");
    page.until("dialog .field-error:not(:empty)");
    assert_eq!(page.run("return document.activeElement.name"), "chain");
    page.fill("dialog [name=chain]", site.chain());
    page.click("dialog [type=submit]");
    page.until_text("[data-certificate=shop]", "shop.example.com");
    page.until_text("[data-certificate=shop]", "nobody");
    page.keep_picture("certificates");
    assert!(!page.run("return document.documentElement.outerHTML").as_str().unwrap().contains("PRIVATE KEY"));

    page.click(&button("Replace shop"));
    page.fill("dialog [name=chain]", next.chain());
    page.fill("dialog [name=key]", next.key());
    page.click("dialog [type=submit]");
    page.until_text("[data-certificate=shop]", "www.example.com");

    page.click(&button("Add Certificate"));
    page.fill("dialog [name=name]", "internal-ca");
    page.choose("dialog [name=kind]", "Bundle of CAs to trust");
    // From a file, as well as pasted.
    page.upload("//dialog//input[@aria-label='CA certificates from a file']", ca.pem_path());
    page.until_holds("the file is read", || page.property("dialog [name=bundle]", "value").contains("BEGIN"));
    page.click("dialog [type=submit]");
    page.until_text("[data-certificate=internal-ca]", "Bundle");

    lb.change("UpdateFrontend(name: \"web\", protocol: https, certificates: [\"shop\"])");
    page.until_text("[data-certificate=shop]", "frontend web");
    page.click(&button("Delete shop"));
    page.until_text("dialog", "used by frontend web");
    page.click("dialog .danger");
    page.until_text("dialog .problem", "web");
    page.press(key::ESCAPE);
    page.until_gone("dialog");
    page.click(&button("Delete internal-ca"));
    page.click("dialog .danger");
    page.until_gone("[data-certificate=internal-ca]");
    assert_eq!(lb.status()["certificates"].as_array().unwrap().len(), 1);
}

#[test]
fn a_revision_is_taken_back_after_a_look_at_what_that_changes() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1", "app2"])));
    lb.done(&["server", "update", "web", "app1", "--weight", "5"]);
    lb.done(&["server", "remove", "web", "app2"]);
    page.click("//nav//a[.='Status']");
    page.click(&button("Undo revision 2"));
    page.until_text("dialog .difference ins", "1");
    assert_eq!(page.text("dialog .difference del").as_deref(), Some("5"));
    page.keep_picture("undo");
    page.click("dialog .primary");
    page.until_text(".toast", "Saved as revision 4");
    page.until(&button("Undo revision 4"));
    assert_eq!(lb.server("web", "app1")["server"].get("weight"), None);
    assert_eq!(lb.server_names("web"), ["app1"], "nothing else was taken back");
    page.click(&button("Undo revision 2"));
    page.until_text(".toast.bad", "can't be taken back");
    page.keep_picture("status");
}

#[test]
fn live_numbers_and_plots_follow_without_a_reload() {
    let backend = Backend::echo();
    let (page, lb) = logged_in(Config::of(web().server("app1", backend.addr())));
    page.until_text("[data-server=app1] [data-label=Connections]", "0");
    page.run("globalThis.isSamePage = true");
    let mut connections: Vec<_> = (0..3).map(|_| client::connect(lb.addr("web"))).collect();
    connections.iter_mut().for_each(|connection| client::echo(connection, b"hello"));
    page.until_text("[data-server=app1] [data-label=Connections]", "3");
    page.until_text("[data-frontend=web] .live", "3 connections");
    page.until_text("[data-frontend=web] .plot:first-child .value", "3");
    let points = "return document.querySelector('.plot .line').getAttribute('d').split('L').length";
    page.until_holds("the line has points", || page.run(points).as_u64().unwrap() > 2);
    drop(connections);
    page.until_text("[data-server=app1] [data-label=Connections]", "0");
    page.until_text("[data-frontend=web] .plot:first-child .peak", "at most 3");
    assert_eq!(page.run("return globalThis.isSamePage"), true);
}

#[test]
fn plots_begin_before_the_page_was_opened() {
    let backend = Backend::echo();
    let lb = start(Config::of(web().server("app1", backend.addr())));
    let mut connections: Vec<_> = (0..3).map(|_| client::connect(lb.addr("web"))).collect();
    connections.iter_mut().for_each(|connection| client::echo(connection, b"hello"));
    let (host, bearer) = (url(&lb).replace("http://", "").replace('/', ""), token(&lb));
    let ask = format!("GET /api/v1/samples HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {bearer}\r\n\r\n");
    let samples = || Wire::connect(host.parse().unwrap()).ask(&ask).text().to_owned();
    wait::until("they are sampled", || samples().contains("\"connections\":3"));
    drop(connections);
    wait::until("they are gone", || lb.frontend("web")["connections"] == 0);
    let page = Browser::start(Look::Light);
    log_in(&page, &lb);
    page.until_text("[data-frontend=web] .plot:first-child .peak", "at most 3");
    page.until_text("[data-frontend=web] .plot:first-child .value", "0");
    page.click("//nav//a[.='Status']");
    page.until_text(".view .plot:first-child .peak", "at most 3");
}

#[test]
fn a_page_that_nobody_sees_asks_nothing_until_it_is_seen_again() {
    let console = free_addr();
    // The balancer counts the requests for its own console: they come through a frontend.
    let counted = Frontend::new("counted").set("protocol", "http").server("console", console);
    let lb = Lb::start(Config::of(counted).set("console", format!("\"{console}\"")));
    let page = Browser::start(Look::Light);
    page.open(&format!("http://{}/", lb.addr("counted")));
    page.fill("[name=token]", &token(&lb));
    page.press(key::ENTER);
    page.until("[data-server=console]");
    let asked = || lb.frontend("counted")["traffic"]["requests"].as_u64().unwrap();
    let before = asked();
    wait::until("it asks once a second", || asked() > before + 2);
    page.hide();
    // What was on its way arrives; a page that went on would ask again in a second.
    let hidden = wait::until_still("it asks nothing", Duration::from_secs(4), asked);
    lb.change("DrainServer(frontend: \"counted\", name: \"console\")");
    lb.change("EnableServer(frontend: \"counted\", name: \"console\")");
    assert_eq!(asked(), hidden);
    page.show();
    page.until_text("nav", "Revision 3");
    wait::until("it asks again", || asked() > hidden + 2);
}

#[test]
fn names_with_markup_are_text() {
    let markup = "<img src=x onerror='globalThis.hacked=1'><b>bold</b>";
    let site = Authority::root(markup).issue(&["shop.example.com"]);
    let (page, _lb) = logged_in(Config::of(web()).pair("shop", &site));
    page.click("//nav//a[.='Certificates']");
    page.until_text("[data-certificate=shop]", markup);
    page.click("//nav//a[.='TCP Config']");
    page.click(&button("Add Server to web"));
    page.fill("dialog [name=name]", "app2");
    page.fill("dialog [name=ip]", markup);
    page.fill("dialog [name=port]", "80");
    page.click(&button("ADD SERVER"));
    page.until_text("dialog .field-error:not(:empty)", "onerror=");
    assert_eq!(
        (page.count("main b"), page.count("main img"), page.count("dialog b"), page.count("dialog img")),
        (0, 0, 0, 0)
    );
    assert_eq!(page.run("return globalThis.hacked ?? 'no'"), "no");
}

#[test]
fn the_page_asks_no_other_host_and_breaks_none_of_its_own_rules() {
    let lb = start(Config::of(web_of(&["app1"]).set("protocol", "http")));
    let page = Browser::start(Look::Light);
    log_in(&page, &lb);
    page.click("[data-frontend=web] [name=cookie_persistence]");
    page.until(".toast");
    for (view, place) in [("Certificates", "main"), ("Status", ".revisions li"), ("TCP Config", "[data-server=app1]")] {
        page.click(&format!("//nav//a[.='{view}']"));
        page.until(place);
    }
    let asked =
        page.run("return performance.getEntries().filter((one) => one.name.includes(':')).map((one) => one.name)");
    let asked: Vec<_> = asked.as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned()).collect();
    let own = url(&lb);
    assert!(asked.len() > 20, "the page and its files: {asked:?}");
    assert_eq!(asked.iter().find(|url| !url.starts_with(&own)), None, "another host is asked");
    assert_eq!(page.violations(), [""; 0]);
    // What the rules are for: nothing that is put into the page runs or is loaded.
    page.run("const one = document.createElement('script'); one.textContent = 'globalThis.hacked = 1'; document.body.append(one)");
    page.run("const one = new Image(); one.src = 'http://127.0.0.1:9/'; document.body.append(one)");
    page.until_holds("both are told as violations", || page.violations().len() == 2);
    assert_eq!(page.run("return globalThis.hacked ?? 'no'"), "no");
}

#[test]
fn a_page_of_another_origin_can_neither_change_nor_read_nor_frame_anything() {
    let (page, lb) = logged_in(Config::of(web_of(&["app1"])));
    // The port is another one, and a cookie's site is not told by its port: the browser sends it along.
    let own = url(&lb);
    let attack = format!(
        "<body><form method=post action='{own}api/v1/undo' target=frame><input name=x value=1></form><iframe name=frame></iframe>"
    );
    let evil = Site::run(move |_| reply(200, "Content-Type: text/html\r\n", &attack));
    lb.done(&["server", "update", "web", "app1", "--weight", "5"]);
    page.open(&format!("http://{}/", evil.addr()));
    for (path, mode) in [("undo", "no-cors"), ("undo", "cors"), ("frontends/web/servers/app1/drain", "no-cors")] {
        for media_type in ["text/plain", "application/json"] {
            let tried = page.run(&format!(
                "return fetch('{own}api/v1/{path}', {{ method: 'POST', mode: '{mode}', credentials: 'include', body: '{{}}',
                     headers: {{ 'Content-Type': '{media_type}' }} }}).then((answer) => answer.type, () => 'refused')"
            ));
            assert!(tried == "refused" || tried == "opaque", "{path} {mode} {media_type}: {tried}");
        }
    }
    let read = page.run(&format!(
        "return fetch('{own}api/v1/status', {{ credentials: 'include' }}).then((answer) => answer.text(), () => 'refused')"
    ));
    assert_eq!(read, "refused");
    page.run("document.forms[0].submit()");
    page.run(&format!(
        "return new Promise((resolve) => {{
             const frame = document.createElement('iframe');
             frame.onload = resolve;
             frame.src = '{own}';
             document.body.append(frame);
         }})"
    ));
    assert_eq!(
        page.run("return [...document.querySelectorAll('iframe')].at(-1).contentDocument"),
        serde_json::Value::Null
    );
    assert_eq!(lb.revision(), 2, "only the command line has changed something");
    // The session is still there, for its own page.
    page.open(&own);
    page.until("[data-server=app1]");
}

/// A frontend `web` without servers.
fn web() -> Frontend {
    Frontend::new("web")
}

/// A frontend `web` with servers that nobody connects to.
fn web_of(names: &[&str]) -> Frontend {
    names.iter().fold(web(), |frontend, name| frontend.server(name, "127.0.0.1:9".parse().unwrap()))
}

/// A frontend with a pair for its clients, and a bundle `internal-ca` that servers can be trusted by.
fn with_certificates(frontend: Frontend, ca: &Authority) -> Config {
    let site = ca.issue(&["www.example.com"]);
    Config::of(frontend.certificates(&["site"])).pair("site", &site).bundle("internal-ca", ca.pem())
}

/// Starts the balancer with its console at a port that the kernel chooses.
fn start(config: Config) -> Lb {
    Lb::start(config.set("console", "\"127.0.0.1:0\""))
}

/// Where its console is.
fn url(lb: &Lb) -> String {
    let line = lb.log().wait_for("console on ").expect("lb runs");
    let url = line.split_whitespace().find(|word| word.starts_with("http")).expect("the log names the address");
    url.trim_matches('"').to_owned()
}

/// The line of a file that lets this password in.
fn password_line(place: &Place, password: &str) -> String {
    let mut command = Command::new(lb_path());
    command.args(["console", "password"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.env("LB_ADMIN", place.admin()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// What its console asks for.
fn token(lb: &Lb) -> String {
    lb.done(&["console", "token"]).trim().to_owned()
}

fn log_in(page: &Browser, lb: &Lb) {
    page.open(&url(lb));
    page.fill("[name=token]", &token(lb));
    page.press(key::ENTER);
    page.until("nav");
}

/// A balancer, and a browser that is logged in to its console.
fn logged_in(config: Config) -> (Browser, Lb) {
    let lb = start(config);
    let page = Browser::start(Look::Light);
    log_in(&page, &lb);
    (page, lb)
}

/// Adds a server at 127.0.0.1 to frontend `web`.
fn add_server(page: &Browser, name: &str, port: &str) {
    page.click(&button("Add Server to web"));
    page.fill("dialog [name=name]", name);
    page.fill("dialog [name=ip]", "127.0.0.1");
    page.fill("dialog [name=port]", port);
    page.click(&button("ADD SERVER"));
}
