//! The embedder's only door: start a balancer, change it while it runs, ask it, stop it.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::access::AccessRecords;
use crate::balance::{Policies, PolicyBuilder};
use crate::config::{
    Certificate, Config, Frontend, FrontendUpdate, Invalid, Millis, Name, PersistenceKey, Server, ServerUpdate,
};
use crate::control::{
    Applied, CertificateStatus, Change, Command, CommandSender, Commands, ControlThread, Died, Listener, Metrics,
    NoStore, Options, Record, Refused, RememberedClients, Resume, StartError, Status, Store, Transaction, Wanted,
    certificates_of, check_config,
};

/// A running load balancer: its shards, and the control thread that changes them.
///
/// Dropping it stops it at once; [`Balancer::shutdown`] lets connections finish.
#[derive(Debug)]
pub struct Balancer {
    control: Control,
    access_records: AccessRecords,
    thread: ControlThread,
}

/// Collects what a balancer starts with.
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) store: Box<dyn Store>,
    pub(crate) resume: Resume,
    pub(crate) policies: Policies,
    pub(crate) inherited: Vec<OwnedFd>,
    pub(crate) taken_over: Vec<Listener>,
    /// Access records that each shard keeps; 0 for none.
    pub(crate) access_capacity: usize,
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Builder {
    /// The frontends and limits to start with.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where changes are kept; without a store they end with the process.
    #[must_use]
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        self.store = Box::new(store);
        self
    }

    /// Goes on from a revision and history that a store kept earlier.
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Registers a policy, to be chosen as [`PolicyKind::Custom`](crate::config::PolicyKind::Custom) under `name`.
    ///
    /// # Errors
    /// A name that is not allowed (see [`Name`]).
    pub fn policy(mut self, name: &str, builder: impl PolicyBuilder) -> Result<Self, Invalid> {
        self.policies.register(Name::new(name)?, Arc::new(builder));
        Ok(self)
    }

    /// Makes shards tell of each connection and request, and keep at most `capacity` records each until they are taken
    /// ([`Balancer::access_records`]). What comes beyond that is dropped and counted.
    #[must_use]
    pub fn record_access(mut self, capacity: usize) -> Self {
        self.access_capacity = capacity;
        self
    }

    /// Hands over a listening socket. A frontend that binds to its address uses it instead of a new one.
    #[must_use]
    pub fn inherit(mut self, listener: OwnedFd) -> Self {
        self.inherited.push(listener);
        self
    }

    /// Takes over the listening sockets of another balancer ([`Control::hand_over`]): frontends with the same address, or
    /// with the same name where the kernel chose the port, use them. Those that no frontend uses are closed.
    #[must_use]
    pub fn take_over(mut self, listeners: Vec<Listener>) -> Self {
        self.taken_over = listeners;
        self
    }

    /// Checks the configuration as a start would, without opening anything. Gives what is allowed but may surprise, a
    /// sentence each.
    ///
    /// # Errors
    /// What a start would refuse.
    pub fn check(&self) -> Result<Vec<String>, Refused> {
        check_config(&self.config, &self.policies)
    }

    /// The certificates of the configuration, as a running balancer lists them.
    ///
    /// # Errors
    /// What a start would refuse.
    pub fn certificates(&self) -> Result<Vec<CertificateStatus>, Refused> {
        certificates_of(&self.config, &self.policies)
    }

    /// Starts the shards and the control thread. When it returns, every frontend accepts.
    ///
    /// # Errors
    /// See [`StartError`]: what the kernel lacks or forbids, an address that can't be bound, a snapshot that can't be
    /// stored. Each says what to change.
    pub fn start(self) -> Result<Balancer, StartError> {
        let (sender, commands) = Commands::channel()?;
        let (thread, access_records) = ControlThread::start(self, sender.clone(), commands)?;
        Ok(Balancer { control: Control { sender }, access_records, thread })
    }
}

/// How a balancer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain(pub(crate) Duration);

impl Drain {
    /// Connections may go on for this long; then they are closed.
    pub fn within(grace: Duration) -> Self {
        Self(grace)
    }

    /// All connections are closed at once.
    pub fn now() -> Self {
        Self(Duration::ZERO)
    }
}

impl Balancer {
    /// Starts to build a balancer.
    pub fn builder() -> Builder {
        Builder {
            config: Config::default(),
            store: Box::new(NoStore),
            resume: Resume::default(),
            policies: Policies::default(),
            inherited: Vec::new(),
            taken_over: Vec::new(),
            access_capacity: 0,
        }
    }

    /// Where access records are taken out. Empty unless [`Builder::record_access`] was called.
    pub fn access_records(&self) -> AccessRecords {
        self.access_records.clone()
    }

    /// The handle by which it is changed and asked, from any thread and any runtime.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Stops accepting, lets connections finish as `drain` says, and returns when every thread has ended.
    /// Another thread can cut the wait short with [`Control::stop`].
    ///
    /// # Errors
    /// See [`Balancer::wait`].
    pub fn shutdown(self, drain: Drain) -> Result<(), Died> {
        self.control.stop(drain);
        self.wait()
    }

