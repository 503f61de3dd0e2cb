//! The four ways in which TLS can stand between a client and a server, chosen per server, mixed behind one frontend and
//! changed live: each carries every byte and every end both ways.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tests::channel::Manner;
use tests::client::{connect, connect_from, read_to_end};
use tests::modes::{Mode, Party, SITE, Scene};
use tests::openssl::{SClient, SServer};
use tests::program::{Nginx, Postgres, Site, run, succeeds};
use tests::{Authority, Backend, Channel, Config, Frontend, Lb, stream};

#[test]
fn every_mode_carries_both_directions_at_once_byte_for_byte() {
    const BYTES: u64 = 6_000_000;
    for mode in Mode::ALL {
        let scene = Scene::new(mode);
        let (client, server) = scene.ends();
        let writers = [(&client, 1), (&server, 2)].map(|(end, seed)| {
            let mut end = end.clone();
            thread::spawn(move || stream::write(&mut end, seed, BYTES).and_then(|_| end.end()).unwrap())
        });
        let mut reader = server.clone();
        let at_server = thread::spawn(move || stream::read(&mut reader).unwrap());
        let at_client = stream::read(&mut client.clone()).unwrap();
        assert_eq!(at_server.join().unwrap(), stream::digest(1, BYTES), "{mode:?}, towards the server");
        assert_eq!(at_client, stream::digest(2, BYTES), "{mode:?}, towards the client");
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop((client, server));
        scene.lb.until_idle();
    }
}

#[test]
fn every_mode_lets_a_message_through_at_once() {
    for mode in Mode::ALL {
        let scene = Scene::new(mode);
        let (mut client, mut server) = scene.ends();
        for round in 0..100_u8 {
            let (mut question, mut answer) = ([0; 3], [0; 2]);
            client.write_all(&[round, 1, 2]).unwrap();
            server.read_exact(&mut question).unwrap();
            server.write_all(&[round, 3]).unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!((question, answer), ([round, 1, 2], [round, 3]), "{mode:?}");
        }
    }
}

#[test]
fn in_every_mode_the_answer_arrives_after_the_client_has_said_that_this_was_all() {
    for mode in Mode::ALL {
        let scene = Scene::new(mode);
        let (mut client, mut server) = scene.ends();
        client.write_all(b"question").unwrap();
        client.end().unwrap();
        assert_eq!(read_to_end(&mut server).unwrap(), "question", "{mode:?}");
        server.write_all(b"answer").unwrap();
        server.end().unwrap();
        assert_eq!(read_to_end(&mut client).unwrap(), "answer", "{mode:?}");
        drop((client, server));
        scene.lb.until_idle();
    }
}

#[test]
fn in_every_mode_the_clients_bytes_arrive_after_the_server_has_said_that_this_was_all() {
    for mode in Mode::ALL {
        let scene = Scene::new(mode);
        let (mut client, mut server) = scene.ends();
        server.write_all(b"goodbye").unwrap();
        server.end().unwrap();
        assert_eq!(read_to_end(&mut client).unwrap(), "goodbye", "{mode:?}");
        stream::write(&mut client, 5, 2_000_000).unwrap();
        client.end().unwrap();
        assert_eq!(stream::read(&mut server).unwrap(), stream::digest(5, 2_000_000), "{mode:?}");
        drop((client, server));
        scene.lb.until_idle();
    }
}

#[test]
fn bytes_that_were_sent_before_the_server_was_there_arrive() {
    for mode in [Mode::Termination, Mode::ReEncryption, Mode::Origination] {
        let scene = Scene::new(mode);
        let (mut client, server) = scene.ends_after(|mut client| {
            stream::write(&mut client, 8, 100_000).unwrap();
            client
        });
        client.end().unwrap();
        assert_eq!(stream::read(&mut server.clone()).unwrap(), stream::digest(8, 100_000), "{mode:?}");
        server.end().unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "{mode:?}");
    }
}

