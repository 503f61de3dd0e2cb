//! The server at the admin socket: a Unix socket of mode 0600, and a task for each client.
//!
//! Nothing a client does holds up another: lines and replies are bounded in size and time, and a change is waited for
//! without blocking the thread.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener as BlockingListener, UnixStream as BlockingStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::net::sockopt::socket_peercred;
use rustix::process::getpid;

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::{LINE_MAX, parse_request};
use crate::lock::{self, Lock};
use crate::paths::with_suffix;
use crate::unix_socket::{self, Found, Hidden, PATH_MAX, folder};

/// Most clients at once.
const CLIENTS_MAX: usize = 1024;
/// How long a client may take to send a whole line.
const LINE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a client may take to receive a reply.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long accepting pauses after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long clients may take to receive their last replies when the server stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client of a balancer that was taken over may take for its first request: it has connected a moment before
/// the successor's socket was in place.
const LATE_CLIENT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a killed process's listener may answer.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(1);

type UnixListener = Async<BlockingListener>;
pub(crate) type UnixStream = Async<BlockingStream>;

/// What answers requests.
pub(crate) trait Answer: Send + 'static {
    /// Fulfils a request. Takes as long as the request takes.
    fn answer(&self, request: Request) -> impl Future<Output = Reply>;

    /// Hands everything over to the client, which is a successor.
    fn hand_over(&self, stream: UnixStream, lines: Lines) -> impl Future<Output = ()>;
}

/// The right to the admin socket's path. It ends with the process, or goes on in a successor.
///
/// It is taken before anything else is bound, so that a second `lb` at the same path disturbs nothing.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    lock: Lock,
}

impl Claim {
    /// Claims `path`, and creates its folder if it is missing. A predecessor may have `given` the right to it.
    ///
    /// # Errors
    /// Another program answers there, or the path can't be used; names the path.
    pub(crate) fn new(path: &Path, given: &[File]) -> Result<Self, String> {
        let fault = |what: &str, error: io::Error| format!("admin socket {}: {what}: {error}", path.display());
        check_place(path)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder(path))
            .map_err(|error| fault("its folder", error))?;
        let lock_path = with_suffix(path, ".lock");
        let lock = lock::open(&lock_path).map_err(|error| fault("its lock file", error))?;
        let lock = match Lock::take(lock, given) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => return Err(taken(path)),
            Err(TryLockError::Error(error)) => return Err(fault("its lock file", error)),
        };
        // The predecessor's socket is not stale, and is replaced when this process has taken its place.
        if given.is_empty() {
            check_stale(path)?;
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The claimed path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What no other process may hold.
    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Opens the socket and answers with `handler`, on a thread of its own. Clients can connect when it has been
    /// [put in place](AdminSocket::put_in_place).
    ///
    /// # Errors
    /// The socket can't be made; names the path.
    pub(crate) fn serve(self, handler: impl Answer) -> Result<AdminSocket, String> {
        let (stop, stopped) = async_channel::bounded(1);
        let (report, opened) = mpsc::sync_channel(1);
        let (path, lock) = (self.path.clone(), self.lock.clone());
        let thread = thread::Builder::new()
            .name("lb-admin".to_owned())
            .spawn(move || {
                let successors = Cell::new(0);
                serve(Server { handler, stopped, path, lock, successors }, &report);
            })
            .map_err(|error| format!("the admin socket's thread can't be started: {error}"))?;
        match opened.recv() {
            Ok(Ok(hidden)) => Ok(AdminSocket { claim: self, hidden: Some(hidden), stop, thread: Some(thread) }),
            Ok(Err(error)) => Err(format!("admin socket {}: {error}", self.path.display())),
            Err(_) => Err(format!("admin socket {}: its thread died at the start", self.path.display())),
        }
    }
}

