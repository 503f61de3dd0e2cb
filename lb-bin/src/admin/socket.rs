//! The server at the admin socket: a Unix socket of mode 0600, and a task for each client.
//!
//! Nothing a client does holds up another: lines and replies are bounded in size and time, and a change is waited for
//! without blocking the thread.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use glommio::net::{UnixListener, UnixStream};
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::handler::Handler;
use super::reply::{Refusal, Reply};
use super::{LINE_MAX, parse_request};

/// Most clients at once.
const CLIENTS_MAX: usize = 1024;
/// How long a client may take to send a whole line.
const LINE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a client may take to receive a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long accepting pauses after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long clients that are always ready may keep the executor from looking for others.
const PREEMPT: Duration = Duration::from_millis(5);
/// Longest path that fits into a Unix socket's address.
const PATH_MAX: usize = 107;

/// The right to the admin socket's path. It ends with the process.
///
/// It is taken before anything else is bound, so that a second `lb` at the same path disturbs nothing.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    /// Locked for as long as it is open. The file stays when the process ends: to remove it would let two processes
    /// hold locks on two files of the same name.
    _lock: File,
}

impl Claim {
    /// Claims `path`, and creates its folder if it is missing.
    ///
    /// # Errors
    /// Another program answers there, or the path can't be used; names the path.
    pub(crate) fn new(path: &Path) -> Result<Self, String> {
        let fault = |what: &str, error: io::Error| format!("admin socket {}: {what}: {error}", path.display());
        if path.as_os_str().len() > PATH_MAX {
            return Err(format!("admin socket {}: the path is longer than {PATH_MAX} bytes", path.display()));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder(path)).map_err(|error| fault("its folder", error))?;
        let lock_path = with_suffix(path, ".lock");
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(|error| fault("its lock file", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path)),
            Err(TryLockError::Error(error)) => return Err(fault("its lock file", error)),
        }
        check_stale(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The claimed path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the socket and answers with `handler`, on a thread of its own. When it returns, clients can connect.
    ///
    /// # Errors
    /// The socket can't be made, or the kernel refuses the thread's ring; names the path.
    pub(crate) fn serve(self, handler: Handler) -> Result<AdminSocket, String> {
        let (stop, stopped) = async_channel::bounded(1);
        let (report, opened) = mpsc::sync_channel(1);
        let path = self.path.clone();
        let thread = thread::Builder::new()
            .name("lb-admin".to_owned())
            .spawn(move || serve(&path, handler, &stopped, &report))
            .map_err(|error| format!("the admin socket's thread can't be started: {error}"))?;
        match opened.recv() {
            Ok(Ok(())) => Ok(AdminSocket { claim: self, stop, thread: Some(thread) }),
            Ok(Err(reason)) => Err(format!("admin socket {}: {reason}", self.path.display())),
            Err(_) => Err(format!("admin socket {}: its thread died at the start", self.path.display())),
        }
    }
}

/// The open admin socket. Dropping it closes all clients and removes the socket.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    claim: Claim,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // The claim is still held, so what is removed is this process's socket.
        if let Err(error) = fs::remove_file(&self.claim.path) {
            tracing::warn!("admin socket {}: it can't be removed: {error}", self.claim.path.display());
        }
        self.stop.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin socket's thread had died");
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn taken(path: &Path) -> String {
    format!("admin socket {}: another lb answers there; stop it, or give another --admin PATH", path.display())
}

/// Refuses a path where something other than a dead socket is. The new socket takes a dead one's place.
fn check_stale(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("admin socket {}: {error}", path.display())),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let advice = "remove it, or give another --admin PATH";
            return Err(format!("admin socket {}: something that is not a socket is there; {advice}", path.display()));
        }
        Ok(_) => {}
    }
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("admin socket {}: {error}", path.display())),
        Ok(_) => Err(taken(path)),
    }
}

/// The admin thread: an executor with a listener, until `stopped` closes.
fn serve(path: &Path, handler: Handler, stopped: &Receiver<()>, report: &mpsc::SyncSender<Result<(), String>>) {
    let executor = match executor() {
        Ok(executor) => executor,
        Err(error) => return drop(report.send(Err(error))),
    };
    executor.run(async {
        match listen(path) {
            Ok(listener) => {
                let _ = report.send(Ok(()));
                accept(&listener, &Rc::new(handler)).or(wait_for_stop(stopped)).await;
            }
            Err(error) => drop(report.send(Err(error.to_string()))),
        }
    });
}

