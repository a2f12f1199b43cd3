//! `replbench run what-replicates` on real servers. Without PostgreSQL it fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use support::{Run, TestDir};

#[test]
fn everything_arrives_where_the_documentation_says() {
    let mut run = Run::launch(TestDir::new(), &["run", "what-replicates"]);
    let ended = run.ends();
    assert_eq!(ended.code, 0, "{}", ended.text);
    let row = |name: &str| {
        let mut lines = ended.text.lines();
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        let words: Vec<_> = line[name.len()..].split_whitespace().collect();
        (words[0].to_owned(), words[1].to_owned())
    };
    let arrives = |standby: &str, subscriber: &str| (standby.to_owned(), subscriber.to_owned());
    assert_eq!(row("TRUNCATE"), arrives("yes", "yes"));
    assert_eq!(row("index"), arrives("yes", "no"));
    assert_eq!(row("sequence's value"), arrives("yes", "no"));
    assert_eq!(row("rows of an unlogged table"), arrives("no", "no"));
    assert_eq!(row("a write on the replica itself"), arrives("no", "yes"));
    let data = run.dir.path().join("data");
    assert_eq!(
        std::fs::read_dir(data).unwrap().count(),
        0,
        "nothing is left"
    );
}

#[test]
fn options_of_a_measurement_are_refused() {
    let mut run = Run::launch(TestDir::new(), &["run", "what-replicates", "--rate", "7"]);
    let ended = run.ends();
    assert_eq!(ended.code, 2, "{}", ended.text);
    assert!(ended.text.contains("measures nothing"), "{}", ended.text);
}