    /// Returns when the balancer has stopped: after [`Control::stop`], or because a shard died.
    ///
    /// # Errors
    /// A thread of the balancer died. All the others were stopped: a process that goes on serves nobody.
    pub fn wait(mut self) -> Result<(), Died> {
        self.thread.join()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.control.stop(Drain::now());
        // Who cares how it ended calls `wait` or `shutdown`.
        let _ = self.thread.join();
    }
}

/// Changes and questions to a running balancer. Cheap to clone; needs no runtime.
///
/// Each call gives a [`Pending`]: `.wait()` it in plain code, `.await` it in any runtime.
#[derive(Debug, Clone)]
pub struct Control {
    sender: CommandSender,
}

impl Control {
    /// Applies a transaction: all of its changes or none, as one revision, confirmed when it is stored and every shard uses it.
    pub fn apply(&self, transaction: impl Into<Transaction>) -> Pending<Applied> {
        let Transaction { changes, options } = transaction.into();
        self.ask(|reply| Command::Change { wanted: Wanted::Changes(changes), options, reply })
    }

    /// Puts a server behind a frontend.
    pub fn add_server(&self, frontend: &str, server: Server) -> Pending<Applied> {
        self.change(Name::new(frontend).map(|frontend| Change::AddServer { frontend, server }))
    }

    /// Changes some of a server's settings.
    pub fn update_server(&self, frontend: &str, name: &str, update: ServerUpdate) -> Pending<Applied> {
        self.change(names(frontend, name).map(|(frontend, name)| Change::UpdateServer { frontend, name, update }))
    }

    /// Takes a server away; its connections go on.
    pub fn remove_server(&self, frontend: &str, name: &str) -> Pending<Applied> {
        self.change(names(frontend, name).map(|(frontend, name)| Change::RemoveServer { frontend, name }))
    }

    /// Gives a server no new connections. Those that exist may go on until they end, or for the time `within`.
    pub fn drain_server(&self, frontend: &str, name: &str, within: Option<Millis>) -> Pending<Applied> {
        self.change(names(frontend, name).map(|(frontend, name)| Change::DrainServer { frontend, name, within }))
    }

    /// Takes a server out of service for maintenance: no new connections and no checks.
    pub fn disable_server(&self, frontend: &str, name: &str) -> Pending<Applied> {
        self.change(names(frontend, name).map(|(frontend, name)| Change::DisableServer { frontend, name }))
    }

    /// Takes a draining or disabled server into balancing again.
    pub fn enable_server(&self, frontend: &str, name: &str) -> Pending<Applied> {
        self.change(names(frontend, name).map(|(frontend, name)| Change::EnableServer { frontend, name }))
    }

    /// Starts a frontend.
    pub fn add_frontend(&self, frontend: Frontend) -> Pending<Applied> {
        self.apply(Change::AddFrontend { frontend })
    }

    /// Changes some of a frontend's settings.
    pub fn update_frontend(&self, name: &str, update: FrontendUpdate) -> Pending<Applied> {
        self.change(Name::new(name).map(|name| Change::UpdateFrontend { name, update }))
    }

    /// Stops a frontend; its connections go on.
    pub fn remove_frontend(&self, name: &str) -> Pending<Applied> {
        self.change(Name::new(name).map(|name| Change::RemoveFrontend { name }))
    }

    /// Makes a certificate known.
    pub fn add_certificate(&self, certificate: Certificate) -> Pending<Applied> {
        self.apply(Change::AddCertificate { certificate })
    }

    /// Replaces a certificate by one of the same name and kind, for every handshake that begins after.
    pub fn update_certificate(&self, certificate: Certificate) -> Pending<Applied> {
        self.apply(Change::UpdateCertificate { certificate })
    }

    /// Forgets a certificate that nobody uses.
    pub fn remove_certificate(&self, name: &str) -> Pending<Applied> {
        self.change(Name::new(name).map(|name| Change::RemoveCertificate { name }))
    }

    /// Makes the running frontends and certificates those of `config`, in one transaction. Shards, the process's connection limit and
    /// the shutdown grace stay as they were at the start.
    pub fn replace(&self, config: Config, options: Options) -> Pending<Applied> {
        self.ask(|reply| Command::Change { wanted: Wanted::Config(config), options, reply })
    }

    /// Takes a revision back (the last one, unless named) as a new revision. Refused if later changes built on it.
    pub fn undo(&self, revision: Option<u64>, options: Options) -> Pending<Applied> {
        self.ask(|reply| Command::Change { wanted: Wanted::Undo(revision), options, reply })
    }

    /// The last revisions, oldest first. With the private keys of certificates that were changed: see
    /// [`Record::without_secrets`].
    pub fn history(&self) -> Pending<Vec<Arc<Record>>> {
        self.ask(|reply| Command::History { reply })
    }

