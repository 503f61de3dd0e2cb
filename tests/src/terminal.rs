//! A terminal, by tmux: a shell in a window of any size, its keys and its screen.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::program::succeeds;
use crate::{lb_path, wait};

/// A window with a shell in it, gone when dropped.
#[derive(Debug)]
pub struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// A shell in a window of this size.
    ///
    /// # Panics
    /// If tmux is missing.
    pub fn open(width: u16, height: u16) -> Self {
        let terminal = Self { folder: TempDir::with_prefix("lb-test-tmux-").unwrap() };
        let (width, height) = (width.to_string(), height.to_string());
        let new = ["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, "env", "PS1=shell> ", "sh"];
        terminal.tmux(&new);
        terminal.until("the shell is there", |screen| screen.contains("shell>"));
        terminal
    }

    /// Types a line of shell, with `lb` for the program.
    pub fn run(&self, line: &str) {
        let line = line.replace("lb ", &format!("{} ", lb_path().display()));
        self.tmux(&["send-keys", "-l", &line]);
        self.keys("Enter");
    }

    /// Types keys by the names that tmux has for them: `q`, `Down`, `PageUp`.
    pub fn keys(&self, names: &str) {
        names.split(' ').for_each(|name| drop(self.tmux(&["send-keys", name])));
    }

    /// What the window shows, without colours.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What the window shows, with what sets its colours.
    pub fn coloured_screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Gives the screen as soon as `shows` holds of it.
    ///
    /// # Panics
    /// If it never does.
    pub fn until(&self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let last = std::cell::RefCell::new(String::new());
        let what = format!("{what} is on the screen");
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_some(&what, || {
                *last.borrow_mut() = self.screen();
                shows(&last.borrow()).then(|| last.borrow().clone())
            })
        }));
        found.unwrap_or_else(|panic| {
            println!("the screen is:\n{}", last.borrow());
            std::panic::resume_unwind(panic)
        })
    }

    /// Gives the window another size.
    pub fn resize(&self, width: u16, height: u16) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// What the shell in it prints as the output of a command, when it is at its prompt again.
    pub fn output(&self, command: &str) -> String {
        let path = self.path("output");
        let done = self.path("done");
        self.run(&format!("{command} > {} 2>&1; touch {}", path.display(), done.display()));
        wait::until("the shell has run a command", || done.exists());
        fs::remove_file(done).unwrap();
        fs::read_to_string(path).unwrap()
    }

    /// True if a program has taken the whole window, or hides the cursor, or gets keys as they are typed.
    pub fn is_taken(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}#{cursor_flag}"]).trim() != "01"
    }

    /// A path in a folder of this terminal.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        succeeds(Command::new("tmux").arg("-u").arg("-S").arg(self.path("tmux")).args(arguments))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        // It has ended if its shell has.
        let _ = command.arg("-S").arg(self.path("tmux")).arg("kill-server").output();
    }
}
