//! What is changed while clients are there, whom it must not disturb: clients of every kind keep their connections, never come
//! again, and check every byte, while one change after the other is made. Requests are answered by 200 or not at all well.
#![forbid(unsafe_code)]

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use tests::channel::{client_config, server_config};
use tests::client::{connect, read_to_end, try_connect};
use tests::crowd::{self, Crowd};
use tests::http::Wire;
use tests::{Authority, Backend, Channel, Config, Frontend, Identity, Lb, bundle, pair, wait};

/// How often each change is made.
const TIMES: usize = 8;

/// The frontends: bytes as they are, TLS that ends at the balancer, and requests, without TLS and in it.
const FRONTENDS: [&str; 4] = ["tcp", "tls", "web", "secure"];

#[test]
fn servers_are_added_and_removed() {
    let scene = Scene::start();
    scene.while_all_go_on(&[ADD, "RemoveServer(frontend:NAME,name:\"c\")"]);
    scene.end();
}

#[test]
fn the_servers_that_serve_are_removed_and_others_come() {
    let scene = Scene::start();
    let add = |name| ADD.replace("\"c\"", &format!("{name:?}"));
    let remove = |name| format!("RemoveServer(frontend:NAME,name:\"{name}\")");
    scene.while_all_go_on(&[&remove("a"), ADD, &remove("b"), &add("a"), &remove("c"), &add("b")]);
    scene.end();
}

#[test]
fn servers_are_updated() {
    let scene = Scene::start();
    let changes = [
        ["weight:200", "weight:1"],
        ["port:SPARE", "port:FIRST"],
        ["rename:\"other\"", "rename:\"a\""],
        ["max_connections:1", "max_connections:0"],
    ];
    for [there, back] in changes {
        let present = if there.contains("rename") { "other" } else { "a" };
        let [there, back] = [("a", there), (present, back)]
            .map(|(name, fields)| format!("UpdateServer(frontend:NAME,name:\"{name}\",{fields})"));
        scene.while_all_go_on(&[&there, &back]);
    }
    scene.end();
}

#[test]
fn servers_are_drained_and_disabled() {
    let scene = Scene::start();
    for change in ["Drain", "Disable"] {
        let steps = ["a", "b"]
            .map(|server| [change, "Enable"].map(|change| format!("{change}Server(frontend:NAME,name:\"{server}\")")));
        scene.while_all_go_on(&steps.as_flattened().iter().map(String::as_str).collect::<Vec<_>>());
    }
    scene.end();
}

#[test]
fn other_frontends_come_change_and_go() {
    let scene = Scene::start();
    for _ in 0..TIMES {
        let other = Frontend::new("other").server("a", scene.farm.echoes[0].addr());
        scene.lb.change(&format!("AddFrontend(frontend:{other})"));
        scene.lb.change("UpdateFrontend(name:\"other\",bind:\"127.0.0.2:0\",policy:random_two,rename:\"another\")");
        scene.lb.change("RemoveFrontend(name:\"another\")");
    }
    scene.crowd.go_on("other frontends come and go");
    scene.end();
}

#[test]
fn their_frontend_is_updated() {
    let scene = Scene::start();
    let changes = [
        ["max_connections:5000", "max_connections:0"],
        ["policy:least_connections", "policy:round_robin"],
        ["policy:source_hash", "policy:least_latency"],
        ["idle_timeout:\"25s\",connect_timeout:\"1s\"", "idle_timeout:\"10m\",connect_timeout:\"5s\""],
        ["check:(kind:tcp,interval:\"10ms\")", "check:(kind:off)"],
        ["ip_persistence:\"ttl=30m\"", "ip_persistence:\"none\""],
    ];
    for change in changes {
        scene.while_all_go_on(
            &change.map(|fields| format!("UpdateFrontend(name:NAME,{fields})")).each_ref().map(String::as_str),
        );
    }
    scene.end();
}

