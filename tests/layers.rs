//! Which module may name which: an import that runs up or sideways fails here.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The layers, lowest first. A module names lower ones only. `main` and `lib` are the files of that name.
const LAYERS: [&[&str]; 11] = [
    &["units", "clock", "histogram", "escape"],
    &["poll"],
    &["topology", "sample", "server_settings"],
    &["mode", "metric"],
    &["profile"],
    &["plan"],
    &["pg", "record"],
    &["cluster", "load", "probe", "analyse"],
    &["run", "report"],
    &["publish"],
    &["cli", "main"],
];

/// Arrows that run down and are forbidden all the same: who, whom, why.
const FORBIDDEN: [(&[&str], &[&str], &str); 2] = [
    (
        &["cluster"],
        &["plan", "profile", "sample", "record"],
        "a cluster knows neither profiles nor measurements",
    ),
    (
        &["analyse", "report", "publish"],
        &["pg", "cluster", "load", "probe"],
        "what is after the record never sees a server",
    ),
];

/// Macros that print, and the crate that parses arguments.
const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Mark(char),
}

/// The tokens of a source that matter here. Comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let stream: TokenStream = source.parse().expect("the compiler has read it");
    let mut found = Vec::new();
    flatten(stream, &mut found);
    found
}

fn flatten(stream: TokenStream, found: &mut Vec<Token>) {
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ('{', '}'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::Parenthesis | Delimiter::None => ('(', ')'),
                };
                found.push(Token::Mark(open));
                flatten(group.stream(), found);
                found.push(Token::Mark(close));
            }
            TokenTree::Ident(word) => found.push(Token::Word(word.to_string())),
            TokenTree::Punct(mark) if mark.as_char() == ':' && mark.spacing() == Spacing::Joint => {
                tokens.next();
                found.push(Token::Path);
            }
            // Of a lifetime the name is no name of a module.
            TokenTree::Punct(mark) if mark.as_char() == '\'' => {
                tokens.next();
            }
            TokenTree::Punct(mark) => found.push(Token::Mark(mark.as_char())),
            TokenTree::Literal(_) => {}
        }
    }
}

/// What one file names outside itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// Top-level modules of the crate.
    modules: Vec<String>,
    /// Whatever `super::` reaches below them: how many modules lie above it, and its name.
    inner: Vec<(usize, String)>,
    prints: Vec<String>,
    clap: bool,
}

struct Scanner<'a> {
    tokens: &'a [Token],
    /// Braces that are open around here: true when it is a module's.
    blocks: Vec<bool>,
    /// Modules between the crate's root and this file.
    depth: usize,
    names: Names,
}

/// Reads a file that lies `depth` modules below the crate's root.
fn scan(source: &str, depth: usize) -> Names {
    let tokens = tokens(source);
    let mut scanner = Scanner {
        tokens: &tokens,
        blocks: Vec::new(),
        depth,
        names: Names::default(),
    };
    scanner.walk();
    scanner.names
}

