//! A connection to the admin socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::admin::Reply;

/// A connection to the admin socket, for one request after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Connection {
    /// Connects to the balancer at `path`, whose replies may take as long as `timeout`.
    ///
    /// # Errors
    /// Nobody answers there: where, why, and what to do.
    pub(crate) fn open(path: &Path, timeout: Duration) -> Result<Self, String> {
        let open = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
        };
        open().map_err(|error| fault(path, &error))
    }

    /// Sends a request and gives its reply.
    ///
    /// # Errors
    /// There is none, or none that is understood. The connection is of no more use.
    pub(crate) fn ask(&mut self, request: &str) -> Result<Reply, String> {
        let fault = |error: io::Error| fault(&self.path, &error);
        let stream = self.stream.get_mut();
        // A balancer that turns clients away replies without reading, so a failed write may still have its answer.
        let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(b"\n"));
        let mut reply = String::new();
        let received = self.stream.read_line(&mut reply);
        if reply.ends_with('\n') {
            return Reply::from_line(&reply)
                .map_err(|reason| format!("the reply is not understood: {reason}: {reply}"));
        }
        sent.map_err(fault)?;
        received.map_err(fault)?;
        Err(format!("no answer at {}: the balancer closed the connection", self.path.display()))
    }
}

fn fault(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "; is lb running? --admin PATH names another socket",
        ErrorKind::PermissionDenied => "; only the user that started lb, and root, may use it",
        ErrorKind::WouldBlock => "; the request may still take effect: see lb history",
        _ => "",
    };
    format!("no answer at {}: {error}{hint}", path.display())
}
