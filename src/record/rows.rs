//! Reads the rows of CSV files up to the end or to the first damaged row. No file takes more memory than the limits here, however large it
//! is and whatever it holds.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use csv::ByteRecord;
use serde::de::DeserializeOwned;

use super::files;

/// The most bytes of a row. Most rows have some hundred bytes, but a note or a server's message may be long.
const MOST_ROW_BYTES: u64 = 1 << 20;
/// The most bytes of a file.
const MOST_BYTES: u64 = 512 << 20;
/// The most rows of a file: eleven days of seconds, or a day of lag samples of one replica. A million rows take up to half a gigabyte of
/// memory.
pub(super) const MOST_ROWS: usize = 1_000_000;
/// The most rows of `cells.csv`: twenty modes with a thousand repetitions.
const MOST_CELLS: usize = 20_000;

/// A file that can be read only up to the limits on the bytes of a file and of a row.
pub(super) struct Bounded {
    file: File,
    left: u64,
    left_of_row: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let refuse = |what: &str, limit: u64| {
            Err(io::Error::other(format!(
                "{what} more than {} MiB, the limit",
                limit >> 20
            )))
        };
        if self.left == 0 {
            return refuse("the file has", MOST_BYTES);
        }
        if self.left_of_row == 0 {
            return refuse("a row has", MOST_ROW_BYTES);
        }
        let most = self.left.min(self.left_of_row);
        let most = usize::try_from(most).map_or(buffer.len(), |most| most.min(buffer.len()));
        let count = self.file.read(&mut buffer[..most])?;
        self.left -= count as u64;
        self.left_of_row -= count as u64;
        Ok(count)
    }
}

pub(super) fn reader(file: File) -> csv::Reader<Bounded> {
    csv::Reader::from_reader(Bounded {
        file,
        left: MOST_BYTES,
        left_of_row: MOST_ROW_BYTES,
    })
}

/// Adds the rows that are `wanted`, up to the end or to the first row that cannot be read.
pub(super) fn add_rows<T: DeserializeOwned>(
    mut reader: csv::Reader<Bounded>,
    most: usize,
    wanted: impl Fn(&ByteRecord) -> bool,
    rows: &mut Vec<T>,
) -> io::Result<()> {
    let head = reader.byte_headers()?.clone();
    let mut row = ByteRecord::new();
    loop {
        reader.get_mut().left_of_row = MOST_ROW_BYTES;
        if !reader.read_byte_record(&mut row)? {
            return Ok(());
        }
        if !wanted(&row) {
            continue;
        }
        if rows.len() == most {
            let problem = format!("has more than {most} rows, the limit");
            return Err(io::Error::other(problem));
        }
        rows.push(row.deserialize(Some(&head))?);
    }
}

pub(super) fn warning(file: &str, problem: &str) -> String {
    format!("`{file}`: {problem}; what stands before is used")
}

/// The rows of a CSV file up to its end or to the first row that cannot be read.
pub(super) fn read_rows<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    warnings: &mut Vec<String>,
) -> Vec<T> {
    let mut rows = Vec::new();
    match read_rows_into(dir, name, &mut rows) {
        Ok(None) => {}
        Ok(Some(problem)) => warnings.push(warning(name, &problem)),
        Err(error) => warnings.push(format!("`{name}` could not be read: {error}")),
    }
    rows
}

fn read_rows_into<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    rows: &mut Vec<T>,
) -> io::Result<Option<String>> {
    let mut file = open_file(&dir.join(name))?;
    if file.metadata()?.len() == 0 {
        // A run may have no event and no replicas, but always has cells.
        let is_damage = matches!(name, files::CELLS | files::INTERVALS);
        return Ok(is_damage.then(|| "is empty".into()));
    }
    let most = if name == files::CELLS {
        MOST_CELLS
    } else {
        MOST_ROWS
    };
    let torn = !ends_with_newline(&mut file)?;
    if let Err(error) = add_rows(reader(file), most, |_| true, rows) {
        return Ok(Some(error.to_string()));
    }
    if torn {
        // The last row may have lost digits of its last field and still read as a row.
        rows.pop();
        return Ok(Some("ends in the middle of a line".into()));
    }
    Ok(None)
}

/// Opens a regular file and nothing else: opening a pipe would wait for a writer, and reading a device would not end.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(without_waiting)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("is not a regular file"))
    }
}

/// Reads a whole file of at most `most` bytes.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!(
            "has more than {} MiB, the limit",
            most >> 20
        )));
    }
    Ok(bytes)
}

pub(super) fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    file.rewind()?;
    Ok(last == [b'\n'])
}
