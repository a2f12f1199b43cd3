//! The site's directory. A file is written whole and then replaces an existing one. An existing file is never written into, because a raw
//! file may be a hard link to the original measurement.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{PublishError, Published, failed};
use crate::report::output::{folder, replace};

/// A directory with this file is a site, in which replbench may replace and remove files.
const MARKER: &str = ".replbench-site";
const MARKER_TEXT: &str =
    "Made by `replbench publish`, which replaces what is here when it publishes again.\n";
/// Folders that hold only published files.
const FOLDERS: [&str; 2] = ["runs", "compare"];
/// Beginnings of the names of the numbered pages. A smaller site has fewer of these pages, so superfluous ones are removed.
const NUMBERED: [&str; 2] = ["runs-", "trend-"];

#[derive(Debug)]
pub(super) struct Site {
    root: PathBuf,
    log: Mutex<Log>,
}

/// What has been published so far.
#[derive(Debug, Default)]
struct Log {
    /// All files that belong to the site, relative to its root.
    kept: BTreeSet<PathBuf>,
    /// Only the counts are filled in.
    published: Published,
}

impl Site {
    /// Opens a directory that is new, empty except for hidden files, or already a site. Refuses every other directory.
    pub(super) fn open(root: &Path) -> Result<Self, PublishError> {
        fs::create_dir_all(root).map_err(|source| failed(root, source))?;
        let marker = root.join(MARKER);
        if !marker.is_file() {
            let entries = fs::read_dir(root).map_err(|source| failed(root, source))?;
            // The work tree of a branch for pages holds `.git`. With nothing else in it, it counts as empty.
            let is_shown =
                |entry: &fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
            if entries.flatten().any(|entry| is_shown(&entry)) {
                return Err(PublishError::Foreign(root.to_owned()));
            }
            replace(&marker, MARKER_TEXT.as_bytes())?;
        }
        Ok(Self {
            root: root.to_owned(),
            log: Mutex::default(),
        })
    }

    /// Creates a folder and its parents, and refuses a symbolic link at each level, so that none leads out of the site.
    pub(super) fn folder(&self, relative: &Path) -> Result<PathBuf, PublishError> {
        let mut path = self.root.clone();
        for part in relative {
            path.push(part);
            folder(&path)?;
        }
        Ok(path)
    }

    /// Writes a page, unless it is there with the same content. The page's folder must exist.
    pub(super) fn page(&self, relative: &Path, text: &str) -> Result<(), PublishError> {
        let path = self.root.join(relative);
        let is_as_long = fs::symlink_metadata(&path)
            .is_ok_and(|there| there.is_file() && there.len() == text.len() as u64);
        if !is_as_long || fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            replace(&path, text.as_bytes())?;
        }
        self.keep_page(relative, text.len());
        Ok(())
    }

    /// Records a page that another function has written into the site. `length` is in bytes.
    pub(super) fn keep_page(&self, relative: &Path, length: usize) {
        let mut log = self.log();
        log.published.pages += 1;
        log.published.largest_page = log.published.largest_page.max(length);
        log.kept.insert(relative.to_owned());
    }

    pub(super) fn keep(&self, relative: &Path) {
        self.log().kept.insert(relative.to_owned());
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a raw file as a hard link to its original, or as a copy if it cannot be linked.
    pub(super) fn share(&self, original: &Path, relative: &Path) -> Result<(), PublishError> {
        let path = self.root.join(relative);
        let is_linked = share(original, &path).map_err(|source| failed(&path, source))?;
        let mut log = self.log();
        log.published.linked += usize::from(is_linked);
        log.published.copied += usize::from(!is_linked);
        log.kept.insert(relative.to_owned());
        Ok(())
    }

    /// Removes files of an earlier publication that this one does not have. Returns the counts.
    pub(super) fn finish(self) -> Result<Published, PublishError> {
        let log = self
            .log
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut published = log.published;
        let removed = &mut published.removed;
        for name in FOLDERS {
            sweep(&self.root, Path::new(name), &log.kept, removed)?;
        }
        for entry in entries(&self.root)? {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_numbered = NUMBERED.iter().any(|start| {
                let number = text
                    .strip_prefix(start)
                    .and_then(|rest| rest.strip_suffix(".html"));
                number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            });
            if is_numbered && !log.kept.contains(Path::new(&name)) {
                fs::remove_file(entry.path()).map_err(|source| failed(&entry.path(), source))?;
                *removed += 1;
            }
        }
        Ok(published)
    }
}

/// Makes `path` a hard link to `original`, or a copy of it. Returns whether it is a link.
fn share(original: &Path, path: &Path) -> io::Result<bool> {
    let source = fs::symlink_metadata(original)?;
    if let Ok(there) = fs::symlink_metadata(path) {
        if (there.dev(), there.ino()) == (source.dev(), source.ino()) {
            return Ok(true);
        }
        let is_fresh = there.is_file()
            && there.len() == source.len()
            && there.modified()? >= source.modified()?
            && there.dev() != source.dev();
        if is_fresh {
            return Ok(false);
        }
        fs::remove_file(path)?;
    }
    match fs::hard_link(original, path) {
        Ok(()) => Ok(true),
        // The directory is on another file system, the file system has no hard links, or the original belongs to another user.
        Err(_) => copy(original, path).map(|()| false),
    }
}

/// Copies a file under a temporary name first, so that an incomplete copy is never taken for the file.
fn copy(original: &Path, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".replbench-")
        .tempfile_in(folder)?;
    io::copy(&mut fs::File::open(original)?, &mut file)?;
    let permissions = fs::metadata(original)?.permissions();
    file.as_file().set_permissions(permissions)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, PublishError> {
    let read = || fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>();
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| failed(folder, source)),
    }
}

/// Removes all files below a folder that are not in `kept`, then the folders that are empty. Symbolic links are removed as files are, and
/// never followed.
fn sweep(
    root: &Path,
    relative: &Path,
    kept: &BTreeSet<PathBuf>,
    removed: &mut usize,
) -> Result<(), PublishError> {
    for entry in entries(&root.join(relative))? {
        let relative = relative.join(entry.file_name());
        let path = entry.path();
        let kind = entry.file_type().map_err(|source| failed(&path, source))?;
        if kind.is_dir() {
            sweep(root, &relative, kept, removed)?;
            // This fails for a folder that still holds something, which is meant to stay.
            let _ = fs::remove_dir(&path);
        } else if !kept.contains(&relative) {
            fs::remove_file(&path).map_err(|source| failed(&path, source))?;
            *removed += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_file_that_is_replaced_leaves_its_original_alone() {
        let dir = tempfile::tempdir().unwrap();
        let original = dir.path().join("original");
        fs::write(&original, "measured").unwrap();
        let site = Site::open(&dir.path().join("site")).unwrap();
        let name = Path::new("file");
        site.share(&original, name).unwrap();
        site.page(name, "a page").unwrap();
        assert_eq!(fs::read_to_string(&original).unwrap(), "measured");
        site.share(&original, name).unwrap();
        assert_eq!(
            fs::read_to_string(site.root.join(name)).unwrap(),
            "measured"
        );
    }

    #[test]
    fn a_copy_has_the_content_and_the_rights_of_its_original() {
        let dir = tempfile::tempdir().unwrap();
        let (original, path) = (dir.path().join("original"), dir.path().join("copy"));
        fs::write(&original, "measured").unwrap();
        copy(&original, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "measured");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&path), mode(&original));
        assert_ne!(
            fs::metadata(&path).unwrap().ino(),
            fs::metadata(&original).unwrap().ino()
        );
    }
}
