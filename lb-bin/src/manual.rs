//! What the program writes about itself: manual pages and completions, both made of the command line's own description.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::aot::{Bash, Fish, Zsh, generate};
use clap_mangen::Man;

use crate::cli::{Cli, ShellName};

/// Writes lb(1), and with a folder one page for each command into it.
///
/// # Errors
/// The folder can't be written.
pub fn manual(folder: Option<&Path>) -> Result<(), String> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command()).render(&mut page).map_err(|error| error.to_string())?;
        return show(&page);
    };
    let fault = |error: io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(fault)?;
    clap_mangen::generate_to(command(), folder).map_err(fault)
}

/// Writes what makes a shell complete the commands of `lb`.
///
/// # Errors
/// Standard output can't be written.
pub fn completion(shell: ShellName) -> Result<(), String> {
    let mut script = Vec::new();
    match shell {
        ShellName::Bash => generate(Bash, &mut command(), "lb", &mut script),
        ShellName::Zsh => generate(Zsh, &mut command(), "lb", &mut script),
        ShellName::Fish => generate(Fish, &mut command(), "lb", &mut script),
    }
    show(&script)
}

fn command() -> Command {
    // Every command has a page of its own, so that `help` needs none.
    Cli::command().disable_help_subcommand(true)
}

fn show(text: &[u8]) -> Result<(), String> {
    match io::stdout().write_all(text) {
        // A reader that closed early, as `head` does, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        manual(Some(&pages)).unwrap();
        for name in ["lb", "lb-run", "lb-server", "lb-server-add", "lb-log-level", "lb-manual"] {
            let page = fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        }
        let page = fs::read_to_string(pages.join("lb.1")).unwrap();
        assert!(page.contains("lb\\-server(1)") && page.contains("Exit codes"), "{page}");
    }
}
