//! The control thread: starts the shards, carries out commands one after the other, and ends when the last shard has.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::check::Checker;
use super::controller::Controller;
use super::{Command, CommandSender, Commands, Died, StartError, probe};
use crate::access::AccessRecords;
use crate::balancer::{Builder, Drain};
use crate::dataplane::shard::Shard;
use crate::machine;
use crate::sys::affinity;
use crate::sys::doorbell::Listening;
use crate::table::{Shared, Stop};

/// Bytes that glommio locks for file buffers, of which the control plane needs hardly any; its default is 10 MiB.
const CONTROL_IO_MEMORY: usize = 256 * 1024;
/// The longest that a missed completion can go unnoticed.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// How long after another process has let go of the listening sockets waiting clients are looked for again first, and last.
const RENEWAL_FIRST: Duration = Duration::from_millis(5);
const RENEWAL_LAST: Duration = Duration::from_secs(3);
/// How often rates are taken.
const SAMPLE: Duration = Duration::from_secs(1);

/// The control thread as its owner sees it.
#[derive(Debug)]
pub(crate) struct ControlThread(Option<thread::JoinHandle<Result<(), Died>>>);

impl ControlThread {
    /// Starts it, and with it the shards; returns when every frontend accepts, with where access records are put.
    pub(crate) fn start(
        builder: Builder,
        sender: CommandSender,
        commands: Commands,
    ) -> Result<(Self, AccessRecords), StartError> {
        check_kernel()?;
        let (started, outcome) = mpsc::channel();
        let run = move || {
            let plane = match ControlPlane::start(builder, &sender) {
                Ok(plane) => plane,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return Ok(());
                }
            };
            let _ = started.send(Ok(plane.controller.shared().access.clone()));
            plane.run(commands)
        };
        let thread = thread::Builder::new().name("lb-control".into()).spawn(run);
        let thread = thread.map_err(|error| StartError::Kernel(format!("can't start a thread: {error}")))?;
        match outcome.recv() {
            Ok(Ok(access_records)) => Ok((Self(Some(thread)), access_records)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Kernel("the control thread died while it started".into())),
        }
    }

    /// Waits until it has ended.
    pub(crate) fn join(&mut self) -> Result<(), Died> {
        match self.0.take().map(thread::JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(Died("the control thread panicked".into())),
            None => Ok(()),
        }
    }
}

/// What glommio would answer by ending the process, and what each shard would stumble over one after the other.
fn check_kernel() -> Result<(), StartError> {
    let obstacle = machine::check_kernel().into_iter().find_map(|check| check.outcome.err());
    obstacle.map_or(Ok(()), |obstacle| Err(StartError::Kernel(obstacle.to_string())))
}

struct ControlPlane {
    executor: LocalExecutor,
    controller: Controller,
    shards: usize,
}

impl ControlPlane {
    fn start(builder: Builder, sender: &CommandSender) -> Result<Self, StartError> {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .name("lb-control")
            .io_memory(CONTROL_IO_MEMORY)
            .ring_depth(128)
            .make()
            .map_err(|error| StartError::Kernel(format!("can't start the control plane: {error}")))?;
        let cores = affinity::allowed_cores();
        let cores =
            cores.map_err(|error| StartError::Kernel(format!("can't tell which cores are allowed: {error}")))?;
        let shards = builder.config.shards.map_or(cores.len(), usize::from);
        let cores: Vec<usize> = cores.into_iter().cycle().take(shards).collect();
        let mut controller = Controller::new(builder, &cores, sender)?;
        start_shards(&cores, &controller.shared(), sender)?;
        controller.start_accepting().map_err(StartError::Refused)?;
        let checker = start_checker(controller.shared().process.spare.checks, sender)?;
        controller.start_checks(checker);
        Ok(Self { executor, controller, shards })
    }

    fn run(self, commands: Commands) -> Result<(), Died> {
        let Self { executor, controller, shards } = self;
        let shared = controller.shared();
        let outcome = executor.run(serve(Rc::new(RefCell::new(controller)), commands, shards));
        // However it ended: no shard goes on without a control thread.
        shared.set_stop(Stop::Close);
        outcome
    }
}

/// A thread per shard, each with its ring set up when this returns.
fn start_shards(cores: &[usize], shared: &Arc<Shared>, sender: &CommandSender) -> Result<(), StartError> {
    // A connection's buffers are bounded by the relay; this only keeps a flood of slow readers from taking all memory.
    const BUFFER_BYTES_MAX: usize = 4 << 30;
    let (started, outcomes) = mpsc::channel();
    for (number, &core) in cores.iter().enumerate() {
        let (shard_shared, sender, started) = (Arc::clone(shared), sender.clone(), started.clone());
        let run = move || {
            let shared = shard_shared;
            // Without its core to itself a shard works as well, only less evenly.
            if let Err(error) = affinity::pin_to(core) {
                tracing::warn!("shard {number} can't be pinned to core {core}: {error}");
            }
            let shard = match Shard::new(number, BUFFER_BYTES_MAX, shared.process.spare, shared.started) {
                Ok(shard) => shard,
                Err(error) => {
                    let _ = started.send(Err(StartError::Kernel(machine::explain(&error).to_string())));
                    return;
                }
            };
            let _ = started.send(Ok(()));
            drop(started);
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| shard.run(&shared)));
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("shard {number} died: its ring failed: {error}")),
                Err(_) => Some(format!("shard {number} died: it panicked")),
            };
            if failure.is_some() {
                // The control thread may be waiting for this shard's acknowledgement.
                shared.set_stop(Stop::Close);
            }
            sender.send(Command::ShardEnded { failure });
            shared.control.unpark();
        };
        let spawned = thread::Builder::new().name(format!("lb-shard-{number}")).spawn(run);
        if let Err(error) = spawned {
            shared.set_stop(Stop::Close);
            return Err(StartError::Kernel(format!("can't start a thread: {error}")));
        }
    }
    drop(started);
    let outcome = outcomes.iter().take(cores.len()).collect::<Result<(), StartError>>();
    if outcome.is_err() {
        shared.set_stop(Stop::Close);
    }
    outcome
}