#[test]
fn their_frontend_gets_another_address_and_another_name() {
    let scene = Scene::start_for(Manner::StaysAlone);
    let bind = ["127.0.0.2:0", "127.0.0.1:0"].map(|bind| format!("UpdateFrontend(name:NAME,bind:\"{bind}\")"));
    scene.while_all_go_on(&bind.each_ref().map(String::as_str));
    for _ in 0..TIMES {
        scene.lb.change("UpdateFrontend(name:\"web\",rename:\"site\")");
        scene.lb.change("UpdateFrontend(name:\"site\",rename:\"web\")");
    }
    scene.crowd.go_on("their frontend is renamed");
    scene.end();
}

#[test]
fn the_settings_of_requests_are_updated() {
    let scene = Scene::start();
    let changes = [
        ["cookie_persistence:true", "cookie_persistence:false"],
        ["http:(max_head:20000,header_timeout:\"3s\",forwarded:true)", "http:()"],
    ];
    for change in changes {
        for fields in change.repeat(TIMES) {
            let update = |name| format!("UpdateFrontend(name:\"{name}\",{fields})");
            scene.lb.change(&format!("Transaction([{},{}])", update("web"), update("secure")));
        }
        scene.crowd.go_on(change[0]);
    }
    scene.end();
}

#[test]
fn certificates_are_replaced() {
    let scene = Scene::start();
    let (authority, identity) = (&scene.farm.authority, &scene.farm.identity);
    let (more, other) = (Authority::root("another one"), authority.issue(&["site.example"]));
    for _ in 0..TIMES {
        for (identity, trusted) in
            [(&other, authority.pem().to_owned() + more.pem()), (identity, authority.pem().into())]
        {
            scene.lb.change(&format!("UpdateCertificate{}", pair("site", identity)));
            scene.lb.change(&format!("UpdateCertificate{}", bundle("corp-ca", &trusted)));
        }
    }
    scene.crowd.go_on("certificates are replaced");
    scene.end();
}

#[test]
fn clients_are_forgotten_and_the_log_says_more() {
    let scene = Scene::start();
    scene.change_all("UpdateFrontend(name:NAME,ip_persistence:\"ttl=30m\")");
    for level in ["debug", "info"].repeat(TIMES) {
        assert!(scene.lb.admin("ClearPersistence()").starts_with("Forgotten("));
        assert!(scene.lb.admin(&format!("SetLogLevel(level:\"{level}\")")).starts_with("LogLevel("));
    }
    scene.crowd.go_on("clients are forgotten");
    scene.end();
}

#[test]
fn the_file_is_applied() {
    let scene = Scene::start();
    let place = scene.lb.place();
    let more = || scene.farm.config().frontend(Frontend::new("other").server("a", scene.farm.echoes[0].addr()));
    for _ in 0..TIMES {
        place.write_config(more());
        scene.lb.done(&["apply", "--config", place.config().to_str().unwrap()]);
        place.write_config(scene.farm.config());
        scene.lb.signal("HUP");
        wait::until("the file is in effect", || scene.lb.settings().len() == FRONTENDS.len());
    }
    scene.crowd.go_on("the file is applied");
    scene.end();
}

#[test]
fn successors_give_up() {
    let scene = Scene::start();
    let place = scene.lb.place();
    let can_change = || !scene.lb.admin("Undo()").contains("successor");
    for _ in 0..3 {
        place.write_config("(frontends: nonsense)");
        assert_eq!(place.fail_successor().code, Some(1));
        scene.crowd.go_on("a successor does not begin");
        let taken = Frontend::new("other").bind(scene.farm.echoes[0].addr());
        place.write_config(scene.farm.config().frontend(taken));
        assert_eq!(place.fail_successor().code, Some(1));
        wait::until("changes are allowed again", can_change);
        scene.crowd.go_on("a successor gives up");
        place.write_config(scene.farm.config());
    }
    for _ in 0..TIMES {
        let mut successor = scene.lb.connect_admin();
        assert!(successor.ask("TakeOver()").starts_with("HandOver("));
        drop(successor);
        wait::until("changes are allowed again", can_change);
    }
    scene.crowd.go_on("successors die");
    scene.end();
}

