//! What is generated from the definition of the command line: completion scripts and manual pages.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Writes the completion script of `shell` to `out`.
///
/// # Errors
/// When `out` takes no more.
pub fn completion(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weft", &mut script);
    out.write_all(&script)
}

/// Writes `weft.1` and one page for each verb into `folder`, which is made when it is not there.
///
/// # Errors
/// When a page cannot be written.
pub fn man(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completion(shell, &mut script).expect("a vector takes everything");
            let script = String::from_utf8(script).expect("scripts are text");
            for word in ["apply", "mapserver", "runtime-dir"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        man(folder.path()).expect("pages");
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let page =
                std::fs::read_to_string(folder.path().join(format!("weft-{}.1", verb.get_name()))).expect("a page");
            assert!(page.contains(".SH SYNOPSIS"), "{}", verb.get_name());
        }
        assert!(folder.path().join("weft.1").exists());
    }
}