    /// The key that the values of cookies are made with, to be given to other balancers ([`Config::persistence_key`]) that are
    /// to send clients to the same servers. Whoever has it can choose his server.
    pub fn persistence_key(&self) -> Pending<PersistenceKey> {
        self.ask(|reply| Command::PersistenceKey { reply })
    }

    /// The clients that stay on their servers by what is remembered of them, of all frontends or of one: by their address, or
    /// by the application's cookie. At most `limit` (and never more than 100 000), those first that were seen last.
    pub fn remembered_clients(&self, frontend: Option<&str>, limit: usize) -> Pending<RememberedClients> {
        match frontend.map(frontend_name).transpose() {
            Ok(frontend) => self.ask(|reply| Command::Remembered { frontend, limit, reply }),
            Err(invalid) => Pending::refused(invalid.into()),
        }
    }

    /// Forgets clients that are remembered, of all frontends or of one, all or those that stay on a server: they are balanced
    /// anew. Gives how many. Clients with a cookie of our own are not remembered, and stay.
    pub fn forget_clients(&self, frontend: Option<&str>, server: Option<&str>) -> Pending<u64> {
        let named = frontend.map(frontend_name).transpose();
        let named = named.and_then(|frontend| Ok((frontend, server.map(server_name).transpose()?)));
        match named {
            Ok((frontend, server)) => self.ask(|reply| Command::Forget { frontend, server, reply }),
            Err(invalid) => Pending::refused(invalid.into()),
        }
    }

    /// What runs, and how much.
    pub fn status(&self) -> Pending<Status> {
        self.ask(|reply| Command::Status { reply })
    }

    /// What runs, and how much, with how long things took since they were added. More than [`Control::status`] costs; the
    /// shards notice nothing of it.
    pub fn metrics(&self) -> Pending<Metrics> {
        self.ask(|reply| Command::Metrics { reply })
    }

    /// Stops the balancer as `drain` says, without waiting. Called again, the shorter time holds.
    pub fn stop(&self, drain: Drain) {
        self.sender.send(Command::Stop { drain });
    }

    /// Begins to hand over to another process: gives the listening sockets, and refuses changes from here on, so that what
    /// was stored stays what is running. Connections are accepted and served as before.
    ///
    /// [`Control::release`] ends it when the other process accepts, [`Control::go_on`] when it does not come to that.
    pub fn hand_over(&self) -> Pending<Vec<Listener>> {
        self.ask(|reply| Command::HandOver { reply })
    }

    /// Stops because another process accepts from the same sockets, which stay open for it. Answered when this process does
    /// not accept any more; it serves what it has accepted, for as long as `drain` says.
    pub fn release(&self, drain: Drain) -> Pending<()> {
        self.ask(|reply| Command::Release { drain, reply })
    }

    /// Says that this process is the only one that accepts from its listening sockets from here on: the other one, to which
    /// it handed over or from which it took over, has let go of them or is gone. Changes are allowed again.
    pub fn go_on(&self) {
        self.sender.send(Command::GoOn);
    }

    fn change(&self, change: Result<Change, Invalid>) -> Pending<Applied> {
        match change {
            Ok(change) => self.apply(change),
            Err(invalid) => Pending::refused(invalid.into()),
        }
    }

    fn ask<T>(&self, command: impl FnOnce(async_channel::Sender<Result<T, Refused>>) -> Command) -> Pending<T>
    where
        T: Send + 'static,
    {
        let (reply, answer) = async_channel::bounded(1);
        // A stopped balancer drops the command and with it the reply's sender, which `Pending` reports.
        self.sender.send(command(reply));
        Pending::new(answer)
    }
}

fn names(frontend: &str, name: &str) -> Result<(Name, Name), Invalid> {
    Ok((frontend_name(frontend)?, Name::new(name)?))
}

fn frontend_name(name: &str) -> Result<Name, Invalid> {
    Name::new(name).map_err(|invalid| Invalid::new("frontend", invalid.reason))
}

fn server_name(name: &str) -> Result<Name, Invalid> {
    Name::new(name).map_err(|invalid| Invalid::new("server", invalid.reason))
}

/// An answer that is on its way. What was asked happens whether or not the answer is waited for.
#[must_use = "the answer says whether the change was applied or refused"]
pub struct Pending<T>(Pin<Box<dyn Future<Output = Result<T, Refused>> + Send>>);

impl<T: Send + 'static> Pending<T> {
    fn new(answer: async_channel::Receiver<Result<T, Refused>>) -> Self {
        Self(Box::pin(async move { answer.recv().await.unwrap_or_else(|_| Err(stopped())) }))
    }

    fn refused(refused: Refused) -> Self {
        Self(Box::pin(std::future::ready(Err(refused))))
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// What was asked was refused, or the balancer has stopped.
    pub fn wait(self) -> Result<T, Refused> {
        futures_lite::future::block_on(self)
    }
}

fn stopped() -> Refused {
    Refused::unavailable("the balancer has stopped")
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pending")
    }
}