fn executor() -> Result<LocalExecutor, String> {
    LocalExecutorBuilder::new(Placement::Unbound)
        // The smallest that is possible: nothing here uses registered buffers, which count as locked memory.
        .io_memory(64 << 10)
        .ring_depth(128)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|error| format!("io_uring: {error}: allow more locked memory (ulimit -l, LimitMEMLOCK)"))
}

/// Opens the socket so that nobody else can connect at any moment: in a folder that only this user may enter. From
/// there it moves to its place with its mode set.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // About as short as `/lb.sock`, so that this path is not too long if the other is not.
    let private = folder(path).join(format!(".{}", process::id()));
    DirBuilder::new().mode(0o700).create(&private)?;
    let inside = private.join("s");
    let listener = UnixListener::bind(&inside).map_err(io::Error::from).and_then(|listener| {
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    });
    if listener.is_err() {
        let _ = fs::remove_file(&inside);
    }
    fs::remove_dir(&private)?;
    listener
}

async fn wait_for_stop(stopped: &Receiver<()>) {
    // Nothing is ever sent: it ends when the other end is closed.
    let _ = stopped.recv().await;
}

async fn accept(listener: &UnixListener, handler: &Rc<Handler>) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            // Each client's task holds the handler, and so does this one.
            Ok(stream) if Rc::strong_count(handler) > CLIENTS_MAX => turn_away(stream).await,
            Ok(stream) => {
                failing = false;
                glommio::spawn_local(serve_client(stream, Rc::clone(handler))).detach();
            }
            Err(error) => {
                if !failing {
                    tracing::warn!("admin socket: accepting pauses: {error}");
                }
                failing = true;
                Timer::new(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn turn_away(mut stream: UnixStream) {
    let refusal = Refusal::other(format!("too many admin clients: {CLIENTS_MAX} are connected"));
    // The reply fits into the new socket's empty buffer.
    let _ = send(&mut stream, &refusal.into(), Duration::from_millis(10)).await;
}

async fn serve_client(mut stream: UnixStream, handler: Rc<Handler>) {
    let mut lines = Lines::default();
    loop {
        let reply = match lines.next(&mut stream, LINE_TIMEOUT).await {
            Line::End => return,
            Line::TooLong => {
                let refusal = Refusal::field("line", format!("line: it is longer than {LINE_MAX} bytes"));
                let _ = send(&mut stream, &refusal.into(), REPLY_TIMEOUT).await;
                return;
            }
            Line::Whole(line) if line.trim_ascii().is_empty() => continue,
            Line::Whole(line) => match parse_request(&line) {
                Ok(request) => handler.answer(request).await,
                Err(refusal) => refusal.into(),
            },
        };
        if send(&mut stream, &reply, REPLY_TIMEOUT).await.is_err() {
            return;
        }
        // A client with thousands of requests in one piece takes turns with the others.
        futures_lite::future::yield_now().await;
    }
}

async fn send(stream: &mut UnixStream, reply: &Reply, limit: Duration) -> io::Result<()> {
    let line = reply.to_line();
    let timeout = async {
        Timer::new(limit).await;
        Err(ErrorKind::TimedOut.into())
    };
    stream.write_all(line.as_bytes()).or(timeout).await
}

/// What a client sent next.
enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// More than [`LINE_MAX`] bytes and still no end.
    TooLong,
    /// The client has closed, failed or taken too long. Half a line is no line.
    End,
}

/// Cuts a client's bytes into lines. An idle client holds no buffer.
#[derive(Default)]
struct Lines {
    /// What was received and is not yet cut off.
    buffer: Vec<u8>,
}

impl Lines {
    async fn next(&mut self, stream: &mut UnixStream, limit: Duration) -> Line {
        let timeout = async {
            Timer::new(limit).await;
            Line::End
        };
        self.receive(stream).or(timeout).await
    }

    async fn receive(&mut self, stream: &mut UnixStream) -> Line {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                return self.cut(searched + end);
            }
            searched = self.buffer.len();
            if searched > LINE_MAX {
                return Line::TooLong;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return Line::End,
                Ok(received) => self.buffer.extend_from_slice(&piece[..received]),
            }
        }
    }

    /// Takes the line that ends at `end` off the buffer.
    fn cut(&mut self, end: usize) -> Line {
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.truncate(end);
        if end > LINE_MAX { Line::TooLong } else { Line::Whole(line) }
    }
}