#[test]
fn successors_take_over() {
    let mut scene = Scene::start_for(Manner::MayBeToldToClose);
    let mut predecessors = Vec::new();
    for _ in 0..4 {
        let successor = scene.lb.place().start_successor();
        predecessors.push(std::mem::replace(&mut scene.lb, successor));
        scene.crowd.go_on("a successor takes over");
    }
    scene.end();
    for mut old in predecessors {
        assert_eq!(old.exit().code(), Some(0), "{}", old.log().text());
    }
}

/// Adds a server more to a frontend.
const ADD: &str = "AddServer(frontend:NAME,server:(name:\"c\",ip:\"127.0.0.1\",port:SPARE,SETTINGS))";

/// Whether clients of requests accept to be told, with an answer, that it is the last on their connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Stays,
    /// And nobody comes anew, as their frontend is to go elsewhere.
    StaysAlone,
    MayBeToldToClose,
}

/// A balancer with clients and servers of every kind.
struct Scene {
    farm: Farm,
    lb: Lb,
    crowd: Crowd,
}

impl Scene {
    fn start() -> Self {
        Self::start_for(Manner::Stays)
    }

    fn start_for(manner: Manner) -> Self {
        let farm = Farm::new();
        let lb = Lb::start(farm.config());
        let mut scene = Self { farm, lb, crowd: Crowd::default() };
        scene.enter(manner);
        scene.crowd.go_on("nothing is changed");
        scene
    }

    fn enter(&mut self, manner: Manner) {
        let trusting = client_config(&self.farm.authority);
        let [tcp, tls, web, secure] = FRONTENDS.map(|name| self.lb.addr(name));
        let channel =
            move |addr, trusting: &Arc<ClientConfig>| Channel::connect(addr, "site.example", trusting).unwrap();
        for _ in 0..2 {
            let mut stream = connect(tcp);
            self.crowd.join("that exchanges messages", move |round| crowd::ping(&mut stream, round));
            let (mut reader, mut writer) = twice(connect(tcp));
            self.crowd.join("that streams", move |round| crowd::echo(&mut reader, &mut writer, round));
            let mut stream = channel(tls, &trusting);
            self.crowd.join("that exchanges messages in TLS", move |round| crowd::ping(&mut stream, round));
            let mut reader = channel(tls, &trusting);
            let mut writer = reader.clone();
            self.crowd.join("that streams in TLS", move |round| crowd::echo(&mut reader, &mut writer, round));
            let mut stream = crowd::upgrade(web);
            self.crowd.join("that exchanges messages in a tunnel", move |round| crowd::ping(&mut stream, round));
            let (mut reader, mut writer) = twice(crowd::upgrade(web));
            self.crowd.join("that streams in a tunnel", move |round| crowd::echo(&mut reader, &mut writer, round));
            self.ask("that asks", manner, move || Wire::connect(web));
            let trusting = Arc::clone(&trusting);
            self.ask("that asks in TLS", manner, move || Wire::over(channel(secure, &trusting)));
        }
        if manner != Manner::StaysAlone {
            self.enter_anew(tcp, web);
        }
        if manner != Manner::MayBeToldToClose {
            let mut wire = Wire::connect(web);
            self.crowd.join("that asks several things at once", move |round| crowd::pipeline(&mut wire, round));
        }
    }

