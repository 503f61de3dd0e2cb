//! The same relay on glommio's streams, one executor. It is the rival that shows what a ring of our own is worth beside the
//! runtime that lb's control plane uses; it balances round robin and is otherwise no product.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use benches::Result;
use benches::relay_args::RelayArgs;
use clap::Parser;
use futures_lite::future;
use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, spawn_local};

/// Bytes of an executor for buffers of files, of which there are none here; glommio's default is 10 MiB.
const FILE_MEMORY: usize = 64 << 10;
/// Bytes received at one go.
const BUFFER: usize = 16 << 10;

fn main() -> Result<()> {
    let args = RelayArgs::parse();
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(FILE_MEMORY).make()?;
    executor.run(serve(args))
}

async fn serve(args: RelayArgs) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", args.port))?;
    for server in args.servers.iter().cycle() {
        let client = listener.accept().await?;
        let server = *server;
        spawn_local(async move {
            // A connection that breaks ends with its sockets; nobody else minds.
            let _ = relay(client, server).await;
        })
        .detach();
    }
    Ok(())
}

async fn relay(client: TcpStream, server: SocketAddr) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    future::try_zip(copy(from_client, to_server), copy(from_server, to_client)).await?;
    Ok(())
}

/// Relays one direction to its end, which it passes on.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.close().await;
        }
        to.write_all(&buffer[..bytes]).await?;
    }
}
