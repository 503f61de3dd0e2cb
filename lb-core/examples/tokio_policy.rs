//! A balancer inside a tokio program, with a policy of its own: most clients go to the first server, every tenth to the
//! others in turn.
//!
//! `cargo run -p lb-core --example tokio_policy`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lb_core::balance::{Candidate, Choice, Policy};
use lb_core::config::{Bind, Config, Frontend, Name, PolicyKind, Server};
use lb_core::{Balancer, Drain};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Nine of ten connections to the first server, the tenth to the next of the others.
struct Canary {
    servers: usize,
    turn: AtomicUsize,
}

impl Canary {
    fn new(servers: Arc<[Candidate]>) -> Self {
        Self { servers: servers.len(), turn: AtomicUsize::new(0) }
    }
}

impl Policy for Canary {
    fn choose(&self, _: &Choice) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.servers {
            0 => None,
            1 => Some(0),
            _ if turn % 10 == 9 => Some(1 + turn / 10 % (self.servers - 1)),
            _ => Some(0),
        }
    }

    fn needs_client(&self) -> bool {
        false
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse()?))?
        .with_policy(PolicyKind::Custom(Name::new("canary")?))
        .with_server(Server::new("stable", backend("stable").await?)?);
    let balancer =
        Balancer::builder().policy("canary", Canary::new)?.config(Config::default().frontend(frontend)).start()?;
    let control = balancer.control();

    // The same calls that block in a plain program are futures here.
    let applied = control.add_server("web", Server::new("canary", backend("canary").await?)?).await?;
    println!("revision {}: {}", applied.revision, applied.summary[0]);

    let addr = control.status().await?.frontends[0].addr;
    let mut answers = BTreeMap::new();
    for _ in 0..100 {
        let mut answer = String::new();
        TcpStream::connect(addr).await?.read_to_string(&mut answer).await?;
        *answers.entry(answer).or_insert(0) += 1;
    }
    println!("answers: {answers:?}");
    tokio::task::spawn_blocking(move || balancer.shutdown(Drain::now())).await??;
    Ok(())
}

/// A server that answers every connection with its name.
async fn backend(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(name.as_bytes()).await;
        }
    });
    Ok(addr)
}