/// The open admin socket. Dropping it closes all clients and removes the socket.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    claim: Claim,
    /// Where it is before it is in its place.
    hidden: Option<Hidden>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl AdminSocket {
    /// Moves the socket to its path, in one step: where there is a predecessor's, clients find the one or the other.
    ///
    /// # Errors
    /// The path can't be used; names it.
    pub(crate) fn put_in_place(&mut self) -> Result<(), String> {
        let Some(hidden) = self.hidden.take() else { return Ok(()) };
        let path = &self.claim.path;
        hidden.put_at(path).map_err(|error| format!("admin socket {}: {error}", path.display()))
    }

    fn remove(&mut self) -> io::Result<()> {
        match self.hidden.take() {
            Some(hidden) => drop(hidden),
            // The claim is still held, so what is removed is this process's socket.
            None if self.claim.lock.is_held() => fs::remove_file(&self.claim.path)?,
            None => {}
        }
        Ok(())
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("admin socket {}: it can't be removed: {error}", self.claim.path.display());
        }
        self.stop.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin socket's thread had died");
        }
    }
}

fn taken(path: &Path) -> String {
    format!("admin socket {}: another lb answers there; stop it, or give another --admin PATH", path.display())
}

fn not_a_socket(path: &Path) -> String {
    let advice = "remove it, or give another --admin PATH";
    format!("admin socket {}: something that is not a socket is there; {advice}", path.display())
}

/// Whether a socket could be made at `path`, without making anything.
///
/// # Errors
/// It could not: names the path.
pub(crate) fn check_place(path: &Path) -> Result<(), String> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(format!("admin socket {}: the path is longer than {PATH_MAX} bytes", path.display()));
    }
    if matches!(unix_socket::look(path), Ok(Found::Other)) {
        return Err(not_a_socket(path));
    }
    // Folders that are missing are made in the nearest one that is there.
    let parent = folder(path).ancestors().find(|parent| parent.exists()).unwrap_or(Path::new("."));
    accessat(CWD, parent, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| {
        let (path, parent, error) = (path.display(), parent.display(), io::Error::from(error));
        format!("admin socket {path}: nothing can be made in {parent} ({error}); give another --admin PATH")
    })
}

/// Refuses a path where something other than a dead socket is. The new socket takes a dead one's place.
fn check_stale(path: &Path) -> Result<(), String> {
    // The lock is held, so an lb that still answers was killed: the kernel takes its io_uring, and with it the
    // listener, down a moment after the process has ended.
    let deadline = Instant::now() + TEARDOWN_TIMEOUT;
    loop {
        match unix_socket::look(path) {
            Ok(Found::Free) => return Ok(()),
            Ok(Found::Answered) if Instant::now() > deadline => return Err(taken(path)),
            Ok(Found::Answered) => thread::sleep(Duration::from_millis(5)),
            Ok(Found::Other) => return Err(not_a_socket(path)),
            Err(error) => return Err(format!("admin socket {}: {error}", path.display())),
        }
    }
}

/// What the tasks of the admin thread share.
struct Server<A> {
    handler: A,
    /// Closed when the server is to stop; nothing is ever sent.
    stopped: Receiver<()>,
    /// Where a successor's socket will be.
    path: PathBuf,
    /// Given up when a successor has taken over.
    lock: Lock,
    /// How many successors are talked to.
    successors: Cell<usize>,
}

/// The admin thread: an executor with a listener, until it is told to stop.
fn serve(server: Server<impl Answer>, report: &mpsc::SyncSender<io::Result<Hidden>>) {
    let opened = Hidden::listen(&server.path, 0o600).and_then(|(hidden, socket)| Ok((hidden, Async::new(socket)?)));
    let listener = match opened {
        Ok((hidden, listener)) => {
            let _ = report.send(Ok(hidden));
            listener
        }
        Err(error) => return drop(report.send(Err(error))),
    };
    let (executor, server) = (LocalExecutor::new(), Rc::new(server));
    async_io::block_on(executor.run(async {
        accept(&listener, &executor, &server).or(server.stop()).await;
        accept_late(&listener, &executor, &server).await;
        finish(&server).await;
    }));
}

