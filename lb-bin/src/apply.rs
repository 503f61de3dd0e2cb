//! Putting a whole configuration file into effect.

use std::path::{Path, PathBuf};

use lb_core::config::Config;
use lb_core::{Applied, Control, Options, Refused};

use crate::state::StateFile;

/// Applies the text of the file that the balancer was started with: from then on the kept state goes with this text,
/// so that a restart does not take the file for edited.
pub(crate) async fn own_file(
    control: &Control,
    state: &StateFile,
    hash: u64,
    config: Config,
    options: Options,
) -> Result<Applied, Refused> {
    if options.dry_run {
        return control.replace(config, options).await;
    }
    let ticket = state.expect(hash, &config);
    let applied = control.replace(config, options).await;
    state.settle(ticket, applied.as_ref().ok().map(|applied| applied.revision));
    applied
}

/// The path by which a configuration file is recognised. The file itself may be a link that changes its target, as
/// mounted configurations are, so only its folder is resolved.
pub(crate) fn identity(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_recognised_however_its_path_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("lb.ron");
        assert_eq!(identity(&plain), identity(&folder.path().join(".").join("lb.ron")));
        assert_ne!(identity(&plain), identity(&folder.path().join("other.ron")));
        assert_eq!(
            identity(Path::new("lb.ron")),
            std::env::current_dir().unwrap().canonicalize().unwrap().join("lb.ron")
        );
    }
}