#[test]
fn all_modes_stand_behind_one_frontend_and_the_policy_chooses() {
    let party = Party::new();
    let farm = Farm::new(&party);
    for policy in ["round_robin", "least_connections", "random_two", "source_hash"] {
        let lb = Lb::start(party.config(farm.frontend().policy(policy)).set("shards", 2));
        let addr = lb.addr("web");
        let ask = |source: u8| {
            let stream = connect_from([127, 0, 0, source].into(), addr);
            read_to_end(Channel::over(stream, "app.example", &party.trusting, Manner::default()).unwrap()).unwrap()
        };
        let mut answers: Vec<_> = (1..=40).map(ask).collect();
        if policy == "source_hash" {
            assert_eq!(answers, (1..=40).map(ask).collect::<Vec<_>>(), "a client finds the same server again");
        }
        if policy == "round_robin" {
            answers.sort();
            assert!(answers.chunks(10).all(|tenth| tenth.iter().all(|name| *name == tenth[0])), "{answers:?}");
        }
        for mode in Mode::ALL {
            assert!(answers.contains(&format!("{mode:?}")), "{policy} never chose {mode:?}: {answers:?}");
        }
    }
}

#[test]
fn behind_a_mixed_frontend_a_server_that_speaks_first_is_heard_before_the_client_says_anything() {
    let party = Party::new();
    let plain = Backend::who_and_echo("hello");
    let secure = Backend::secure_who_and_echo("hello", Arc::clone(&party.app));
    for (mode, addr) in [(Mode::Passthrough, plain.addr()), (Mode::Origination, secure.addr())] {
        let frontend = Frontend::new("web").server_with("chosen", addr, mode.settings());
        let frontend =
            frontend.server_with("other", plain.addr(), &format!("drain: true, {}", Mode::Termination.settings()));
        let lb = Lb::start(party.config(frontend));
        let mut greeting = [0; 5];
        connect(lb.addr("web")).read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello", "{mode:?}");
    }
}

#[test]
fn a_mode_that_is_changed_live_is_that_of_the_next_connection_and_existing_ones_go_on() {
    let scene = Scene::new(Mode::Passthrough);
    let mut kept = vec![scene.ends()];
    let update = |arguments: &[&str]| scene.lb.done(&[&["server", "update", "web", "a"], arguments].concat());
    for (mode, arguments) in [
        (Mode::Termination, &["--ssl-offload", "true"][..]),
        (Mode::ReEncryption, &["--server-certificate", "corp-ca", "--server-name", "app.example"]),
        (Mode::Origination, &["--ssl-offload", "false"]),
        (Mode::Passthrough, &["--server-certificate", "none", "--server-name", "none"]),
    ] {
        update(arguments);
        kept.push(scene.party.ends(&scene.lb, &scene.listener, mode, |client| client));
        for (client, server) in &mut kept {
            client.write_all(b"still here").unwrap();
            let mut message = [0; 10];
            server.read_exact(&mut message).unwrap();
            server.write_all(&message).unwrap();
            client.read_exact(&mut message).unwrap();
            assert_eq!(&message, b"still here", "after the change to {mode:?}");
        }
    }
}

