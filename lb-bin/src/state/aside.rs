//! Setting a state file aside under a dated name, and telling of it. Nothing is ever deleted.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lb_core::config::Mode;

use super::disk;
use super::format::Kept;

/// Most lines of the log that list a replaced state.
const LISTED_MAX: usize = 50;

/// Sets aside a state that went with another text of the configuration, and lists in the log what it held.
///
/// # Errors
/// It could not be moved and is still in place: says so in one sentence, which is in the log already.
pub(super) fn replaced(path: &Path, config: &Path, kept: &Kept) -> Result<(), String> {
    let moved = set_aside(path, "replaced")?;
    tracing::warn!(
        "{} was edited since the last change, so it is used; the state up to revision {} is kept in {}, and held:",
        config.display(),
        kept.revision,
        moved.display(),
    );
    for line in listing(kept) {
        tracing::warn!("{line}");
    }
    Ok(())
}

/// Sets aside a state that can't be read.
///
/// # Errors
/// See [`replaced`].
pub(super) fn damaged(path: &Path, reason: &str) -> Result<(), String> {
    tracing::error!("the state file {} is damaged: {reason}", path.display());
    let moved = set_aside(path, "damaged")?;
    tracing::error!("it is kept in {}; the configuration is used without run-time changes", moved.display());
    Ok(())
}

fn set_aside(path: &Path, why: &str) -> Result<PathBuf, String> {
    let to = free_name(path, &format!("{why}-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    match fs::rename(path, &to) {
        Ok(()) => {
            // Syncing is for the next save to insist on; here the file merely has another name.
            let _ = disk::sync_folder(path);
            Ok(to)
        }
        Err(error) => {
            let reason = format!(
                "{} can't be set aside ({error}): changes can't be kept until it is moved and lb started again",
                path.display()
            );
            tracing::error!("{reason}");
            Err(reason)
        }
    }
}

/// `<path>.<suffix>`, or with `-2`, `-3`… after it if that is taken.
fn free_name(path: &Path, suffix: &str) -> PathBuf {
    let plain = crate::paths::with_suffix(path, &format!(".{suffix}"));
    let numbered = (2_u32..).map(|number| crate::paths::with_suffix(&plain, &format!("-{number}")));
    let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    std::iter::once(plain.clone()).chain(numbered).find(is_free).unwrap_or(plain)
}

fn listing(kept: &Kept) -> Vec<String> {
    let certificates = kept.certificates.iter().map(|certificate| {
        let kind = certificate.content().kind();
        format!("certificate {}, a {kind}", certificate.name())
    });
    let frontends = kept.frontends.iter().flat_map(|frontend| {
        let title = format!("frontend {} at {}, {}", frontend.name(), frontend.bind(), frontend.policy());
        let servers = frontend.servers().iter().map(|server| {
            let mode = match server.mode() {
                Mode::Enabled => "",
                Mode::Drain(_) => ", drains",
                Mode::Disabled => ", disabled",
            };
            let kind = if server.is_passive() { ", passive" } else { "" };
            format!("  server {} at {}, weight {}{kind}{mode}", server.name(), server.addr(), server.weight())
        });
        std::iter::once(title).chain(servers).collect::<Vec<_>>()
    });
    let mut lines: Vec<String> = certificates.chain(frontends).collect();
    if lines.len() > LISTED_MAX {
        let more = lines.len() - LISTED_MAX;
        lines.truncate(LISTED_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use lb_core::config::{Bind, Frontend, Server};

    use super::*;
    use crate::state::Base;

    #[test]
    fn a_taken_name_gets_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.ron.state");
        let name = |end: &str| folder.path().join(format!("lb.ron.state.damaged-1{end}"));
        for end in ["", "-2", "-3"] {
            assert_eq!(free_name(&path, "damaged-1"), name(end));
            fs::write(name(end), "").unwrap();
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let addr = "127.0.0.1:9000".parse().unwrap();
        let mut frontend = Frontend::new("web", Bind::Addr(addr)).unwrap();
        for number in 0..100 {
            frontend = frontend.with_server(Server::new(&format!("app{number}"), addr).unwrap());
        }
        let (base, certificates, history) = (Base::default(), Vec::new(), Vec::new());
        let (revision, persistence_key, frontends) = (1, None, vec![frontend]);
        let kept = Kept { revision, base, persistence_key, certificates, frontends, history };
        let lines = listing(&kept);
        assert_eq!(lines[0], "frontend web at 127.0.0.1:9000, round_robin");
        assert_eq!(lines[1], "  server app0 at 127.0.0.1:9000, weight 1");
        assert_eq!((lines.len(), lines[50].as_str()), (51, "and 51 more"));
    }
}
