//! The client: one request to the admin socket, one reply, printed.

mod connection;
pub(crate) mod print;
mod request_line;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::admin::{LINE_MAX, Reply};
use crate::cli::{
    CertificateCommand, ClientCommand, ConsoleCommand, FrontendCommand, Output, PersistenceCommand, ServerCommand,
};
use crate::{console, paths};

pub(crate) use connection::Connection;
pub(crate) use request_line::request_line;

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
    let line = request_line(command).map_err(Failure::Refused)?;
    if line.len() > LINE_MAX {
        let advice = "send SIGHUP to the balancer instead, which reads its own file";
        return Err(Failure::Refused(format!("lb: the request is longer than the {LINE_MAX} bytes allowed: {advice}")));
    }
    let path = paths::admin_socket(admin).map_err(|reason| Failure::Unreachable(format!("lb: {reason}")))?;
    let reply = Connection::open(&path, REPLY_TIMEOUT).and_then(|mut connection| connection.ask(&line));
    match reply.map_err(|reason| Failure::Unreachable(format!("lb: {reason}")))? {
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
