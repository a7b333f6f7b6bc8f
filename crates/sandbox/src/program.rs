//! What an executable needs from the system it was built on, so that it can be run in another.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::sync::OnceCell;

use crate::launch::plan::Program;
use crate::{Launcher, SandboxError};

/// What the launcher's executable needs, found out once: it does not change while the server runs.
#[derive(Default)]
pub(crate) struct Needs(OnceCell<Program>);

impl Needs {
    /// As [`needs`], remembered.
    pub(crate) async fn of(&self, launcher: &Launcher) -> Result<&Program, SandboxError> {
        let look = || async {
            let launcher = launcher.clone();
            let found = tokio::task::spawn_blocking(move || needs(&launcher)).await;
            found.map_err(|e| SandboxError::lost(e.to_string()))?
        };
        self.0.get_or_try_init(look).await
    }
}

/// Asks the executable's own loader which files it loads. A static executable has none and says so
/// by running: started by hand, without a control socket, it ends at once.
///
/// # Errors
/// It cannot be run, or a library is missing.
fn needs(launcher: &Launcher) -> Result<Program, SandboxError> {
    let output = Command::new(&launcher.program)
        .args(&launcher.args)
        .env_clear()
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(SandboxError::host("asking for the agent's libraries"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).map_err(|missing| SandboxError::Start {
        stage: "launch".to_owned(),
        detail: format!("the agent's library {missing} is missing"),
    })
}

/// Lines are `name => /path (address)`, `/path (address)` for the loader, or a name without a file
/// for what the kernel brings.
fn parse(text: &str) -> Result<Program, String> {
    let mut program = Program::default();
    for line in text.lines() {
        let line = line.trim();
        let path = |s: &str| s.split(" (").next().map(|p| PathBuf::from(p.trim()));
        match line.split_once(" => ") {
            Some((name, found)) if found.trim() == "not found" => return Err(name.to_owned()),
            Some((_, found)) => program.libraries.extend(path(found)),
            None if line.starts_with('/') => program.interpreter = path(line),
            None => {}
        }
    }
    Ok(program)
}

/// The command line that runs a program shown at `dir` with its own loader.
pub(crate) fn command_line(program: &Program, dir: &str, args: &[String]) -> Vec<String> {
    use crate::launch::plan::{LIBRARIES, LOADER, PROGRAM};
    let at = |name: &str| Path::new(dir).join(name).to_string_lossy().into_owned();
    let mut line = match program.interpreter {
        Some(_) => vec![
            at(LOADER),
            "--library-path".to_owned(),
            at(LIBRARIES),
            at(PROGRAM),
        ],
        None => vec![at(PROGRAM)],
    };
    line.extend(args.iter().cloned());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_answer_is_understood() {
        let found = parse(
            "\tlinux-vdso.so.1 (0x00007f63be3b5000)\n\
             \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f63bdb3e000)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x00007f63be3b7000)\n",
        )
        .unwrap();
        assert_eq!(
            found.libraries,
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6")]
        );
        assert_eq!(
            found.interpreter.as_deref(),
            Some(Path::new("/lib64/ld-linux-x86-64.so.2"))
        );
        assert_eq!(parse("libx.so => not found\n").unwrap_err(), "libx.so");
        // A static program prints something of its own.
        assert!(
            parse("this command is started by the server, not by hand\n")
                .unwrap()
                .interpreter
                .is_none()
        );
    }
}
