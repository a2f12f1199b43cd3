//! One mistake has one exit code, whichever command meets it, and its message does not claim what is not so.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

/// Exit code and standard error, in a directory in which `blocked` is a file.
fn outcome(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::cargo_bin("replbench")
        .unwrap()
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), said)
}

/// Commands that all make the same mistake, its exit code, and what each says of it.
const MISTAKES: [(&str, i32, &str, &[&[&str]]); 8] = [
    (
        "a data directory that cannot be made",
        6,
        "blocked/data",
        &[
            &["run", "users-insert", "--data-dir", "blocked/data"],
            &["ab", "--head", "work_mem=8MB", "--data-dir", "blocked/data"],
            &["aa", "--data-dir", "blocked/data"],
            &["cluster", "up", "--data-dir", "blocked/data"],
        ],
    ),
    (
        "results that cannot be written",
        6,
        "blocked/results",
        &[
            &["run", "users-insert", "--results", "blocked/results"],
            &[
                "ab",
                "--head",
                "work_mem=8MB",
                "--results",
                "blocked/results",
            ],
            &["aa", "--results", "blocked/results"],
        ],
    ),
    (
        "programs that are not there",
        3,
        "nowhere",
        &[
            &["run", "users-insert", "--pg-bindir", "nowhere"],
            &["ab", "--head", "bindir=nowhere"],
            &["aa", "--pg-bindir", "nowhere"],
            &["cluster", "up", "--pg-bindir", "nowhere"],
        ],
    ),
    (
        "a profile that does not exist",
        2,
        "users-inserts",
        &[
            &["run", "users-inserts"],
            &["check", "users-inserts"],
            &["ab", "users-inserts", "--head", "work_mem=8MB"],
            &["ab", "--head", "profile=users-inserts"],
            &["aa", "users-inserts"],
        ],
    ),
    (
        "a mode that does not exist",
        2,
        "synk",
        &[
            &["run", "users-insert", "--modes", "synk"],
            &["check", "users-insert", "--modes", "synk"],
            &["ab", "--head", "mode=synk"],
            &["aa", "--modes", "synk"],
            &["cluster", "up", "--mode", "synk"],
        ],
    ),
    (
        "a mode that waits for more standbys than there are",
        2,
        "sync:any-3",
        &[
            &[
                "run",
                "users-insert",
                "--modes",
                "sync:any-3",
                "--standbys=2",
            ],
            &[
                "check",
                "users-insert",
                "--modes",
                "sync:any-3",
                "--standbys=2",
            ],
            &["ab", "--head", "mode=sync:any-3", "--standbys=2"],
            &["cluster", "up", "--mode", "sync:any-3", "--standbys=2"],
        ],
    ),
    (
        "two modes that mean the same",
        2,
        "are the same",
        &[
            &["run", "users-insert", "--modes", "sync,sync:first-1"],
            &["check", "users-insert", "--modes", "sync,sync:first-1"],
            &["aa", "--modes", "sync,on"],
            &["ab", "--head", "mode=sync", "--head", "mode=sync:first-1"],
        ],
    ),
    (
        "a setting below what the run needs",
        2,
        "at least",
        &[
            &["run", "few.toml"],
            &["check", "few.toml"],
            &["aa", "few.toml"],
            &["ab", "--head", "max_connections=10"],
        ],
    ),
];

#[test]
fn one_mistake_has_one_exit_code_in_every_command() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("blocked"), "").unwrap();
    let few = "[settings]\nmax_connections = 10\n[[transaction]]\nkind = \"users-insert\"\n";
    fs::write(directory.path().join("few.toml"), few).unwrap();
    for (mistake, code, named, commands) in MISTAKES {
        for command in commands {
            let (found, said) = outcome(directory.path(), command);
            assert_eq!(found, code, "{mistake}: {command:?}: {said}");
            assert!(said.contains(named), "{mistake}: {command:?}: {said}");
            assert!(
                !said.contains("what was measured is kept"),
                "{mistake}: {command:?}: {said}"
            );
        }
    }
}

#[test]
fn a_path_of_any_bytes_works_or_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;

    let directory = TempDir::new().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"data\xff");
    for arguments in [
        &["run", "users-insert", "--data-dir"][..],
        &["cluster", "up", "--data-dir"],
    ] {
        let output = Command::cargo_bin("replbench")
            .unwrap()
            .args(arguments)
            .arg(name)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert!(said.contains("not UTF-8"), "{said}");
        assert!(said.contains("--data-dir"), "{said}");
    }
}