impl Scanner<'_> {
    fn word(&self, index: usize) -> Option<&str> {
        match self.tokens.get(index) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn is(&self, index: usize, mark: char) -> bool {
        self.tokens.get(index) == Some(&Token::Mark(mark))
    }

    fn is_path(&self, index: usize) -> bool {
        self.tokens.get(index) == Some(&Token::Path)
    }

    fn walk(&mut self) {
        let mut index = 0;
        while index < self.tokens.len() {
            if self.is(index, '{') {
                let module = index >= 2 && self.word(index - 2) == Some("mod");
                self.blocks.push(module);
            } else if self.is(index, '}') {
                self.blocks.pop();
            }
            let word = self.word(index).map(str::to_owned);
            let after_path = index > 0 && self.is_path(index - 1);
            index = match word.as_deref() {
                Some(_) if after_path && !self.is_macro(index) => index + 1,
                Some("crate" | "replbench") if self.is_path(index + 1) => self.tree(index + 2, 0),
                // An alias of the root would hide what comes after it.
                Some("crate") if self.word(index + 1) == Some("as") => {
                    self.names.modules.push("crate as".into());
                    index + 1
                }
                Some("super") if self.is_path(index + 1) => {
                    let inline = self.blocks.iter().filter(|module| **module).count();
                    self.tree(index, self.depth + inline)
                }
                Some(name) if PRINTING.contains(&name) && self.is_macro(index) => {
                    self.names.prints.push(name.to_owned());
                    index + 1
                }
                Some("clap") => {
                    self.names.clap = true;
                    index + 1
                }
                _ => index + 1,
            };
        }
    }

    fn is_macro(&self, index: usize) -> bool {
        self.is(index + 1, '!') && !self.is(index + 2, '=')
    }

    /// Reads a path or a tree of them that continues `depth` modules below the root. Returns the place behind it.
    fn tree(&mut self, mut index: usize, mut depth: usize) -> usize {
        while matches!(self.word(index), Some("super" | "self")) && self.is_path(index + 1) {
            depth -= usize::from(self.word(index) == Some("super")).min(depth);
            index += 2;
        }
        if self.is(index, '{') {
            index += 1;
            while index < self.tokens.len() && !self.is(index, '}') {
                index = self.tree(index, depth);
                while self.is(index, ',') {
                    index += 1;
                }
            }
            return index + 1;
        }
        let name = match (&self.tokens.get(index), depth) {
            (Some(Token::Word(name)), 0) => Some(name.clone()),
            (Some(Token::Mark('*')), 0) => Some("*".into()),
            _ => None,
        };
        self.names.modules.extend(name);
        if depth > 0
            && let Some(name) = self.word(index)
        {
            let inner = (depth, name.to_owned());
            self.names.inner.push(inner);
        }
        self.rest(index + 1)
    }

    /// Skips the rest of a path below a module whose name is known by now.
    fn rest(&self, mut index: usize) -> usize {
        while self.is_path(index) {
            index += 1;
            if self.is(index, '{') {
                let mut depth = 0;
                while index < self.tokens.len() {
                    depth += i32::from(self.is(index, '{'));
                    depth -= i32::from(self.is(index, '}'));
                    index += 1;
                    if depth == 0 {
                        break;
                    }
                }
            } else {
                index += 1;
            }
        }
        if self.word(index) == Some("as") {
            index + 2
        } else {
            index
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What is wrong with a file of the module `own`.
fn faults(own: &str, names: &Names) -> Vec<String> {
    let Some(layer) = layer_of(own) else {
        return vec![format!(
            "module `{own}` has no layer: give it one here and in ARCHITECTURE.md"
        )];
    };
    let mut faults = Vec::new();
    for module in names.modules.iter().filter(|module| *module != own) {
        match layer_of(module) {
            None => {
                faults.push(format!("names `crate::{module}`, which has no layer"));
            }
            Some(other) if other > layer => {
                faults.push(format!("`{own}` names `{module}`, which is above it"));
            }
            Some(other) if other == layer && own != "main" => {
                faults.push(format!("`{own}` names `{module}`, which is beside it"));
            }
            Some(_) => {}
        }
        for (who, whom, why) in FORBIDDEN {
            if who.contains(&own) && whom.contains(&module.as_str()) {
                faults.push(format!("`{own}` names `{module}`: {why}"));
            }
        }
    }
    if layer_of("cli") != Some(layer) {
        for name in &names.prints {
            faults.push(format!("`{own}` calls `{name}!`: only cli prints"));
        }
        if names.clap {
            faults.push(format!("`{own}` names clap: only cli knows arguments"));
        }
    }
    faults
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// `run/cell.rs` is the module `run::cell`, `run/mod.rs` is `run`.
fn module_path(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

#[test]
fn every_arrow_between_modules_runs_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut arrows: BTreeMap<String, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    for path in files {
        let relative = path.strip_prefix(&root).unwrap();
        let module = module_path(relative);
        // lib.rs declares the modules and is the root itself.
        if module == ["lib"] {
            continue;
        }
        let names = scan(&fs::read_to_string(&path).unwrap(), module.len());
        *arrows.entry(module[0].clone()).or_default() += names.modules.len();
        problems.extend(
            faults(&module[0], &names)
                .into_iter()
                .map(|fault| format!("src/{}: {fault}", relative.display())),
        );
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // A scanner that finds nothing would find no fault either.
    for module in ["plan", "pg", "load", "probe", "cluster", "run", "cli"] {
        let count = arrows.get(module).copied().unwrap_or(0);
        assert!(count > 2, "{module}: {arrows:?}");
    }
}

/// Who names whom among the files and directories of one directory. A `mod.rs` is not one of them: it declares the others, and
/// they may use what it defines.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Those that are in a circle: each reaches itself.
fn circle(arrows: &Arrows) -> Vec<&str> {
    let reaches_itself = |start: &&String| {
        let mut reached: BTreeSet<&String> = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(name) = open.pop() {
            for next in arrows.get(name).into_iter().flatten() {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached.contains(start)
    };
    let members = arrows.keys().filter(reaches_itself);
    members.map(String::as_str).collect()
}

#[test]
fn no_files_of_one_directory_name_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let paths: Vec<_> = files
        .iter()
        .map(|path| module_path(path.strip_prefix(&root).unwrap()))
        .collect();
    let mut directories: BTreeMap<String, Arrows> = BTreeMap::new();
    for (file, path) in files.iter().zip(&paths) {
        let names = scan(&fs::read_to_string(file).unwrap(), path.len());
        for (depth, name) in names.inner {
            // At its own depth a module names what it declares.
            let Some(own) = path.get(depth) else { continue };
            let is_module = paths.iter().any(|other| {
                other.len() > depth && other[..depth] == path[..depth] && other[depth] == name
            });
            if is_module && *own != name {
                let arrows = directories.entry(path[..depth].join("/")).or_default();
                arrows.entry(own.clone()).or_default().insert(name);
            }
        }
    }
    assert!(directories["cluster"].len() > 5, "{directories:?}");
    let circles: Vec<_> = directories
        .iter()
        .map(|(directory, arrows)| (directory.as_str(), circle(arrows)))
        .filter(|(_, members)| !members.is_empty())
        .collect();
    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn a_planted_circle_is_found_and_what_leads_to_it_is_not_part_of_it() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = Arrows::new();
        for (from, to) in pairs {
            let named = arrows.entry((*from).to_owned()).or_default();
            named.insert((*to).to_owned());
        }
        arrows
    };
    let with = arrows(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("c", "e")]);
    assert_eq!(circle(&with), ["a", "b", "c"]);
    assert_eq!(circle(&arrows(&[("a", "b"), ("c", "b")])), [""; 0]);
    let inner = scan("use super::{b::X, super::d}; use super::super::e;", 2).inner;
    assert_eq!(inner, [(1, "b".to_owned())]);
}

#[track_caller]
fn found(source: &str, depth: usize) -> Vec<String> {
    scan(source, depth).modules
}

#[test]
fn a_planted_arrow_is_found_in_every_form() {
    assert_eq!(found("use crate::cluster::Cluster;", 2), ["cluster"]);
    assert_eq!(
        found(
            "use crate::{plan::{self, Plan}, run, units::{a::{B, C}, D as E}};",
            1
        ),
        ["plan", "run", "units"]
    );
    assert_eq!(found("pub(crate) use crate::cli;", 1), ["cli"]);
    assert_eq!(
        found("fn f() -> crate::run::RunError { crate::cli::main() }", 1),
        ["run", "cli"]
    );
    assert_eq!(found("use super::super::cluster::Cluster;", 2), ["cluster"]);
    assert_eq!(found("use super::{super::run, thread};", 2), ["run"]);
    assert_eq!(
        found(
            "mod tests { use super::super::super::cli; use super::x; }",
            2
        ),
        ["cli"]
    );
    assert_eq!(found("use super::cluster;", 1), ["cluster"]);
    assert_eq!(found("use super::cluster;", 2), [""; 0]);
    assert_eq!(found("use crate::*;", 1), ["*"]);
    assert_eq!(found("use crate as root;", 1), ["crate as"]);
    assert_eq!(found("fn main() { replbench::cli::main() }", 0), ["cli"]);
}

#[test]
fn comments_and_strings_name_nothing() {
    let source = "//! crate::cli\n/* crate::run /* crate::run */ */ const A: &str = \"crate::cli println!()\";\n\
                  const B: &str = r#\"crate::\"run\"#; const C: char = '\"'; fn f<'a>(x: &'a str) {} // clap\n";
    assert_eq!(scan(source, 1), Names::default());
}

#[test]
fn arrows_up_and_sideways_are_faults_and_arrows_down_are_not() {
    let check = |own: &str, source: &str| faults(own, &scan(source, 1));
    assert_eq!(
        check("load", "use crate::plan::Plan; use crate::pg;"),
        [""; 0]
    );
    assert_eq!(
        check("load", "use crate::cluster::Cluster;"),
        ["`load` names `cluster`, which is beside it"]
    );
    assert_eq!(
        check("plan", "use crate::run;"),
        ["`plan` names `run`, which is above it"]
    );
    assert_eq!(check("cluster", "use crate::sample::Phase;").len(), 1);
    assert_eq!(check("report", "use crate::pg::Endpoint;").len(), 1);
    assert_eq!(
        check("run", "fn f() { println!(); anstream::eprintln!(); }").len(),
        2
    );
    assert_eq!(check("plan", "use clap::Args;").len(), 1);
    assert_eq!(
        check(
            "cli",
            "use clap::Args; use crate::run; fn f() { println!(); }"
        ),
        [""; 0]
    );
    assert_eq!(check("sidecar", "").len(), 1);
}

#[test]
fn every_module_with_a_layer_exists_and_stands_in_architecture_md() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let table = page.split("\n## Layers\n").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    for module in LAYERS.iter().copied().flatten() {
        let file = root.join("src").join(module);
        assert!(
            file.is_dir() || file.with_extension("rs").is_file(),
            "src has no module `{module}`"
        );
        assert!(
            table.contains(&format!("`{module}`")),
            "`{module}` is not in the table of layers in ARCHITECTURE.md"
        );
    }
}

/// Documents that say where something is.
const DOCUMENTS: [&str; 8] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "METHODOLOGY.md",
    "README.md",
    "benches/README.md",
    "docs/data.md",
    "docs/seeds.md",
    "workloads/README.md",
];

#[test]
fn files_that_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "benches/",
        "compose/",
        "docs/",
        "schemas/",
        "scripts/",
        "src/",
        "tests/",
        "workloads/",
    ];
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-./".contains(character);
    let mut named = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for word in text.split(|character| !is_part(character)) {
            let path = word.trim_end_matches(['.', '/']);
            // What is left of an address on the web begins with two slashes.
            let is_source = path.find('/').is_some_and(|at| at > 0)
                && Path::new(path).extension() == Some("rs".as_ref());
            if is_source || folders.iter().any(|folder| path.starts_with(folder)) {
                named += 1;
                let in_src = root.join("src").join(path);
                assert!(
                    root.join(path).exists() || in_src.exists(),
                    "{document} names `{path}`"
                );
            }
        }
    }
    assert!(named > 50, "{named}");
}

/// A folder with more files needs a page that says what they are.
const MOST_UNEXPLAINED: usize = 12;

#[test]
fn what_the_files_of_a_large_folder_do_stands_in_architecture_md() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut folders = vec![root.join("src")];
    let mut large = 0;
    while let Some(folder) = folders.pop() {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                files.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
            }
        }
        if files.len() <= MOST_UNEXPLAINED || folder.ends_with("src") {
            continue;
        }
        large += 1;
        files.remove("mod");
        let name = folder.strip_prefix(root.join("src")).unwrap();
        let heading = format!("\n`{}`:\n", name.display());
        let from = page
            .find(&heading)
            .unwrap_or_else(|| panic!("no table of{heading}"));
        let table = page[from + 1..].split("\n`").next().unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let told: BTreeSet<_> = rows
            .map(|row| row.split('`').next().unwrap().to_owned())
            .collect();
        assert_eq!(told, files, "{}", name.display());
    }
    assert!(large > 3, "{large}");
}
