//! A balancer inside a plain program: no runtime, three threads for backends, and a change while it runs.
//!
//! `cargo run -p lb-core --example embed`

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lb_core::config::{Bind, Config, Frontend, Server};
use lb_core::{Balancer, Drain};

fn main() -> Result<(), Box<dyn Error>> {
    let frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse()?))?
        .with_server(Server::new("one", backend("one")?)?)
        .with_server(Server::new("two", backend("two")?)?);
    let balancer = Balancer::builder().config(Config::default().frontend(frontend)).start()?;
    let control = balancer.control();
    let addr = control.status().wait()?.frontends[0].addr;
    println!("balancing on {addr}: {}, {}, {}", ask(addr)?, ask(addr)?, ask(addr)?);

    let applied = control.add_server("web", Server::new("three", backend("three")?)?).wait()?;
    println!("revision {}: {} (used by {} shards)", applied.revision, applied.summary[0], applied.shards);
    println!("balancing on {addr}: {}, {}, {}", ask(addr)?, ask(addr)?, ask(addr)?);

    balancer.shutdown(Drain::within(Duration::from_secs(5)))?;
    Ok(())
}

/// A server that answers every connection with its name.
fn backend(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(name.as_bytes());
        }
    });
    Ok(addr)
}

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut answer = String::new();
    TcpStream::connect(addr)?.read_to_string(&mut answer)?;
    Ok(answer)
}
