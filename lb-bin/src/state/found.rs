//! What a state file has for a start. Looking changes nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use lb_core::config::{Config, Name};

use super::format::{Base, Kept, parse_state};
use crate::paths::with_suffix;

/// What was found in the place of a state file.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// It goes with the configuration. These certificates are those of their files, which have changed since.
    Current {
        kept: Kept,
        renewed: Vec<Name>,
    },
    /// It goes with another text of the configuration.
    Outdated(Kept),
    /// It can't be read: why.
    Damaged(String),
}

impl Found {
    /// Looks at the state of the configuration at `path`, whose text has the hash `text`, and which was read as `config`.
    pub(crate) fn look(path: &Path, text: u64, config: &Config) -> Self {
        match load(&with_suffix(path, ".state")) {
            Ok(None) => Self::Nothing,
            Ok(Some(mut kept)) if kept.base.text == text => {
                let renewed = renew(&mut kept, config);
                Self::Current { kept, renewed }
            }
            Ok(Some(kept)) => Self::Outdated(kept),
            Err(reason) => Self::Damaged(reason),
        }
    }

    /// What is started with: the configuration, with the certificates and frontends of a state that goes with it. The key
    /// that cookies were made with stays the same whatever becomes of the rest.
    pub(crate) fn merged(&self, config: &Config) -> Config {
        let mut merged = config.clone();
        if let Self::Current { kept, .. } | Self::Outdated(kept) = self {
            merged.persistence_key = merged.persistence_key.or_else(|| kept.persistence_key.clone());
        }
        if let Self::Current { kept, .. } = self {
            merged.certificates.clone_from(&kept.certificates);
            merged.frontends.clone_from(&kept.frontends);
        }
        merged
    }
}

fn load(path: &Path) -> Result<Option<Kept>, String> {
    match fs::read(path) {
        Ok(bytes) => parse_state(&bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes certificates from the configuration that it has otherwise than when it was last read: their files were renewed.
/// Those that were removed at run time stay removed. Says which it took.
fn renew(kept: &mut Kept, config: &Config) -> Vec<Name> {
    let base = Base::new(kept.base.text, config);
    let mut renewed = Vec::new();
    for certificate in &config.certificates {
        let name = certificate.name();
        if kept.base.read.get(name) == base.read.get(name) {
            continue;
        }
        let present = kept.certificates.iter_mut().find(|present| present.name() == name);
        if let Some(present) = present.filter(|present| *present != certificate) {
            *present = certificate.clone();
            renewed.push(name.clone());
        }
    }
    renewed
}
