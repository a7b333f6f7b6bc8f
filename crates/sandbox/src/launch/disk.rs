//! A file system of the sandbox's own in an image file: a limit on bytes and files where the host's
//! file system knows none, deletion in one step, and mounts that say nothing of the host.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::plan::SpareDisk;

/// `LOOP_CTL_GET_FREE`, `LOOP_CONFIGURE` and `LO_FLAGS_AUTOCLEAR` of `linux/loop.h`.
const GET_FREE: libc::Ioctl = 0x4C82;
const CONFIGURE: libc::Ioctl = 0x4C0A;
const AUTOCLEAR: u32 = 4;
/// Tries for a loop device that others do not snatch away.
const TRIES: u32 = 64;
/// Bytes a disk may have in memory, still to be written.
const UNWRITTEN: u64 = 64 << 20;
/// How often the end of an earlier use of an image is looked for; the host sets the limit.
const STEP: Duration = Duration::from_millis(5);

/// `struct loop_config`: the image, the block size, `struct loop_info64`, and room to grow.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `struct loop_info64`; only flags and name are given.
#[repr(C)]
struct Info {
    numbers: [u64; 5],
    number: u32,
    encrypt: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

/// Mounts the image at `path`, made from `template` if it is not there.
pub(crate) fn mount(path: &Path, template: &Path) -> io::Result<OwnedFd> {
    if path.exists() {
        wait_until_unused(path);
    } else {
        copy(template, path)?;
    }
    mount_unused(path)
}

/// Makes an image, whole or not at all.
pub(crate) fn copy(template: &Path, to: &Path) -> io::Result<()> {
    let half = to.with_extension("new");
    let copied = copy_sparse(template, &half).and_then(|()| fs::rename(&half, to));
    if copied.is_err() {
        // Of errors the first one counts.
        let _ = fs::remove_file(&half);
    }
    copied
}

/// Mounts an image that no sandbox can still have.
pub(crate) fn mount_unused(path: &Path) -> io::Result<OwnedFd> {
    let image = File::options().read(true).write(true).open(path)?;
    let (device, held) = attach(&image)?;
    bound_unwritten(&held);
    let context = rustix::mount::fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", &device)?;
    // Tables that were never written read as zeroes already.
    rustix::mount::fsconfig_set_flag(context.as_fd(), "noinit_itable")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        flags,
    )?)
}

/// A disk that the host mounted, while the launcher did something else, before it was somebody's.
pub(super) struct Spare<'a> {
    disk: &'a SpareDisk,
    mount: OwnedFd,
}

impl<'a> Spare<'a> {
    /// Takes the mount that the host made. Nothing depends on it: the usual way is still open.
    pub(super) fn take(disk: &'a SpareDisk, from: &File) -> io::Result<Option<Self>> {
        let mount = super::fds::receive(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(mount.map(|mount| Self { disk, mount }))
    }

    /// Makes it the one at `path` if it fits and there is none.
    pub(super) fn become_the(self, path: &Path, template: &Path) -> Option<OwnedFd> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let fits = self.disk.template == template
            && rustix::fs::renameat_with(CWD, &self.disk.image, CWD, path, flags).is_ok();
        if fits {
            return Some(self.mount);
        }
        self.leave();
        None
    }

    /// It is needed by nobody.
    pub(super) fn leave(self) {
        // A leftover is removed with the next start of the server.
        let _ = fs::remove_file(&self.disk.image);
    }
}

/// A sandbox whose launcher was killed may take a moment to let go of its image; a second mount of
/// it would destroy the file system.
fn wait_until_unused(path: &Path) {
    let wanted = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let used = || {
        let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        devices.into_iter().any(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file"));
            file.is_ok_and(|file| Path::new(file.trim_end_matches('\n')) == wanted)
        })
    };
    while used() {
        std::thread::sleep(STEP);
    }
}

/// Gives the image to a free loop device, which forgets it with its last user. The descriptor is
/// the first of them.
fn attach(image: &File) -> io::Result<(String, File)> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let mut last = io::ErrorKind::NotFound.into();
    for _ in 0..TRIES {
        // SAFETY: takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let device = File::options().read(true).write(true).open(&path)?;
        // SAFETY: plain numbers and bytes, for which all zeroes is a value.
        let mut config: Config = unsafe { std::mem::zeroed() };
        config.fd = image.as_raw_fd().unsigned_abs();
        config.block_size = 4096;
        config.info.flags = AUTOCLEAR;
        // SAFETY: the argument is valid for the call, and laid out as the kernel expects.
        if unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &config) } == 0 {
            return Ok((path, device));
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// What is written and still in memory is not on the host's disk yet, so nobody who looks at the free
/// space sees it: it is kept to little. Kernels before 6.2 do not know the setting.
fn bound_unwritten(device: &File) {
    let Ok(found) = rustix::fs::fstat(device) else {
        return;
    };
    let (major, minor) = (
        rustix::fs::major(found.st_rdev),
        rustix::fs::minor(found.st_rdev),
    );
    let settings = Path::new("/sys/class/bdi").join(format!("{major}:{minor}"));
    let _ = fs::write(settings.join("max_bytes"), UNWRITTEN.to_string());
    let _ = fs::write(settings.join("strict_limit"), "1");
}

/// Copies what is written in a file, and leaves its holes holes.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::SeekFrom;
    let (from, to) = (File::open(from)?, File::create(to)?);
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No more data.
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        at = rustix::fs::seek(&from, SeekFrom::Hole(start))?;
        let (mut read, mut write) = (start, start);
        while read < at {
            let left = usize::try_from(at - read).unwrap_or(usize::MAX);
            let (source, target) = (Some(&mut read), Some(&mut write));
            if rustix::fs::copy_file_range(&from, source, &to, target, left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
