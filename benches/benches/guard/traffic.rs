//! One connection after the other, with one message at a time, plain or by TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use benches::Result;
use benches::net::Session;
use benches::net::epoll::Received;
use benches::tls::Sessions;
use rustix::net::{Shutdown, shutdown};

const MESSAGE: [u8; 64] = [b'm'; 64];

/// A way through a balancer, and how much goes it.
pub(crate) struct Way {
    pub(crate) frontend: SocketAddr,
    /// None: plain.
    pub(crate) sessions: Option<Sessions>,
    /// Counted, after so many that are not.
    pub(crate) connections: u64,
    pub(crate) warm_up: u64,
    pub(crate) round_trips: u64,
}

impl Way {
    /// What a counter counts per message and per connection.
    pub(crate) fn per_unit(&self, count: impl Fn() -> u64) -> Result<(f64, f64)> {
        self.warm_up(self.warm_up)?;
        let of_messages = self.talk(self.round_trips, &count)?;
        let before = count();
        for _ in 0..self.connections {
            self.talk(0, &count)?;
        }
        let of_connections = count() - before;
        // Each round trip is two relayed messages.
        Ok((of_messages as f64 / (2 * self.round_trips) as f64, of_connections as f64 / self.connections as f64))
    }

    pub(crate) fn warm_up(&self, connections: u64) -> Result<()> {
        (0..connections).try_for_each(|_| self.talk(1, || 0).map(drop))
    }

    /// Opens a connection, exchanges a message, then so many more, and closes it from both ends. What was counted while those
    /// more went.
    fn talk(&self, round_trips: u64, count: impl Fn() -> u64) -> Result<u64> {
        let socket = TcpStream::connect(self.frontend)?;
        socket.set_nodelay(true)?;
        let session = self.sessions.as_ref().map(Sessions::of_client).transpose()?;
        let mut client = Client { socket: socket.into(), session };
        client.shake_hands()?;
        client.ask()?;
        let before = count();
        (0..round_trips).try_for_each(|_| client.ask())?;
        let counted = count() - before;
        client.end()?;
        Ok(counted)
    }

    /// What the clients' own part is in [`Way::per_unit`], where a counter counts it too: nothing if they are plain. The other
    /// end is in this thread, so that nothing else is counted.
    pub(crate) fn own_per_unit(&self, count: impl Fn() -> u64) -> Result<(f64, f64)> {
        let Some(sessions) = &self.sessions else { return Ok((0.0, 0.0)) };
        let (client, server) = UnixStream::pair()?;
        let server = OwnedFd::from(server);
        let mut peer = sessions.of_server()?.ok_or("its sessions are not for servers")?;
        let mut own = 0;
        let before = count();
        let mut client = Client { socket: client.into(), session: Some(sessions.of_client()?) };
        client.flush()?;
        own += count() - before;
        peer.shake_hands(&server)?;
        let before = count();
        client.shake_hands_once()?;
        own += count() - before;
        peer.shake_hands(&server)?;
        let mut ask = || -> Result<u64> {
            let before = count();
            client.send()?;
            let sent = count() - before;
            let mut message = MESSAGE;
            peer.receive(&server, &mut message)?;
            peer.send(&server, &message)?;
            let before = count();
            client.receive()?;
            Ok(sent + count() - before)
        };
        own += ask()?;
        let of_messages = (0..self.round_trips).map(|_| ask()).sum::<Result<u64>>()?;
        let before = count();
        client.session.as_mut().map(|session| session.finish_sending(&client.socket)).transpose()?;
        own += count() - before;
        Ok((of_messages as f64 / (2 * self.round_trips) as f64, own as f64))
    }
}

/// A connection to the balancer. Its socket waits.
struct Client {
    socket: OwnedFd,
    session: Option<Session>,
}

impl Client {
    fn flush(&mut self) -> Result<()> {
        self.session.as_mut().map(|session| session.flush(&self.socket)).transpose().map(drop)
    }

    fn shake_hands_once(&mut self) -> Result<bool> {
        self.session.as_mut().map_or(Ok(true), |session| session.shake_hands(&self.socket))
    }

    fn shake_hands(&mut self) -> Result<()> {
        self.flush()?;
        while !self.shake_hands_once()? {}
        Ok(())
    }

    fn ask(&mut self) -> Result<()> {
        self.send()?;
        self.receive()
    }

    fn send(&mut self) -> Result<()> {
        let sent = match &mut self.session {
            Some(session) => session.send(&self.socket, &MESSAGE)?,
            None => rustix::io::write(&self.socket, &MESSAGE)?,
        };
        if sent == MESSAGE.len() { Ok(()) } else { Err("a message was sent in part".into()) }
    }

    fn receive(&mut self) -> Result<()> {
        let mut answer = [0; 2 * MESSAGE.len()];
        let mut received = 0;
        while received < MESSAGE.len() {
            match self.receive_some(&mut answer)? {
                0 => return Err("the balancer closed a connection before the answer".into()),
                bytes => received += bytes,
            }
        }
        if received == MESSAGE.len() { Ok(()) } else { Err("a byte too many came back".into()) }
    }

    /// 0 at the end.
    fn receive_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(session) = &mut self.session else { return Ok(rustix::io::read(&self.socket, buffer)?) };
        match session.receive(&self.socket, buffer)? {
            Received::Bytes(bytes) => Ok(bytes),
            Received::Nothing | Received::End => Ok(0),
        }
    }

    /// Ends both sides. The end comes back through the balancer when the server has closed too.
    fn end(&mut self) -> Result<()> {
        if let Some(session) = &mut self.session {
            session.finish_sending(&self.socket)?;
        }
        shutdown(&self.socket, Shutdown::Write)?;
        match self.receive_some(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err("a byte too many came back".into()),
        }
    }
}

/// A server that answers with what it receives, one connection after the other, as long as this process runs.
pub(crate) fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.set_nodelay(true);
            while let Ok(bytes @ 1..) = socket.read(&mut buffer) {
                if socket.write_all(&buffer[..bytes]).is_err() {
                    break;
                }
            }
        }
    });
    Ok(addr)
}