fn start_checker(at_once: usize, sender: &CommandSender) -> Result<Checker, StartError> {
    let (verdicts, death) = (sender.clone(), sender.clone());
    let report = move |checked| verdicts.send(Command::Checked(checked));
    Checker::start(at_once, report, move |failure| death.send(Command::CheckerDied { failure }))
}

/// Carries out commands until every shard has ended.
async fn serve(controller: Rc<RefCell<Controller>>, commands: Commands, mut shards: usize) -> Result<(), Died> {
    let died = |error: std::io::Error| Died(format!("the control thread died: its doorbell failed: {error}"));
    let doorbell = Listening::to(&commands.doorbell).map_err(died)?;
    let sampler = glommio::spawn_local(sample(Rc::clone(&controller))).detach();
    let heartbeat = glommio::spawn_local(heartbeat(Rc::clone(&controller))).detach();
    let mut outcome = Ok(());
    while shards > 0 {
        let Ok(command) = commands.channel.try_recv() else {
            doorbell.rung().await.map_err(died)?;
            continue;
        };
        match command {
            Command::ShardEnded { failure } => {
                shards -= 1;
                if let Some(failure) = failure {
                    tracing::error!("{failure}");
                    controller.borrow().shared().set_stop(Stop::Close);
                    outcome = outcome.and(Err(Died(failure)));
                }
            }
            Command::CheckerDied { failure } => {
                tracing::error!("{failure}");
                controller.borrow().shared().set_stop(Stop::Close);
                outcome = outcome.and(Err(Died(failure)));
            }
            Command::Stop { drain } => stop(&controller, drain),
            Command::GoOn => {
                controller.borrow_mut().go_on();
                glommio::spawn_local(renew_accepts(controller.borrow().shared())).detach();
            }
            Command::Release { drain, reply } => {
                controller.borrow_mut().release();
                let _ = reply.try_send(Ok(()));
                close_after(controller.borrow().shared(), drain);
            }
            Command::Change { wanted, options, reply } if options.probe => {
                // Takes as long as the servers take: in a task of its own, so that others are not held up.
                let controller = Rc::clone(&controller);
                let probing = async move {
                    let probed = probe::probe(&controller, &wanted, options).await;
                    let applied = probed.and_then(|()| controller.borrow_mut().apply(&wanted, options));
                    let _ = reply.try_send(applied);
                };
                glommio::spawn_local(probing).detach();
            }
            command => controller.borrow_mut().answer(command),
        }
        // The tasks beside this one take their turns, however many commands wait.
        glommio::yield_if_needed().await;
    }
    sampler.cancel();
    heartbeat.cancel();
    outcome
}

fn stop(controller: &Rc<RefCell<Controller>>, drain: Drain) {
    if drain != Drain::now() {
        controller.borrow_mut().stop_accepting();
    }
    close_after(controller.borrow().shared(), drain);
}

/// Looks for waiting clients some more times: the kernel takes the rings of a process that was killed down a moment after
/// its sockets were closed, and until then may tell them of a client instead of a shard.
async fn renew_accepts(shared: Arc<Shared>) {
    let mut pause = RENEWAL_FIRST;
    while pause <= RENEWAL_LAST {
        glommio::timer::sleep(pause).await;
        shared.renew_accepts();
        pause *= 2;
    }
}

/// Closes the connections that are left when the time is over.
fn close_after(shared: Arc<Shared>, Drain(grace): Drain) {
    if grace.is_zero() {
        return shared.set_stop(Stop::Close);
    }
    let deadline = async move {
        glommio::timer::sleep(grace).await;
        shared.set_stop(Stop::Close);
    };
    glommio::spawn_local(deadline).detach();
}

/// Does what time brings about, and keeps the executor from sleeping for long. glommio 0.9 misses a completion now and then when it goes to sleep (about one
/// of 12 000 under load): then a command would wait until something else wakes it.
async fn heartbeat(controller: Rc<RefCell<Controller>>) {
    loop {
        glommio::timer::sleep(HEARTBEAT).await;
        controller.borrow_mut().on_time();
    }
}

async fn sample(controller: Rc<RefCell<Controller>>) {
    loop {
        glommio::timer::sleep(SAMPLE).await;
        controller.borrow_mut().sample();
    }
}
