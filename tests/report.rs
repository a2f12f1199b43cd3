//! A run directory becomes a report: whole, damaged, hostile.

mod support;

use std::path::Path;

use support::{Shape, write_run};

/// Writes a made-up run to the directory in `REPLBENCH_MAKE_UP`, for looking at: `small` or full size by `REPLBENCH_SHAPE`.
#[test]
#[ignore = "a tool, not a test"]
fn make_up_a_run() {
    let dir = std::env::var("REPLBENCH_MAKE_UP").unwrap();
    let shape = match std::env::var("REPLBENCH_SHAPE").as_deref() {
        Ok("small") => Shape::small(),
        Ok("ladder") => Shape {
            modes: vec![
                "off",
                "local",
                "remote_write",
                "sync",
                "remote_apply",
                "sync:any-2",
                "cascade",
            ],
            standbys: 3,
            reps: 3,
            ..Shape::sync_vs_async()
        },
        Ok("large") => Shape {
            seconds: 25,
            rate: 5_000.0,
            ..Shape::sync_vs_async()
        },
        _ => Shape::sync_vs_async(),
    };
    write_run(Path::new(&dir), &shape);
}
