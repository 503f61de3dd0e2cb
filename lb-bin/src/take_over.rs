//! Taking over from a running balancer: the successor's side, whose other one is `admin::hand_over`; and starting a
//! successor.

use std::env;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use lb_core::Listener;

use crate::admin::{HandedOver, Reply, descriptors};

/// How long the predecessor may take to answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The argument that makes a process a successor.
const TAKE_OVER: &str = "--take-over";

/// The balancer whose place is to be taken. If this is dropped early, it goes on.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    /// Received and not yet used.
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What a predecessor gives.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Lock files, locked.
    pub(crate) locks: Vec<File>,
    pub(crate) listeners: Vec<Listener>,
}

impl Predecessor {
    /// The balancer that answers at the admin socket `path`, if there is one.
    ///
    /// # Errors
    /// The path can't be used.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, String> {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
            stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Some(Self { stream, bytes: Vec::new(), descriptors: Vec::new() })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(format!("admin socket {}: {error}", path.display())),
        }
    }

    /// Asks for everything. From here on the predecessor refuses changes.
    ///
    /// # Errors
    /// It refuses, or does not know how: one sentence.
    pub(crate) fn ask(&mut self) -> Result<Given, String> {
        let fault = |error: io::Error| format!("the running balancer does not hand over: {error}");
        // Before its descriptors come.
        lb_core::raise_descriptors();
        self.stream.write_all(b"TakeOver()\n").map_err(fault)?;
        let (locks, listeners) = match self.reply().map_err(fault)? {
            Reply::HandOver { locks, listeners } => (locks, listeners),
            Reply::Refused { reason, .. } => return Err(format!("the running balancer does not hand over: {reason}")),
            other => return Err(format!("the running balancer does not hand over: it answers {}", other.to_line())),
        };
        let expected = locks + listeners.iter().map(|listener| listener.sockets).sum::<usize>();
        while self.descriptors.len() < expected {
            self.receive().map_err(fault)?;
        }
        let mut descriptors = self.descriptors.drain(..);
        Ok(Given {
            locks: descriptors.by_ref().take(locks).map(File::from).collect(),
            listeners: listeners.into_iter().map(|listener| with_sockets(listener, &mut descriptors)).collect(),
        })
    }

    /// Says that this process accepts. When this returns, the predecessor does not any more.
    ///
    /// # Errors
    /// The predecessor goes on, because this took too long.
    pub(crate) fn relieve(&mut self) -> Result<(), String> {
        let told = self.stream.write_all(b"TakenOver()\n");
        match told.and_then(|()| self.reply()) {
            Ok(Reply::Refused { reason, .. }) => Err(format!("the running balancer goes on: {reason}")),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!("the predecessor is gone: {error}");
                Ok(())
            }
        }
    }

    fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if !line.trim().is_empty() {
                    return Reply::from_line(line.trim()).map_err(io::Error::other);
                }
            } else {
                self.receive()?;
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match descriptors::receive(&self.stream, &mut buffer, &mut self.descriptors)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "it closed the connection")),
            count => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

fn with_sockets(listener: HandedOver, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Listener {
    Listener {
        frontend: listener.frontend,
        bind: listener.bind,
        is_inherited: listener.inherited,
        sockets: descriptors.take(listener.sockets).collect(),
    }
}

/// Starts a successor of this process: the program that is now at the path by which this one was started, with the same
/// arguments. Returns at once; what becomes of it is in the log.
pub(crate) fn start_successor() {
    match spawn() {
        Ok(successor) => {
            tracing::info!("SIGUSR2: a successor is started, process {}", successor.id());
            thread::spawn(move || await_end(successor));
        }
        Err(error) => tracing::error!("SIGUSR2: no successor can be started: {error}"),
    }
}

fn spawn() -> io::Result<Child> {
    let mut arguments = env::args_os();
    let program = arguments.next().ok_or_else(|| io::Error::other("this program does not know its name"))?;
    let mut arguments: Vec<_> = arguments.collect();
    if !arguments.iter().any(|argument| argument == TAKE_OVER) {
        arguments.push(TAKE_OVER.into());
    }
    Command::new(program).args(arguments).spawn()
}

/// A successor outlives this process, unless it fails.
fn await_end(mut successor: Child) {
    match successor.wait() {
        Ok(status) if status.success() => tracing::info!("the successor has ended"),
        Ok(status) => tracing::error!("the successor has ended: {status}"),
        Err(error) => tracing::error!("the successor can't be waited for: {error}"),
    }
}
