//! The connection to the balancer: asks for its status once a second and sends changes, on a thread of its own, so that
//! keys are answered while it waits.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use lb_core::Status;

use super::model::Action;
use super::rows::RowId;
use crate::admin::Reply;
use crate::cli::{ChangeOptions, ClientCommand, Output, ServerCommand, ServerName};
use crate::client::{Connection, print, request_line};

/// How often the status is asked for, and how often a balancer that is gone is looked for.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a reply may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is heard of the balancer.
#[derive(Debug)]
pub(super) enum News {
    /// Which one answers, told before its first status.
    Version(String),
    Status(Box<Status>),
    /// It does not answer: why. Said once a second until it does.
    Gone(String),
    /// A change was confirmed.
    Done(String),
    /// A change was refused, or can't be told.
    Failed(String),
}

/// A connection that is made anew when it broke.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Link {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, connection: None }
    }

    /// Asks once a second, and sends what comes in between, until nobody is there to send any more.
    pub(super) fn run(mut self, changes: &Receiver<(Action, RowId)>, mut report: impl FnMut(News)) {
        let mut next = Instant::now() + PAUSE;
        loop {
            match changes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((action, row)) => report(self.change(action, &row)),
                Err(RecvTimeoutError::Timeout) => next = (next + PAUSE).max(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also after a change, so that it is seen at once.
            self.poll(&mut report);
        }
    }

    /// Asks for the status, and for the version of a balancer that was not asked before.
    pub(super) fn poll(&mut self, report: &mut impl FnMut(News)) {
        let news = self.try_poll(report).unwrap_or_else(|why| {
            self.connection = None;
            News::Gone(why)
        });
        report(news);
    }

    fn try_poll(&mut self, report: &mut impl FnMut(News)) -> Result<News, String> {
        if self.connection.is_none() {
            let mut connection = Connection::open(&self.path, TIMEOUT)?;
            match connection.ask("Version")? {
                Reply::Version { version, .. } => report(News::Version(version)),
                other => return Err(unexpected(&other)),
            }
            self.connection = Some(connection);
        }
        match self.ask("Status")? {
            Reply::Status(status) => Ok(News::Status(status)),
            other => Err(unexpected(&other)),
        }
    }

    fn change(&mut self, action: Action, row: &RowId) -> News {
        let reply = request_line(&ClientCommand::Server(command(action, row))).and_then(|line| self.ask(&line));
        match reply.and_then(|reply| print::reply(&reply, Output::Table)) {
            Ok(text) => News::Done(one_line(&text)),
            Err(text) => News::Failed(one_line(text.trim_start_matches("lb: "))),
        }
    }

    fn ask(&mut self, request: &str) -> Result<Reply, String> {
        let connection = self.connection.as_mut().ok_or("lb does not answer")?;
        let reply = connection.ask(request);
        if reply.is_err() {
            self.connection = None;
        }
        reply
    }
}

/// The command that a person would give.
fn command(action: Action, row: &RowId) -> ServerCommand {
    let options = ChangeOptions { dry_run: false, if_revision: None };
    let name = row.server.as_ref().map_or_else(String::new, ToString::to_string);
    let server = ServerName { frontend: row.frontend.to_string(), name, options };
    match action {
        Action::Drain => ServerCommand::Drain { server, within: None },
        Action::Enable => ServerCommand::Enable(server),
        Action::Disable => ServerCommand::Disable(server),
    }
}

/// What a balancer answers that turns clients away.
fn unexpected(reply: &Reply) -> String {
    match reply {
        Reply::Refused { reason, .. } => reason.clone(),
        other => format!("an answer to something else: {}", other.to_line().trim_end()),
    }
}

fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_request_of_the_command_line() {
        let row = RowId { frontend: "web".parse().unwrap(), server: Some("app1".parse().unwrap()) };
        for (action, name) in
            [(Action::Drain, "DrainServer"), (Action::Enable, "EnableServer"), (Action::Disable, "DisableServer")]
        {
            let line = request_line(&ClientCommand::Server(command(action, &row))).unwrap();
            assert_eq!(line, format!("{name}(frontend:\"web\",name:\"app1\")"));
        }
    }
}
