//! `lb demo`: something to try at once, without a configuration or other programs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use lb_core::Balancer;
use lb_core::config::{Bind, Config, Frontend, Server};

use crate::admin::Claim;
use crate::cli::DemoArgs;
use crate::run::Service;
use crate::settings::Settings;
use crate::{doctor, log, paths};

/// Longest request head that the demo's servers read.
const HEAD_MAX: u64 = 16 << 10;

/// Runs a balancer with two web servers behind it, and a third that waits to be added.
///
/// # Errors
/// It could not start, or one of its threads died: one sentence.
pub fn demo(args: &DemoArgs, admin: Option<&Path>) -> Result<(), String> {
    let _log = log::start(&Settings::default().log)?;
    let socket = paths::admin_socket(admin)?;
    let claim = Claim::new(&socket, &[])?;
    let [app1, app2, app3] = ["app1", "app2", "app3"].map(start_server);
    let (app1, app2, app3) = (app1?, app2?, app3?);
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let frontend = frontend(bind, app1, app2).map_err(|invalid| invalid.to_string())?;
    let config = Config::default().frontend(frontend);
    let grace = config.shutdown_grace.as_duration();
    let wanted = doctor::wanted_addresses(&config, &Settings::default());
    let builder = Balancer::builder().config(config);
    let admin_option = admin.map_or_else(String::new, |path| format!(" --admin {}", path.display()));
    let invite = move |addr: SocketAddr| invitation(addr, app3, &admin_option);
    let service = Service {
        builder,
        wanted,
        own_config: None,
        settings: Settings::default(),
        console: None,
        predecessor: None,
        grace,
    };
    service.run(claim, None, |status| {
        let addr = status.frontends.first().map_or(bind, |frontend| frontend.addr);
        // Nobody may be reading, which is no reason to stop.
        let _ = io::stdout().write_all(invite(addr).as_bytes());
    })
}

fn frontend(bind: SocketAddr, app1: SocketAddr, app2: SocketAddr) -> Result<Frontend, lb_core::config::Invalid> {
    let frontend = Frontend::new("web", Bind::Addr(bind))?;
    Ok(frontend.with_server(Server::new("app1", app1)?).with_server(Server::new("app2", app2)?))
}

fn invitation(web: SocketAddr, app3: SocketAddr, admin: &str) -> String {
    format!(
        "\nTwo web servers, app1 and app2, are behind {web}. Try, in another terminal:\n\
         \n    curl http://{web}    # again and again: they take turns\n\
         \x20   lb server add web app3 {} {}{admin}    # a third, while it runs\n\
         \x20   lb server drain web app1{admin}\n\
         \x20   lb status{admin}\n\
         \nCtrl-C ends it.\n",
        app3.ip(),
        app3.port(),
    )
}

/// Starts a web server that greets with its name, and gives its address.
fn start_server(name: &'static str) -> Result<SocketAddr, String> {
    let fault = |error: io::Error| format!("the demo's server {name}: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fault)?;
    let addr = listener.local_addr().map_err(fault)?;
    let serve = move || {
        loop {
            match listener.accept() {
                // A client that went away is its own affair.
                Ok((stream, _)) => drop(thread::spawn(move || greet(stream, name))),
                Err(error) => {
                    tracing::warn!("the demo's server {name}: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(fault)?;
    Ok(addr)
}

/// Answers one request.
fn greet(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = BufReader::new((&stream).take(HEAD_MAX));
    let mut line = String::new();
    while head.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let body = format!("hello from {name}\n");
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(reply.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_greets_with_its_name() {
        let addr = start_server("app1").unwrap();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
            assert!(reply.ends_with("Content-Length: 16\r\nConnection: close\r\n\r\nhello from app1\n"), "{reply}");
        }
    }

    #[test]
    fn the_invitation_has_the_exact_command() {
        let text = invitation("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:9003".parse().unwrap(), " --admin x");
        assert!(text.contains("curl http://127.0.0.1:8080 "));
        assert!(text.contains("lb server add web app3 127.0.0.1 9003 --admin x "));
    }
}
