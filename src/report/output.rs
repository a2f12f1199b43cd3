//! Writes the files of reports: whole or not at all, and never through a symbolic link.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::chart::Chart;
use crate::escape::escape_formula;
use crate::record::{ReadError, WriteError};
use crate::sample::SummaryRow;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot write `{path}`; check its directory's permissions and free space")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "`{0}` is not a directory but something in its place, such as a symbolic link; remove it"
    )]
    NotAFolder(PathBuf),
    #[error(transparent)]
    Checksums(#[from] WriteError),
    #[error("cannot put the summary into CSV")]
    Csv(#[from] csv::Error),
}

/// Creates a directory, or accepts one that exists. Refuses a symbolic link in its place.
pub(crate) fn folder(path: &Path) -> Result<PathBuf, ReportError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(|source| failed(path, source))?;
            if found.is_dir() {
                Ok(path.to_owned())
            } else {
                Err(ReportError::NotAFolder(path.to_owned()))
            }
        }
        Err(source) => Err(failed(path, source)),
    }
}

/// Writes a whole file to `path`, in place of any file with that name. A symbolic link is replaced, not followed.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    let write = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".replbench-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent)?;
        file.write_all(content)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| failed(path, source))
}

/// Writes a chart as a separate SVG file in `folder` and returns its path.
pub(super) fn draw(chart: &Chart, folder: &Path) -> Result<PathBuf, ReportError> {
    let path = folder.join(format!("{}.svg", chart.id));
    replace(&path, chart.svg().as_bytes())?;
    Ok(path)
}

pub(super) fn failed(path: &Path, source: io::Error) -> ReportError {
    ReportError::Write {
        path: path.to_owned(),
        source,
    }
}

/// The content of `summary.csv`.
pub(super) fn summary_csv(rows: &[SummaryRow]) -> Result<String, csv::Error> {
    let rows = rows.iter().map(|row| SummaryRow {
        mode: plain(&row.mode),
        node: row.node.as_deref().map(plain),
        ..row.clone()
    });
    let head = "cell_id,mode,rep,node,metric,stat,value,unit,direction,n";
    csv_text(head, rows)
}

/// A CSV file: the column names of `head`, also if there are no rows, then the rows. Each value of a tuple within a row has a column of
/// its own.
pub(super) fn csv_text(
    head: &str,
    rows: impl Iterator<Item = impl Serialize>,
) -> Result<String, csv::Error> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    writer.write_record(head.split(','))?;
    for row in rows {
        writer.serialize(row)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A name as it stands in a CSV file, where a spreadsheet must not take it for a formula.
pub(super) fn plain(name: &str) -> String {
    escape_formula(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_way_is_replaced_and_its_target_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        let link = dir.path().join("report.html");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        replace(&link, b"page").unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&link).unwrap(), "page");
    }

    #[test]
    fn a_linked_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let link = dir.path().join("charts");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let error = folder(&link).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn the_summary_has_its_head_without_rows() {
        let head = summary_csv(&[]).unwrap();
        assert!(head.starts_with("cell_id,mode,rep,node,metric,stat,value"));
    }
}
