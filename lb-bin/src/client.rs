//! The client: one request to the admin socket, one reply, printed.

mod print;
mod request_line;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::admin::{LINE_MAX, Reply};
use crate::cli::{
    CertificateCommand, ClientCommand, ConsoleCommand, FrontendCommand, Output, PersistenceCommand, ServerCommand,
};
use crate::{console, paths};

/// How long a reply may take. A change is confirmed in milliseconds; a probe waits for the connect timeout.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// The request was refused: exit code 1.
    Refused(String),
    /// The balancer can't be reached or does not answer: exit code 3.
    Unreachable(String),
}

/// Carries out a client command: sends its request, prints the answer.
pub fn call(command: &ClientCommand, admin: Option<&Path>) -> ExitCode {
    let (text, code) = match answer(command, admin) {
        Ok(text) => {
            // A reader that closed early, as `head` does, is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Failure::Refused(reason)) => (reason, 1),
        Err(Failure::Unreachable(reason)) => (reason, 3),
    };
    eprintln!("{text}");
    ExitCode::from(code)
}

fn answer(command: &ClientCommand, admin: Option<&Path>) -> Result<String, Failure> {
    if let ClientCommand::Console(ConsoleCommand::Password) = command {
        let line = console::read_password().and_then(|password| console::password_line(&password));
        return line.map(|line| line + "\n").map_err(|reason| Failure::Refused(format!("lb: {reason}")));
    }
    let line = request_line::request_line(command).map_err(Failure::Refused)?;
    if line.len() > LINE_MAX {
        let advice = "send SIGHUP to the balancer instead, which reads its own file";
        return Err(Failure::Refused(format!("lb: the request is longer than the {LINE_MAX} bytes allowed: {advice}")));
    }
    let path = paths::admin_socket(admin).map_err(|reason| Failure::Unreachable(format!("lb: {reason}")))?;
    let reply = exchange(&path, &line).map_err(|reason| Failure::Unreachable(format!("lb: {reason}")))?;
    let reply = Reply::from_line(&reply)
        .map_err(|reason| Failure::Unreachable(format!("lb: the reply is not understood: {reason}: {reply}")))?;
    match reply {
        Reply::Refused { reason, field } => Err(Failure::Refused(print::refusal(&reason, field.as_deref()))),
        reply => print::reply(&reply, output_of(command)).map_err(|reason| Failure::Refused(format!("lb: {reason}"))),
    }
}

fn output_of(command: &ClientCommand) -> Output {
    match command {
        ClientCommand::Server(ServerCommand::List { output, .. })
        | ClientCommand::Frontend(FrontendCommand::List { output })
        | ClientCommand::Certificate(CertificateCommand::List { output })
        | ClientCommand::Persistence(PersistenceCommand::Key { output } | PersistenceCommand::List { output, .. })
        | ClientCommand::History { output }
        | ClientCommand::Status { output } => output.output,
        _ => Output::Table,
    }
}

/// Sends a line and gives the line that comes back.
fn exchange(path: &Path, line: &str) -> Result<String, String> {
    let fault = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => "; is lb running? --admin PATH names another socket",
            ErrorKind::PermissionDenied => "; only the user that started lb, and root, may use it",
            ErrorKind::WouldBlock => "; the request may still take effect: see lb history",
            _ => "",
        };
        format!("no answer at {}: {error}{hint}", path.display())
    };
    let mut stream = UnixStream::connect(path).map_err(fault)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(fault)?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT)).map_err(fault)?;
    // A balancer that turns clients away replies without reading, so a failed write may still have its answer.
    let sent = stream.write_all(line.as_bytes()).and_then(|()| stream.write_all(b"\n"));
    let mut reply = String::new();
    let received = BufReader::new(&stream).read_line(&mut reply);
    if reply.ends_with('\n') {
        return Ok(reply);
    }
    sent.map_err(fault)?;
    received.map_err(fault)?;
    Err(format!("no answer at {}: the balancer closed the connection", path.display()))
}
