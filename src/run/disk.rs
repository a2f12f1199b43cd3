//! How long the disk takes to make a write durable, which is the least that a commit waits for. Measured as `pg_test_fsync` does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::histogram::Histogram;
use crate::record::Fdatasync;

/// The measurement ends after this time or after [`WRITES`] writes, whichever comes first.
const FOR: Duration = Duration::from_secs(1);
/// The most writes. 100 of 10,000 are above the 99th percentile, and more writes would only keep a fast disk busy.
const WRITES: u64 = 10_000;
/// A page of WAL.
const PAGE: [u8; 8_192] = [0x5a; 8_192];

/// Writes a page in place and waits for `fdatasync`, again and again for a second or 10,000 times. Blocks.
///
/// The writes are in place, because a WAL segment has its full size before it is written.
pub(super) fn fdatasync(directory: &Path) -> io::Result<Fdatasync> {
    let path = directory.join(format!(".replbench-fdatasync-{}", std::process::id()));
    let file = File::create_new(&path)?;
    // The unlinked file is gone, however this process ends.
    fs::remove_file(&path)?;
    file.write_all_at(&PAGE, 0)?;
    file.sync_all()?;
    let mut times = Histogram::new();
    let begun = clock::now();
    loop {
        let before = clock::now();
        file.write_all_at(&PAGE, 0)?;
        file.sync_data()?;
        let after = clock::now();
        times.record(after.since(before));
        if times.count() >= WRITES || after.since(begun) >= FOR {
            break;
        }
    }
    let micros = |quantile| {
        let time = times.quantile(quantile).unwrap_or_default();
        (time.as_secs_f64() * 1e9).round() / 1e3
    };
    Ok(Fdatasync {
        n: times.count(),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
    })
}

/// The directory itself, or the nearest directory above it that exists: both lie on the same file system.
pub(super) fn existing(directory: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(directory)?;
    let found = absolute.ancestors().find(|it| it.is_dir());
    Ok(found.unwrap_or(Path::new("/")).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_writes_end_and_leave_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let found = fdatasync(directory.path()).unwrap();
        assert!(
            (1..=WRITES).contains(&found.n) && found.p50_us > 0.0 && found.p99_us >= found.p50_us,
            "{found:?}"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_made_yet_lies_where_its_parent_does() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(existing(Path::new("not/made/yet")).unwrap(), here);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(fdatasync(Path::new("/nowhere/at/all")).is_err());
    }
}