impl<A: Answer> Server<A> {
    async fn hand_over(&self, stream: UnixStream, lines: Lines) {
        self.successors.set(self.successors.get() + 1);
        self.handler.hand_over(stream, lines).await;
        self.successors.set(self.successors.get() - 1);
    }

    /// Lets the successor answer a client that has not noticed it yet, from this request on.
    async fn pass_on(&self, client: UnixStream, request: &[u8], lines: Lines) {
        // Until it has put its socket in place.
        while self.successors.get() > 0 {
            Timer::after(Duration::from_millis(1)).await;
        }
        let passing = async {
            let successor = UnixStream::connect(&self.path).await?;
            if socket_peercred(&successor)?.pid == getpid() {
                return Err(io::Error::other("the successor has no admin socket"));
            }
            (&successor).write_all(&[request, b"\n", &lines.buffer].concat()).await?;
            let there = async {
                let copied = futures_lite::io::copy(&client, &mut &successor).await;
                let _ = successor.get_ref().shutdown(Shutdown::Write);
                copied
            };
            let back = async {
                let copied = futures_lite::io::copy(&successor, &mut &client).await;
                let _ = client.get_ref().shutdown(Shutdown::Both);
                copied
            };
            futures_lite::future::try_zip(there, back).await
        };
        if let Err(error) = passing.await {
            tracing::debug!("an admin client could not be passed on to the successor: {error}");
        }
    }
}

impl<A> Server<A> {
    /// Ends when the server is to stop.
    async fn stop(&self) {
        let _ = self.stopped.recv().await;
    }
}

/// Answers clients until the successor's socket is in place, and those that have connected by then.
async fn accept_late<A: Answer>(listener: &UnixListener, executor: &LocalExecutor<'_>, server: &Rc<Server<A>>) {
    let handed_over = async {
        // Before it has given up the lock this process owes a successor nothing; after that the talk is bounded.
        while server.successors.get() > 0 && !server.lock.is_held() {
            Timer::after(Duration::from_millis(1)).await;
        }
    };
    accept(listener, executor, server).or(handed_over).await;
    while let Some(Ok((stream, _))) = futures_lite::future::poll_once(listener.accept()).await {
        executor.spawn(serve_client(stream, Rc::clone(server))).detach();
    }
}

/// Waits until every client's task has ended, as each does when it has answered its last request.
async fn finish<A>(server: &Rc<Server<A>>) {
    let deadline = Instant::now() + FINISH_TIMEOUT;
    while Rc::strong_count(server) > 1 && Instant::now() < deadline {
        Timer::after(Duration::from_millis(1)).await;
    }
}