    /// Clients that come again and again, whom no change may refuse.
    fn enter_anew(&mut self, tcp: SocketAddr, web: SocketAddr) {
        self.crowd.join("that comes and goes", move |round| {
            let mut stream = try_connect(tcp)?;
            crowd::ping(&mut stream, round)?;
            stream.shutdown(Shutdown::Write)?;
            assert_eq!(read_to_end(stream)?, "");
            Ok(())
        });
        self.crowd
            .join("that comes and asks", move |round| crowd::ask(&mut Wire::over(try_connect(web)?), round).map(drop));
    }

    fn ask<S>(&mut self, name: &str, manner: Manner, connect: impl Fn() -> Wire<S> + Send + 'static)
    where
        S: std::io::Read + std::io::Write + Send + 'static,
    {
        let mut wire = connect();
        self.crowd.join(name, move |round| {
            let answer = crowd::ask(&mut wire, round)?;
            if answer.connection_says("close") {
                assert_eq!(manner, Manner::MayBeToldToClose, "the connection is to be closed");
                wire = connect();
            }
            Ok(())
        });
    }

    /// Makes some changes, one after the other, again and again.
    fn while_all_go_on(&self, changes: &[&str]) {
        changes.repeat(TIMES).iter().for_each(|change| self.change_all(change));
        self.crowd.go_on(changes[0]);
    }

    /// Makes a change to every frontend at once.
    fn change_all(&self, change: &str) {
        let changes = FRONTENDS.map(|name| {
            let [first, _, spare] = self.farm.servers(name).each_ref().map(|server| server.addr().port().to_string());
            let change = change.replace("FIRST", &first).replace("SPARE", &spare);
            let change = change.replace("SETTINGS", Farm::settings(name));
            change.replace("NAME", &format!("{name:?}"))
        });
        self.lb.change(&format!("Transaction([{}])", changes.join(",")));
    }

    fn end(self) {
        self.crowd.end();
    }
}

/// The servers, and what those who speak TLS trust. Of three servers the first two serve, the third is where others can move.
struct Farm {
    authority: Authority,
    identity: Identity,
    echoes: [Backend; 3],
    sites: [Backend; 3],
    secure_sites: [Backend; 3],
}

impl Farm {
    fn new() -> Self {
        let authority = Authority::root("corp authority");
        let identity = authority.issue(&["site.example"]);
        let app = server_config(&identity);
        Self {
            authority,
            identity,
            echoes: [(); 3].map(|()| Backend::echo()),
            sites: [(); 3].map(|()| crowd::site()),
            secure_sites: [(); 3].map(|()| crowd::secure_site(Arc::clone(&app))),
        }
    }

    fn config(&self) -> Config {
        let certified = |name| Frontend::new(name).certificates(&["site"]);
        let frontends = [
            ("tcp", Frontend::new("tcp")),
            ("tls", certified("tls")),
            ("web", Frontend::new("web").set("protocol", "http")),
            ("secure", certified("secure").set("protocol", "https")),
        ];
        let config = frontends.into_iter().fold(Config::default(), |config, (name, frontend)| {
            let [a, b, _] = self.servers(name).each_ref().map(Backend::addr);
            let settings = Self::settings(name);
            config.frontend(frontend.server_with("a", a, settings).server_with("b", b, settings))
        });
        config.pair("site", &self.identity).bundle("corp-ca", self.authority.pem()).set("shards", 2)
    }

    fn servers(&self, frontend: &str) -> &[Backend; 3] {
        match frontend {
            "tcp" | "tls" => &self.echoes,
            "web" => &self.sites,
            _ => &self.secure_sites,
        }
    }

    /// What is said of each server of a frontend.
    fn settings(frontend: &str) -> &'static str {
        match frontend {
            "tls" => "ssl_offload: true",
            "secure" => "server_certificate: \"corp-ca\", server_name: \"site.example\"",
            _ => "ssl_offload: false",
        }
    }
}

/// The same connection for two threads.
fn twice(stream: std::net::TcpStream) -> (std::net::TcpStream, std::net::TcpStream) {
    (stream.try_clone().unwrap(), stream)
}
