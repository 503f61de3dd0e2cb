//! The token that opens the console: made at the first start, kept beside the configuration.

use std::fmt::{self, Write};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::{constant_time, rand};
use serde::{Deserialize, Serialize};

use crate::paths::with_suffix;

/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;

/// A secret in hexadecimal digits. No `Debug` shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl Token {
    /// A new one, of 256 random bits.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn random() -> Result<Self, String> {
        let mut bytes = [0; SECRET_BYTES];
        rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(Self(hex(&bytes).into()))
    }

    /// The digits. They must not be shown to anybody else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether somebody knows it. The time that takes tells nothing of it.
    pub(super) fn is(&self, said: &str) -> bool {
        same(&self.0, said)
    }

    /// The token of the configuration at `config`: the one that its file has, or a new one.
    ///
    /// # Errors
    /// The file can't be read or made, or others can read it: one sentence that names it.
    pub(super) fn of_config(config: &Path) -> Result<Self, String> {
        if let Some(token) = Self::find(config)? {
            return Ok(token);
        }
        let (path, token) = (file_of(config), Self::random()?);
        token.keep(&path).map_err(|error| format!("the console's token, {}: {error}", path.display()))?;
        tracing::info!("the console's token is made: {}", path.display());
        Ok(token)
    }

    /// The token that the file of the configuration at `config` has, if there is one.
    ///
    /// # Errors
    /// The file can't be read, or others can read it: one sentence that names it.
    pub(super) fn find(config: &Path) -> Result<Option<Self>, String> {
        let path = file_of(config);
        let found = match File::open(&path) {
            Ok(file) => Self::read(file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        found.map_err(|reason| format!("{}: {reason}", path.display()))
    }

    fn read(file: File) -> Result<Self, String> {
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if metadata.mode() & 0o077 != 0 {
            return Err(
                "others may read the console's token: remove the file for a new one, or chmod 600 it".to_owned()
            );
        }
        let mut text = String::new();
        file.take(1024).read_to_string(&mut text).map_err(|error| error.to_string())?;
        let digits = text.trim_end();
        let is_token = digits.len() == 2 * SECRET_BYTES && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_token {
            return Err("this is no token of 64 hexadecimal digits: remove the file for a new one".to_owned());
        }
        Ok(Self(digits.into()))
    }

    /// Nobody else may read the file from its first moment on, and at no moment half a token is in it.
    fn keep(&self, path: &Path) -> io::Result<()> {
        let temporary: PathBuf = with_suffix(path, ".tmp");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        writeln!(file, "{}", self.0)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    }
}

fn file_of(config: &Path) -> PathBuf {
    with_suffix(config, ".console-token")
}

/// Whether two secrets are the same. The time that takes tells nothing but their length, which everybody knows.
pub(super) fn same(secret: &str, said: &str) -> bool {
    constant_time::verify_slices_are_equal(secret.as_bytes(), said.as_bytes()).is_ok()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("lb.ron");
        let token = Token::of_config(&config).unwrap();
        assert_eq!(token.expose().len(), 64);
        let path = folder.path().join("lb.ron.console-token");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Token::of_config(&config), Ok(token.clone()));
        assert_ne!(Token::random(), Ok(token));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("lb.ron");
        let path = folder.path().join("lb.ron.console-token");
        Token::of_config(&config).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::of_config(&config).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "short", &"g".repeat(64), &"a".repeat(2000)] {
            fs::write(&path, text).unwrap();
            assert!(Token::of_config(&config).unwrap_err().contains("remove the file"), "{text}");
        }
    }

    #[test]
    fn only_the_same_secret_is_the_same_and_none_is_shown() {
        let token = Token::random().unwrap();
        assert!(token.is(token.expose()));
        for other in ["", "0", &token.expose()[1..], &format!("{}0", token.expose()), &token.expose().to_uppercase()] {
            assert!(!token.is(other) || other == token.expose(), "{other}");
        }
        assert_eq!(format!("{token:?}"), "[secret]");
    }
}