#[test]
fn no_byte_of_one_connection_reaches_another() {
    const CLIENTS: u64 = 48;
    const BYTES: u64 = 400_000;
    let party = Party::new();
    let server = Backend::secure_who_and_echo("", Arc::clone(&party.app));
    let frontend = Frontend::new("web").server_with("a", server.addr(), Mode::ReEncryption.settings());
    let lb = Lb::start(party.config(frontend).set("shards", 2));
    let addr = lb.addr("web");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let config = Arc::clone(&party.trusting);
            thread::spawn(move || {
                let mut client = Channel::connect(addr, SITE, &config).unwrap();
                let mut writer = client.clone();
                let written = thread::spawn(move || {
                    let written = stream::write(&mut writer, seed, BYTES).unwrap();
                    writer.end().unwrap();
                    written
                });
                assert_eq!(stream::read(&mut client).unwrap(), written.join().unwrap(), "of connection {seed}");
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    lb.until_idle();
}

#[test]
fn psql_verifies_postgres_in_full_through_passthrough() {
    let authority = Authority::root("database authority");
    let postgres = Postgres::start_secure(&authority.issue(&["db.example"]));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", postgres.addr())));
    let psql = |host: &str, trusted: &Authority| {
        let (port, root) = (lb.addr("web").port(), trusted.pem_path().display().to_string());
        let to = format!("host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres");
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-c", "select version from pg_stat_ssl where pid = pg_backend_pid()"]);
        psql.arg(format!("{to} sslmode=verify-full sslrootcert={root}"));
        psql
    };
    assert!(succeeds(&mut psql("db.example", &authority)).starts_with("TLSv1."));
    assert!(!run(&mut psql("other.example", &authority)).status.success(), "the name is verified");
    assert!(!run(&mut psql("db.example", &Authority::root("other"))).status.success(), "the authority is verified");
}

#[test]
fn curl_speaks_to_a_plain_nginx_through_termination() {
    let party = Party::new();
    let nginx = Nginx::start(&["plain"]);
    curl_gets_all(&party, nginx.addrs()[0], Mode::Termination, "plain");
}

#[test]
fn curl_speaks_to_a_secure_nginx_through_re_encryption() {
    let party = Party::new();
    let nginx = Nginx::start_sites(&[Site::new("secure").secure(&party.authority.issue(&["app.example"]))]);
    curl_gets_all(&party, nginx.addrs()[0], Mode::ReEncryption, "secure");
}

#[test]
fn curl_speaks_to_a_secure_nginx_through_origination() {
    let party = Party::new();
    let nginx = Nginx::start_sites(&[Site::new("secure").secure(&party.authority.issue(&["app.example"]))]);
    let frontend = Frontend::new("web").server_with("a", nginx.addrs()[0], Mode::Origination.settings());
    let lb = Lb::start(party.config(frontend));
    let url = format!("http://{}/", lb.addr("web"));
    let file = succeeds(Command::new("curl").args(["-sS", "--fail", &format!("{url}file")]));
    assert_eq!(file, expected_file("secure"));
}

#[test]
fn openssl_speaks_to_openssl_in_every_mode_that_it_can() {
    let party = Party::new();
    let identity = party.authority.issue(&["app.example"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let server = SServer::reversing(&identity, &[version]);
        for (mode, name) in [(Mode::Passthrough, "app.example"), (Mode::ReEncryption, SITE)] {
            let frontend = Frontend::new("web").server_with("a", server.addr(), mode.settings());
            let lb = Lb::start(party.config(frontend));
            let trusted = party.authority.pem_path();
            let mut client = SClient::strict(lb.addr("web"), name, trusted, &[version, "-ign_eof"]);
            client.send("drawer");
            client.expect("reward");
            drop(client);
            lb.until_idle();
        }
    }
}

/// A server in each mode that says the mode's name to a client who always speaks TLS. So a client whose bytes the balancer
/// puts into TLS towards the server is still speaking TLS in there.
struct Farm([Backend; 4]);

impl Farm {
    fn new(party: &Party) -> Self {
        Self(Mode::ALL.map(|mode| {
            let (app, name) = (Arc::clone(&party.app), format!("{mode:?}"));
            let say = move |mut channel: Channel| {
                let _ = channel.write_all(name.as_bytes());
                let _ = channel.end();
                // Until the client has gone: a reset would take away what was not read.
                let _ = channel.read(&mut [0]);
            };
            match mode {
                Mode::Termination => Backend::run(move |stream| say(Channel::plain(stream))),
                Mode::Passthrough | Mode::ReEncryption => Backend::secure(app, say),
                Mode::Origination => Backend::secure(Arc::clone(&app), move |channel| say_within(channel, &app, mode)),
            }
        }))
    }

    fn frontend(&self) -> Frontend {
        Mode::ALL.iter().zip(&self.0).fold(Frontend::new("web"), |frontend, (mode, server)| {
            frontend.server_with(&format!("{mode:?}"), server.addr(), mode.settings())
        })
    }
}

/// Says the mode's name in TLS within TLS.
fn say_within(channel: Channel, config: &Arc<ServerConfig>, mode: Mode) {
    let mut within = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), channel);
    let _ = within.write_all(format!("{mode:?}").as_bytes());
    within.conn.send_close_notify();
    let _ = within.flush();
    let _ = within.read(&mut [0]);
}

/// Gets the page and the file of the nginx at `addr` with curl, which trusts the authority and asks for the site's name.
fn curl_gets_all(party: &Party, addr: SocketAddr, mode: Mode, name: &str) {
    let lb = Lb::start(party.config(Frontend::new("web").server_with("a", addr, mode.settings())));
    let port = lb.addr("web").port();
    let get = |path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--resolve", &format!("{SITE}:{port}:127.0.0.1"), "--cacert"]);
        succeeds(curl.arg(party.authority.pem_path()).arg(format!("https://{SITE}:{port}/{path}")))
    };
    assert_eq!(get(""), name);
    assert_eq!(get("file"), expected_file(name));
}

fn expected_file(name: &str) -> String {
    name.chars().cycle().take(Nginx::FILE_BYTES).collect()
}
