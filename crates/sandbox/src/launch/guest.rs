//! The first process of a virtual machine: from the initramfs to the staged tree, and a control
//! socket whose other end is the machine's serial port. It stays as pid 1 and carries bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Dev, FileType, Mode};
use rustix::mount::MountFlags;
use rustix::process::{Pid, WaitOptions};

use super::init;
use super::keep::Control;

/// Made by `microvm`; what tells that this is its guest.
pub(crate) const MARKER: &str = "/freehold-guest";
/// Kernel modules in the order in which they are to be loaded.
pub(crate) const MODULES: &str = "/modules";
/// The name of the tree's file system.
pub(crate) const TREE_TAG: &str = "tree";
/// What the control port's name in `/dev` begins with; the numbers that follow depend on the order
/// of devices.
const PORT: &str = "vport";
/// Where the tree is mounted before it becomes the root.
const TREE: &str = "/tree";
/// How long devices may take to appear.
const DEVICES: Duration = Duration::from_secs(60);
/// How often that is looked at.
const STEP: Duration = Duration::from_millis(5);
/// `MODULE_INIT_COMPRESSED_FILE`.
const COMPRESSED: libc::c_int = 4;
/// Bytes carried at a time.
const CHUNK: usize = 64 * 1024;

/// Devices a sandbox has: name, major, minor.
const DEVICES_INSIDE: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Whether this process is the first of such a machine.
pub(super) fn here() -> bool {
    rustix::process::getpid().as_raw_nonzero().get() == 1 && Path::new(MARKER).exists()
}

/// Returns in a child, with the control socket; pid 1 carries its bytes until either side ends, and
/// then stops the machine. What fails here ends it too: the host sees the port close.
pub(super) fn enter() -> Control {
    let (port, ours, theirs) = match prepare() {
        Ok(ready) => ready,
        Err(e) => stop(&format!("freehold: the guest cannot start: {e}")),
    };
    match init::fork() {
        Ok(Some(child)) => {
            drop(theirs);
            carry(port, ours, child)
        }
        Ok(None) => {
            drop((port, ours));
            match control(theirs) {
                Ok(control) => control,
                Err(e) => stop(&format!("freehold: {e}")),
            }
        }
        Err(e) => stop(&format!("freehold: the guest cannot fork: {e}")),
    }
}

fn control(socket: UnixStream) -> io::Result<Control> {
    let reader = File::from(OwnedFd::from(socket));
    let writer = reader.try_clone()?;
    Ok(Control { reader, writer })
}

fn prepare() -> io::Result<(File, UnixStream, UnixStream)> {
    mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "")?;
    load_modules()?;
    let port = wait_for_port()?;
    fs::create_dir_all(TREE)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(TREE_TAG, TREE, "virtiofs", flags, "")?;
    // What `switch_root` does: the initramfs cannot be pivoted away from, only covered.
    std::env::set_current_dir(TREE)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")?;
    let (ours, theirs) = UnixStream::pair()?;
    Ok((port, ours, theirs))
}

/// What the tree leaves to the machine: `/proc`, `/dev`, `/tmp`.
pub(super) fn mount_own(tmp_bytes: u64) -> io::Result<()> {
    let hard = MountFlags::NOSUID | MountFlags::NODEV;
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "proc",
        "/proc",
        "proc",
        hard | no_exec,
        "hidepid=invisible,subset=pid",
    )?;
    mount("dev", "/dev", "tmpfs", no_exec, "mode=755,size=64k")?;
    for (name, major, minor) in DEVICES_INSIDE {
        let at = Path::new("/dev").join(name);
        let mode = Mode::from_raw_mode(0o666);
        let device: Dev = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, &at, FileType::CharacterDevice, mode, device)?;
        rustix::fs::chmodat(CWD, &at, mode, rustix::fs::AtFlags::empty())?;
    }
    for (name, target) in super::devices::LINKS {
        rustix::fs::symlinkat(target, CWD, Path::new("/dev").join(name))?;
    }
    for dir in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(dir)?;
    }
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        no_exec,
        "mode=0620,ptmxmode=0666,gid=5",
    )?;
    mount(
        "shm",
        "/dev/shm",
        "tmpfs",
        hard,
        "mode=1777,size=64m,nr_inodes=10000",
    )?;
    let tmp = format!("mode=1777,size={tmp_bytes},nr_inodes=100000");
    mount("tmp", "/tmp", "tmpfs", hard, &tmp)
}

fn mount(source: &str, at: &str, kind: &str, flags: MountFlags, data: &str) -> io::Result<()> {
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount(source, at, kind, flags, Some(data.as_c_str()))
        .map_err(|e| io::Error::other(format!("{at}: {e}")))
}

fn load_modules() -> io::Result<()> {
    let mut files: Vec<_> = match fs::read_dir(MODULES) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        // A kernel that has everything built in.
        Err(_) => return Ok(()),
    };
    files.sort();
    for path in files {
        let file = File::open(&path)?;
        let plain = path.extension().is_some_and(|e| e == "ko");
        let flags = if plain { 0 } else { COMPRESSED };
        // SAFETY: the descriptor is open and the string of parameters is a static C string.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_finit_module,
                file.as_raw_fd(),
                c"".as_ptr(),
                flags,
            )
        };
        let error = io::Error::last_os_error();
        if rc != 0 && error.raw_os_error() != Some(libc::EEXIST) {
            return Err(io::Error::other(format!("{}: {error}", path.display())));
        }
    }
    Ok(())
}

/// The port is made when the host's side has introduced it.
fn wait_for_port() -> io::Result<File> {
    let start = Instant::now();
    loop {
        for entry in fs::read_dir("/dev")? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PORT) {
                return File::options().read(true).write(true).open(entry.path());
            }
        }
        if start.elapsed() > DEVICES {
            return Err(io::Error::other("the control port did not appear"));
        }
        std::thread::sleep(STEP);
    }
}

/// Carries bytes both ways and reaps orphans until the agent or the host ends.
fn carry(port: File, agent: UnixStream, child: Pid) -> ! {
    let ways = (|| {
        let (from_port, to_agent) = (port.try_clone()?, agent.try_clone()?);
        std::thread::Builder::new().spawn(move || copy(from_port, to_agent))?;
        std::thread::Builder::new().spawn(move || copy(agent, port))
    })();
    if let Err(e) = ways {
        stop(&format!("freehold: {e}"));
    }
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid == child => stop("freehold: the agent ended"),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => stop(&e.to_string()),
        }
    }
}

/// One way. The end of either side is the end of the machine.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    stop("freehold: one side has gone")
}

/// Ends the machine; its monitor takes a reboot for the end.
fn stop(why: &str) -> ! {
    if !why.is_empty() {
        // For whoever gave the machine a console to look at.
        eprintln!("{why}");
    }
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    std::process::exit(1)
}
