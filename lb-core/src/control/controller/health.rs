//! What becomes known of servers while nothing is changed, by checks, by connections and by time; and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use super::Controller;
use crate::config::Mode;
use crate::control::availability::{describe, earlier};
use crate::control::check::{Checked, Checker, Target};
use crate::control::health::Verdict;
use crate::control::running::RunningFrontend;
use crate::control::state::ServerId;
use crate::table::{Suspicion, Trouble};

impl Controller {
    /// Has servers checked from now on.
    pub(in crate::control) fn start_checks(&mut self, checker: Checker) {
        self.checker = Some(checker);
        self.check_servers();
    }

    /// Tells the checker which servers there are.
    pub(super) fn check_servers(&self) {
        let Some(checker) = &self.checker else { return };
        let mut targets = Vec::new();
        for RunningFrontend { entry, endpoints, .. } in &self.running.0 {
            let frontend = &entry.frontend;
            let common = Arc::new(frontend.check().clone());
            let servers = entry.server_ids.iter().zip(frontend.servers()).zip(self.availability.epochs(entry));
            for (((id, server), epoch), endpoint) in servers.zip(endpoints.iter()) {
                let check = server.check().own().map_or_else(|| Arc::clone(&common), |own| Arc::new(own.clone()));
                if server.mode() != Mode::Disabled {
                    let (dialer, send_proxy) = (endpoint.transport.dialer.clone(), endpoint.transport.send_proxy);
                    targets.push(Target { server: *id, addr: server.addr(), check, epoch, dialer, send_proxy });
                }
            }
        }
        checker.set_targets(targets);
    }

    pub(super) fn on_checked(&mut self, verdicts: Vec<Checked>) {
        let (now, mut has_news) = (self.now(), false);
        for checked in verdicts {
            let Checked { server, verdict, took, .. } = checked;
            let detail = checked.detail.clone();
            let Some(entry) = self.state.entry_of(server) else { continue };
            if !self.availability.on_checked(checked, entry, now) {
                continue;
            }
            has_news = true;
            self.count_health_change(server);
            let name = self.name_of(server);
            if verdict == Verdict::Up {
                self.forgive(server);
            }
            match verdict {
                Verdict::Up => tracing::info!("server {name} is up: {detail}, in {took:?}"),
                Verdict::Down => tracing::warn!("server {name} is down: {detail}"),
            }
        }
        // At the start thousands of servers are found up that counted as up.
        if has_news {
            self.refresh();
        }
    }

    pub(super) fn on_suspicion(&mut self, suspicion: &Suspicion) {
        let Some(entry) = self.state.entry_of(suspicion.server) else { return };
        let Some(time) = self.availability.on_suspicion(suspicion, entry, self.now()) else { return };
        self.count_health_change(suspicion.server);
        let (name, why) = (self.name_of(suspicion.server), describe(suspicion.failure));
        tracing::warn!("server {name} is ejected for {:?}: {why}", Duration::from_millis(time.into()));
        self.refresh();
    }

    /// Keeps why a server fails its TLS handshakes, and says so when it is news.
    pub(super) fn on_trouble(&mut self, Trouble { server, sentence }: Trouble) {
        if self.state.entry_of(server).is_none() || self.troubles.get(&server) == Some(&sentence) {
            return;
        }
        tracing::warn!("server {}: {sentence}", self.name_of(server));
        self.troubles.insert(server, sentence);
    }

    /// Does what time alone brings about: ends ejections, steps of slow starts and holds, closes connections.
    pub(in crate::control) fn on_time(&mut self) {
        let now = self.now();
        if earlier(self.running.until(), self.closings.next()).is_none_or(|next| next > now) {
            return;
        }
        for server in self.availability.on_time(now) {
            self.count_health_change(server);
            tracing::info!("server {} is not ejected any more", self.name_of(server));
            self.forgive(server);
        }
        self.refresh();
    }

    fn count_health_change(&self, server: ServerId) {
        if let Some(load) = self.running.load_of(server) {
            load.health_changes.add(1);
        }
    }

    /// Lets the count of a server's failures begin anew.
    fn forgive(&self, server: ServerId) {
        if let Some(load) = self.running.load_of(server) {
            load.connect_failures.end();
            load.resets.end();
        }
    }

    /// Brings what runs in line with the servers that are available.
    fn refresh(&mut self) {
        let now = self.now();
        let running = self.factory.build(&self.state, &self.running, &self.availability, now);
        // Listeners and policies are all there already, so nothing can be refused.
        let Ok(running) = running else { return };
        let is_due = self.closings.next().is_some_and(|next| next <= now);
        if is_due || running.changed_since(&self.running).next().is_some() {
            // Fails only when the balancer stops.
            let _ = self.put_into_effect(running);
        } else {
            running.plan_closings(&self.running, &mut self.closings, now);
            self.running = running;
        }
    }

    /// A server's name with its frontend's, for the log.
    pub(super) fn name_of(&self, server: ServerId) -> String {
        let Some(entry) = self.state.entry_of(server) else { return "that was removed".to_owned() };
        let mut servers = entry.server_ids.iter().zip(entry.frontend.servers());
        let name =
            servers.find(|(id, _)| **id == server).map_or_else(String::new, |(_, server)| server.name().to_string());
        format!("{name} of {}", entry.frontend.name())
    }
}
