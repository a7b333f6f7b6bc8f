//! Commands that a shell would wait for the rest of: an open quote, bracket or here-document. The
//! running shell would swallow the line that ends the call and sit there until the time is over, so
//! such a command is refused with bash's own words, as soon as it comes.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Settings, shell};

/// Longest command that is looked at, bytes; one argument of a program can have 128 KiB.
const MAX_COMMAND: usize = 100_000;
/// Most of bash's complaint that is passed on, bytes.
const MAX_COMPLAINT: u64 = 4_096;
/// What bash says when it wants more.
const WANTS_MORE: [&str; 2] = ["unexpected EOF while looking for", "unexpected end of file"];

/// What bash has to say about `command` if it is unfinished.
pub(super) fn complaint(command: &str, settings: &Settings) -> Option<String> {
    if command.len() > MAX_COMMAND || command.contains('\0') || !may_be_unfinished(command) {
        return None;
    }
    let mut child = Command::new(shell::PROGRAM)
        // Options of the running shell are not known here; this one adds the most syntax.
        .args(["--noprofile", "--norc", "-n", "-O", "extglob", "-c"])
        .arg(format!("{{ {command}\n}} </dev/null"))
        .env_clear()
        .envs(settings.env.iter().map(|(name, value)| (name, value)))
        .env_remove("BASH_ENV")
        .arg0("bash")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut said = Vec::new();
    let heard = child.stderr.take().map(|err| err.take(MAX_COMPLAINT).read_to_end(&mut said));
    // Only parses, so it ends by itself; its status says no more than its words.
    let _ = child.wait();
    heard?.ok()?;
    let said = String::from_utf8_lossy(&said);
    WANTS_MORE.iter().any(|words| said.contains(words)).then(|| said.trim_end().to_owned())
}

/// Whether it is worth asking bash. Wrong guesses cost time only: too many a process, too few the
/// wait that the reference has too.
fn may_be_unfinished(command: &str) -> bool {
    let count = |wanted: char| command.matches(wanted).count();
    let word = |wanted: &str| {
        command.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == wanted)
    };
    ['"', '\'', '`'].into_iter().any(|quote| count(quote) % 2 == 1)
        || count('(') != count(')')
        || count('{') != count('}')
        || command.contains("<<")
        || command.contains("[[")
        || command.trim_end().ends_with(['\\', '|', '&'])
        || ["if", "for", "while", "until", "case", "select"].into_iter().any(word)
}
