//! Files opened for the host: a small table of handles.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::roots::{Place, Roots, open_below, problem};
use crate::FileProblem;
use crate::protocol::{CHUNK, MAX_IN_FLIGHT};

/// Open files by handle; at most [`MAX_IN_FLIGHT`].
pub(crate) struct Files {
    roots: Roots,
    open: Mutex<HashMap<u64, Arc<Mutex<Open>>>>,
}

enum Open {
    Reading { file: File, left: u64 },
    Writing(NewFile),
}

/// A file being written beside its final name.
struct NewFile {
    file: File,
    parent: OwnedFd,
    temporary: PathBuf,
    name: PathBuf,
    committed: bool,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing depends on it: a leftover is a hidden file in the session's own directory.
            let _ = rustix::fs::unlinkat(&self.parent, &self.temporary, AtFlags::empty());
        }
    }
}

impl Files {
    pub(crate) fn new(roots: Roots) -> Self {
        Self {
            roots,
            open: Mutex::default(),
        }
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Opens a regular file of at most `max` bytes under `handle`; its size.
    pub(crate) fn open(&self, handle: u64, path: &str, max: u64) -> Result<u64, FileProblem> {
        let fd = self.roots.locate(path)?.open(OFlags::RDONLY)?;
        let stat = rustix::fs::fstat(&fd).map_err(problem)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(FileProblem::NotRegular);
        }
        let size = u64::try_from(stat.st_size).map_err(|_| FileProblem::Io)?;
        if size > max {
            return Err(FileProblem::TooLarge);
        }
        // A file may grow while it is read: what was announced is what is sent.
        let file = File::from(fd);
        self.keep(handle, Open::Reading { file, left: size })?;
        Ok(size)
    }

    /// The next chunk, and whether it is the last.
    pub(crate) fn pull(&self, handle: u64) -> Result<(Vec<u8>, bool), FileProblem> {
        let open = self.get(handle)?;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open::Reading { file, left } = &mut *open else {
            return Err(FileProblem::Io);
        };
        let want = (*left).min(CHUNK as u64);
        let mut chunk = Vec::with_capacity(want as usize);
        file.take(want)
            .read_to_end(&mut chunk)
            .map_err(|_| FileProblem::Io)?;
        *left -= chunk.len() as u64;
        let short = (chunk.len() as u64) < want;
        Ok((chunk, short || *left == 0))
    }

    /// Begins a new file under `handle`, creating its parents.
    pub(crate) fn create(&self, handle: u64, path: &str) -> Result<(), FileProblem> {
        let place = self.roots.locate(path)?;
        let name = PathBuf::from(place.rest.file_name().ok_or(FileProblem::NotRegular)?);
        let parent = parents(&place)?;
        let temporary = PathBuf::from(format!(".freehold-write-{handle}"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mode = Mode::from_raw_mode(0o644);
        let file = File::from(open_below(&parent, &temporary, flags, mode)?);
        self.keep(
            handle,
            Open::Writing(NewFile {
                file,
                parent,
                temporary,
                name,
                committed: false,
            }),
        )
    }

    /// Appends to a file begun with `create`.
    pub(crate) fn push(&self, handle: u64, bytes: &[u8]) -> Result<(), FileProblem> {
        let open = self.get(handle)?;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open::Writing(new) = &mut *open else {
            return Err(FileProblem::Io);
        };
        new.file
            .write_all(bytes)
            .map_err(|e| match e.raw_os_error() {
                Some(code) => problem(rustix::io::Errno::from_raw_os_error(code)),
                None => FileProblem::Io,
            })
    }

    /// Puts the new file in place.
    pub(crate) fn commit(&self, handle: u64) -> Result<(), FileProblem> {
        let open = self.get(handle)?;
        self.close(handle);
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open::Writing(new) = &mut *open else {
            return Err(FileProblem::Io);
        };
        rustix::fs::renameat(&new.parent, &new.temporary, &new.parent, &new.name)
            .map_err(problem)?;
        new.committed = true;
        Ok(())
    }

    /// Deletes a file or a link itself.
    pub(crate) fn delete(&self, path: &str) -> Result<(), FileProblem> {
        let place = self.roots.locate(path)?;
        let name = place.rest.file_name().ok_or(FileProblem::NotRegular)?;
        let parent = place.rest.parent().unwrap_or(Path::new(""));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let parent = open_below(&place.root, parent, flags, Mode::empty())?;
        rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(problem)
    }

    /// Bytes and inodes in use on the file system that holds the workspace.
    pub(crate) fn usage(&self) -> Result<(u64, u64), FileProblem> {
        let place = self.roots.locate("/workspace")?;
        let at = rustix::fs::fstatvfs(&place.root).map_err(problem)?;
        let bytes = at
            .f_blocks
            .saturating_sub(at.f_bfree)
            .saturating_mul(at.f_frsize);
        Ok((bytes, at.f_files.saturating_sub(at.f_ffree)))
    }

    pub(crate) fn close(&self, handle: u64) {
        self.table().remove(&handle);
    }

    fn keep(&self, handle: u64, open: Open) -> Result<(), FileProblem> {
        let mut table = self.table();
        if table.len() >= MAX_IN_FLIGHT {
            return Err(FileProblem::Io);
        }
        table.insert(handle, Arc::new(Mutex::new(open)));
        Ok(())
    }

    fn get(&self, handle: u64) -> Result<Arc<Mutex<Open>>, FileProblem> {
        self.table().get(&handle).cloned().ok_or(FileProblem::Io)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Mutex<Open>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the parent directory of a place, making what is missing on the way.
fn parents(place: &Place) -> Result<OwnedFd, FileProblem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = open_below(&place.root, Path::new(""), flags, Mode::empty())?;
    for part in place.rest.parent().into_iter().flat_map(Path::components) {
        let part: &Path = part.as_ref();
        match rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(problem(e)),
        }
        dir = open_below(&dir, part, flags, Mode::empty())?;
    }
    Ok(dir)
}
