//! The password that opens the console: a file has what it is recognised by, not the password itself.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::{pbkdf2, rand};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::terminal;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;

use super::token::hex;

/// What a line of the file begins with.
const SCHEME: &str = "pbkdf2-sha256";
/// Rounds for a new password. A guess takes about as long as a person does not notice.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("it is not 0");
/// Most rounds that are done for somebody who is not logged in.
const ROUNDS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Fewest and most bytes of a password.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=1024;

/// What a password is recognised by, slowly, so that who has read it can't try many.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl Password {
    /// Reads the file that `lb console password` has made the line of.
    ///
    /// # Errors
    /// It can't be read or has no such line: one sentence that names it.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let fault = |reason: &str| format!("the console's password_file, {}: {reason}", path.display());
        let text = fs::read_to_string(path).map_err(|error| fault(&error.to_string()))?;
        if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
            tracing::warn!("{}", fault("others may read it and try passwords: chmod 600 it"));
        }
        let parsed = Self::parse(text.trim()).filter(|password| password.rounds.get() <= ROUNDS_MAX);
        parsed.ok_or_else(|| fault("it has no password's line: `lb console password` makes one"))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split('$');
        let (scheme, rounds, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (salt, hash) = (bytes(salt)?, bytes(hash)?);
        let is_whole =
            scheme == SCHEME && parts.next().is_none() && salt.len() == SALT_BYTES && hash.len() == HASH_BYTES;
        if is_whole { Some(Self { rounds: rounds.parse().ok()?, salt, hash }) } else { None }
    }

    /// Whether somebody knows it. Takes a noticeable time, the same for every answer.
    pub(super) fn is(&self, said: &str) -> bool {
        LENGTH.contains(&said.len())
            && pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, self.rounds, &self.salt, said.as_bytes(), &self.hash).is_ok()
    }
}

/// Most logins that are looked at or wait for it.
const LOGINS_MAX: usize = 16;

/// The password for whoever logs in. It is checked for one at a time: who guesses takes the time of one core at most.
#[derive(Debug)]
pub(super) struct Gate {
    password: Password,
    /// Who logs in holds one, so that not everybody who is talked to waits here.
    places: Semaphore,
    /// Who has a password checked holds it.
    turn: Arc<Mutex<()>>,
}

impl Gate {
    pub(super) fn new(password: Password) -> Self {
        Self { password, places: Semaphore::new(LOGINS_MAX), turn: Arc::default() }
    }

    /// Whether somebody knows the password; `None` if too many are waiting. It is checked on a thread of its own, as that takes
    /// longer than the one that serves everybody may be held up.
    pub(super) async fn opens(&self, said: String) -> Option<bool> {
        let _place = self.places.try_acquire().ok()?;
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let password = self.password.clone();
        let check = move || {
            let known = password.is(&said);
            // Not before: a client that leaves does not end the check.
            drop(turn);
            known
        };
        Some(spawn_blocking(check).await.unwrap_or(false))
    }
}

/// The line by which a password is recognised.
///
/// # Errors
/// The password is too short or too long, or the system gives no randomness.
pub(crate) fn line(password: &str) -> Result<String, String> {
    if !LENGTH.contains(&password.len()) {
        return Err(format!("a password of {} to {} bytes is wanted", LENGTH.start(), LENGTH.end()));
    }
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt).map_err(|_| "the system gives no random bytes".to_owned())?;
    let mut hash = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, password.as_bytes(), &mut hash);
    Ok(format!("{SCHEME}${ROUNDS}${}${}", hex(&salt), hex(&hash)))
}

/// Reads a password: a line of standard input, or from a terminal twice, without showing it.
///
/// # Errors
/// It can't be read, or is not the same twice.
pub(crate) fn read() -> Result<String, String> {
    let fault = |error: io::Error| format!("the password can't be read: {error}");
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(fault)?;
        return Ok(line.trim_end_matches(['\n', '\r']).to_owned());
    }
    let first = read_hidden("Password: ").map_err(fault)?;
    let second = read_hidden("Once more: ").map_err(fault)?;
    if first == second { Ok(first) } else { Err("these are two different passwords".to_owned()) }
}

fn read_hidden(prompt: &str) -> io::Result<String> {
    eprint!("{prompt}");
    terminal::enable_raw_mode()?;
    let read = read_keys();
    terminal::disable_raw_mode()?;
    eprintln!();
    read
}

fn read_keys() -> io::Result<String> {
    let mut typed = String::new();
    loop {
        let Event::Key(KeyEvent { code, modifiers, .. }) = event::read()? else { continue };
        match code {
            KeyCode::Enter => return Ok(typed),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            KeyCode::Char(char) => typed.push(char),
            _ => {}
        }
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    if is_hex { (0..digits.len()).step_by(2).map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_recognised_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.password");
        let made = line("correct horse battery").unwrap();
        fs::write(&path, format!("{made}\n")).unwrap();
        let password = Password::of_file(&path).unwrap();
        assert!(password.is("correct horse battery"));
        assert!(!password.is("correct horse batterx") && !password.is(""));
        assert!(!made.contains("horse") && format!("{password:?}") == "[secret]");
    }

    #[test]
    fn passwords_are_checked_one_at_a_time_also_for_clients_that_leave() {
        let gate = Gate::new(Password::parse(&line("correct horse battery").unwrap()).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut leaves = Box::pin(gate.opens("correct horse battery".to_owned()));
            assert_eq!(futures_lite::future::poll_once(&mut leaves).await, None);
            drop(leaves);
            assert!(gate.turn.try_lock().is_err(), "its check goes on");
            assert_eq!(gate.opens("correct horse battery".to_owned()).await, Some(true));
            assert_eq!(gate.opens("correct horse batterx".to_owned()).await, Some(false));
            let _waiting = gate.places.try_acquire_many(LOGINS_MAX as u32).unwrap();
            assert_eq!(gate.opens("correct horse battery".to_owned()).await, None);
        });
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let good = line("correct horse battery").unwrap();
        let many = good.replace("600000", "99999999");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.password");
        for text in ["", "correct horse battery", &good[1..], &good[..good.len() - 2], &format!("{good}$"), &many] {
            fs::write(&path, text).unwrap();
            assert!(Password::of_file(&path).unwrap_err().contains("`lb console password`"), "{text}");
        }
        assert!(Password::of_file(&folder.path().join("gone")).unwrap_err().contains("No such file"));
        assert!(line("short").is_err() && line(&"x".repeat(1025)).is_err());
    }
}