async fn accept<A: Answer>(listener: &UnixListener, executor: &LocalExecutor<'_>, server: &Rc<Server<A>>) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            // Each client's task holds the server, and so does this one.
            Ok((stream, _)) if Rc::strong_count(server) > CLIENTS_MAX => turn_away(stream).await,
            Ok((stream, _)) => {
                failing = false;
                executor.spawn(serve_client(stream, Rc::clone(server))).detach();
            }
            Err(error) => {
                if !failing {
                    tracing::warn!("admin socket: accepting pauses: {error}");
                }
                failing = true;
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn turn_away(mut stream: UnixStream) {
    let refusal = Refusal::other(format!("too many admin clients: {CLIENTS_MAX} are connected"));
    // The reply fits into the new socket's empty buffer.
    let _ = send(&mut stream, &refusal.into(), Duration::from_millis(10)).await;
}

async fn serve_client(mut stream: UnixStream, server: Rc<Server<impl Answer>>) {
    let mut lines = Lines::default();
    let stop = async |is_first: bool| {
        server.stop().await;
        if is_first && !server.lock.is_held() {
            Timer::after(LATE_CLIENT_TIMEOUT).await;
        }
        Line::End
    };
    let mut is_first = true;
    loop {
        let reply = match lines.next(&mut stream, LINE_TIMEOUT).or(stop(is_first)).await {
            Line::End => return,
            Line::TooLong => {
                let refusal = Refusal::field("line", format!("line: it is longer than {LINE_MAX} bytes"));
                let _ = send(&mut stream, &refusal.into(), REPLY_TIMEOUT).await;
                return;
            }
            Line::Whole(line) if line.trim_ascii().is_empty() => continue,
            Line::Whole(line) => match parse_request(&line) {
                Ok(Request::TakeOver {}) => return server.hand_over(stream, lines).await,
                Ok(_) if !server.lock.is_held() => return server.pass_on(stream, &line, lines).await,
                Ok(request) => server.handler.answer(request).await,
                Err(refusal) => refusal.into(),
            },
        };
        if send(&mut stream, &reply, REPLY_TIMEOUT).await.is_err() {
            return;
        }
        is_first = false;
        // A client with thousands of requests in one piece takes turns with the others.
        futures_lite::future::yield_now().await;
    }
}

pub(super) async fn send(stream: &mut UnixStream, reply: &Reply, limit: Duration) -> io::Result<()> {
    let line = reply.to_line();
    let timeout = async {
        Timer::after(limit).await;
        Err(ErrorKind::TimedOut.into())
    };
    stream.write_all(line.as_bytes()).or(timeout).await
}

/// What a client sent next.
pub(super) enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// More than [`LINE_MAX`] bytes and still no end.
    TooLong,
    /// The client has closed, failed or taken too long. Half a line is no line.
    End,
}

/// Cuts a client's bytes into lines. An idle client holds no buffer.
#[derive(Default)]
pub(crate) struct Lines {
    /// What was received and is not yet cut off.
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) async fn next(&mut self, stream: &mut UnixStream, limit: Duration) -> Line {
        let timeout = async {
            Timer::after(limit).await;
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Answers `Version` at once and everything else never.
    struct OnlyVersion;

    impl Answer for OnlyVersion {
        async fn answer(&self, request: Request) -> Reply {
            match request {
                Request::Version {} => Reply::version(),
                _ => std::future::pending().await,
            }
        }

        async fn hand_over(&self, _: UnixStream, _: Lines) {}
    }

    fn serve_at(path: &Path) -> AdminSocket {
        let mut socket = Claim::new(path, &[]).unwrap().serve(OnlyVersion).unwrap();
        socket.put_in_place().unwrap();
        socket
    }

    const VERSION: &str = concat!("Version(version:\"", env!("CARGO_PKG_VERSION"), "\",protocol:1)\n");

    /// A running server, the path of its socket, and the folder that goes with it.
    fn server() -> (AdminSocket, PathBuf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb/admin.sock");
        (serve_at(&path), path, folder)
    }

    fn connect(path: &Path) -> BlockingStream {
        let stream = BlockingStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn line(stream: &BlockingStream) -> String {
        try_line(stream).unwrap()
    }

    fn try_line(stream: &BlockingStream) -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    }

    fn ask(path: &Path, request: &[u8]) -> String {
        try_ask(path, request).unwrap()
    }

    fn try_ask(path: &Path, request: &[u8]) -> io::Result<String> {
        let mut stream = connect(path);
        stream.write_all(request)?;
        try_line(&stream)
    }

    #[test]
    fn the_socket_is_private_and_gone_at_the_end() {
        let (socket, path, _folder) = server();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let idle = connect(&path);
        drop(socket);
        assert!(!path.exists());
        assert_eq!((&idle).read(&mut [0]).unwrap(), 0, "an idle client is closed");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["admin.sock.lock"]);
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let (socket, path, folder) = server();
        let expected = format!("admin socket {}: another lb answers there", path.display());
        let refused = Claim::new(&path, &[]).unwrap_err();
        assert!(refused.starts_with(&expected), "{refused}");
        assert_eq!(ask(&path, b"Version\n"), VERSION);
        drop(socket);

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _second = serve_at(&path);
        assert_eq!(ask(&path, b"Version\n"), VERSION);

        let foreign = folder.path().join("foreign.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&foreign).unwrap();
        assert!(Claim::new(&foreign, &[]).unwrap_err().contains("another lb answers there"));
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(Claim::new(&path, &[]).unwrap_err().contains("not a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        let long = folder.path().join("x".repeat(108));
        assert!(Claim::new(&long, &[]).unwrap_err().contains("longer than 107 bytes"));
    }

    #[test]
    fn requests_are_answered_in_order_and_empty_lines_ignored() {
        let (_socket, path, _folder) = server();
        let mut stream = connect(&path);
        stream.write_all(b"\n  \r\nVersion\nNonsense()\r\nVer").unwrap();
        stream.write_all(b"sion()\n").unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), VERSION.trim_end());
        let refused = lines.next().unwrap();
        assert!(refused.starts_with("Refused(reason:\"unknown request \\\"Nonsense\\\""), "{refused}");
        assert_eq!(lines.next().unwrap(), VERSION.trim_end());
    }

    #[test]
    fn bad_text_is_refused_and_half_a_line_is_no_request() {
        let (_socket, path, _folder) = server();
        assert_eq!(
            ask(&path, b"Vers\xffion\n"),
            "Refused(reason:\"the request is not UTF-8 text: byte 5 is wrong\")\n"
        );
        let mut stream = connect(&path);
        stream.write_all(b"Version").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(line(&stream), "");
    }

    #[test]
    fn an_over_long_line_is_refused_and_the_client_closed() {
        let (_socket, path, _folder) = server();
        let mut longest = vec![b' '; LINE_MAX - 7];
        longest.extend_from_slice(b"Version\n");
        assert_eq!(ask(&path, &longest), VERSION);

        let mut stream = connect(&path);
        // The server stops reading, so writing may fail before everything is written.
        let _ = stream.write_all(&vec![b'x'; LINE_MAX + (1 << 20)]);
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        assert_eq!(reply, "Refused(reason:\"line: it is longer than 1048576 bytes\",field:\"line\")\n");
    }

    #[test]
    fn slow_silent_and_deaf_clients_do_not_hold_up_others() {
        let (_socket, path, _folder) = server();
        let _silent: Vec<_> = (0..300).map(|_| connect(&path)).collect();
        let mut waiting = connect(&path);
        waiting.write_all(b"Status\n").unwrap();
        let mut half = connect(&path);
        half.write_all(b"Vers").unwrap();
        // Sends requests and reads no reply until the server can send no more.
        let mut deaf = connect(&path);
        deaf.set_nonblocking(true).unwrap();
        while deaf.write(&b"Version\n".repeat(100)).is_ok() {}

        // Who is held up by any of them waits for longer than this one does.
        assert_eq!(ask(&path, b"Version\n"), VERSION);
    }

    #[test]
    fn too_many_clients_are_told_so() {
        let (_socket, path, _folder) = server();
        let clients: Vec<_> = (0..CLIENTS_MAX).map(|_| connect(&path)).collect();
        let last = clients.last().unwrap();
        let mut writer = last;
        writer.write_all(b"Version\n").unwrap();
        assert_eq!(line(last), VERSION);
        let refused = line(&connect(&path));
        assert_eq!(refused, "Refused(reason:\"too many admin clients: 1024 are connected\")\n");
        drop(clients);
        let start = Instant::now();
        // One that is told so may find the connection closed before it has asked.
        while !matches!(try_ask(&path, b"Version\n"), Ok(answer) if answer == VERSION) {
            assert!(start.elapsed() < Duration::from_secs(10), "places were not given back");
        }
    }
}
