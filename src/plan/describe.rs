//! Describes a plan as a page of text, 80 columns wide, for `run --dry-run` and `check`.
//! Only puts the plan into words; decides nothing.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use itertools::Itertools as _;

use super::{
    Cell, Gate, KeyChoice, Length, OWN_SCHEMA, Offered, Plan, ServersMade, Side, Sides, Table,
    Transaction, Turn,
};
use crate::mode::Mode;
use crate::profile::visible;
use crate::units::{counted, exact_duration, exact_share, thousands};

const WIDTH: usize = 80;
const MARGIN: usize = 14;

impl Plan {
    /// Describes what will run: modes, servers, load, phases, tables, settings, and every cell in order.
    pub fn describe(&self) -> String {
        let mut page = Page::default();
        self.describe_work(&mut page);
        page.section("order");
        for block in self.cells.chunk_by(|a, b| a.block == b.block) {
            let name = format!("block {}", block[0].block);
            page.row(&name, &self.name_modes(block));
        }
        page.section("in all");
        page.row("cells", &self.cells.len().to_string());
        page.row("seed", &describe_seed(self.seed));
        page.row("workload", &self.workload_hash()[..16]);
        page.row("servers", &self.describe_servers());
        page.row("takes about", &minutes(self.estimate()));
        page.text
    }

    /// The warning to show with the figures of a quick run; `None` if the run is not quick.
    pub fn caution(&self) -> Option<String> {
        let repeats = counted(self.repeats.into(), "short repetition");
        self.quick.then(|| {
            format!(
                "a first look (--quick, {repeats}): no verdict is to be drawn from it; without --quick there is one to be had"
            )
        })
    }

    fn describe_servers(&self) -> String {
        let existing = format!(
            "they exist, and are left as they are; all is done in schema {OWN_SCHEMA}, which is made and removed"
        );
        let made = match self.servers_made() {
            ServersMade::Never => &existing,
            ServersMade::Compose => "started once by docker compose, with a discarded cell first",
            ServersMade::ComposeEveryCell => {
                "started anew by docker compose for every cell, because each ends with another primary"
            }
            ServersMade::Once => "made once, with a discarded cell first",
            ServersMade::EveryCell => {
                "made anew for every cell, because each ends with another primary"
            }
            ServersMade::EveryBlock => {
                "made anew for every block, because topologies are compared, each with a discarded cell first"
            }
        };
        let cost = about(self.estimate_servers());
        format!("{made}: {cost} of the time below")
    }

    fn describe_work(&self, page: &mut Page) {
        page.row("profile", &visible(&self.profile));
        page.paragraph(&visible(&self.description));
        page.section("modes");
        for mode in &self.modes {
            page.row(&visible(&mode.name), &mode.explain());
            page.row("", &mode.topology.to_string());
        }
        for reason in &self.left_out {
            page.row("", &visible(reason));
        }
        page.section("workload");
        for transaction in &self.transactions {
            page.row(&transaction.name, &self.describe_mix(transaction));
        }
        for table in &self.tables {
            page.row("table", &describe_table(table));
        }
        page.row("load", &self.describe_load());
        page.row("phases", &self.describe_phases());
        page.row("probes", &self.describe_probes());
        page.row("wal_level", self.wal_level.setting());
        page.row("expects", &self.describe_expectations());
        for (name, value) in &self.settings {
            page.row("setting", &format!("{name} = {}", visible(value)));
        }
        if !self.faults.is_empty() {
            page.section("faults");
        }
        for fault in &self.faults {
            let name = format!("at {}", exact_duration(fault.at));
            let (kind, target) = (fault.kind.as_str(), visible(&fault.target));
            let what = if fault.kind.is_instant() {
                format!("{kind} of {target}")
            } else {
                format!("{kind} of {target} for {}", exact_duration(fault.length))
            };
            page.row(&name, &what);
        }
        if !self.gates.is_empty() {
            page.section("gates");
        }
        for gate in &self.gates {
            let name = gate.name.as_deref().unwrap_or("gate");
            page.row(&visible(name), &self.describe_gate(gate));
        }
    }

    fn describe_gate(&self, gate: &Gate) -> String {
        let of_replicas = gate.metric.is_of_replica();
        let node = match &gate.node {
            Some(node) => format!(" on {}", visible(node)),
            None if of_replicas => " on every replica".into(),
            None => String::new(),
        };
        let mode = match &gate.mode {
            Some(mode) => format!("under {}", visible(mode)),
            None => "under every mode".into(),
        };
        let mut concerned = self
            .modes
            .iter()
            .filter(|mode| gate.concerns(&mode.name))
            .peekable();
        let has_node = |mode: &Mode| !of_replicas || !gate.nodes_in(mode).is_empty();
        let is_sound = match &gate.node {
            Some(_) => concerned.any(has_node),
            None => concerned.peek().is_some() && concerned.all(has_node),
        };
        let doomed = if is_sound {
            ""
        } else {
            "; this plan has no such mode or node, so the gate will fail"
        };
        format!("{}{node} {mode}: {}{doomed}", gate.metric, gate.wanted())
    }

    fn name_modes<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>) -> String {
        let mut names = cells
            .into_iter()
            .map(|cell| visible(&self.modes[cell.mode].name));
        names.join(", ")
    }

    fn describe_mix(&self, transaction: &Transaction) -> String {
        let total: u32 = self.transactions.iter().map(|it| it.weight).sum();
        let share = exact_share(f64::from(transaction.weight) / f64::from(total));
        let keys: String = transaction
            .rows_chosen()
            .map(|(table, choice)| {
                let table = visible(&self.tables[table].name);
                match choice {
                    KeyChoice::Uniform => format!(", rows of {table} all alike"),
                    KeyChoice::Zipf(exponent) => {
                        format!(", rows of {table} by Zipf's law with exponent {exponent}")
                    }
                }
            })
            .collect();
        format!("{share} of arrivals{keys}")
    }

    fn describe_load(&self) -> String {
        let load = &self.load;
        format!(
            "{}; client {}, {}, {}; at most {} in flight, each for at most {}",
            load.offered,
            self.client,
            counted(load.connections.into(), "connection"),
            counted(load.threads.into(), "thread"),
            thousands(load.max_in_flight.into()),
            exact_duration(load.transaction_deadline),
        )
    }

    fn describe_phases(&self) -> String {
        let measure = match self.phases.measure {
            Length::For(duration) => exact_duration(duration),
            Length::Count(count) => format!("{} arrivals", thousands(count)),
        };
        format!(
            "warm-up {}, measurement {measure}, drain at most {}; {}",
            exact_duration(self.phases.warmup),
            exact_duration(self.phases.drain),
            counted(self.repeats.into(), "repetition"),
        )
    }

    fn describe_expectations(&self) -> String {
        let failures = exact_share(self.expect.failures);
        let overload = match (self.load.offered, self.expect.overload) {
            (Offered::Closed, _) => "",
            (Offered::Open { .. }, true) => ", also under overload",
            (Offered::Open { .. }, false) => ", and that the servers keep up",
        };
        format!("at most {failures} of arrivals to fail{overload}; else the cell is invalid")
    }

    fn describe_probes(&self) -> String {
        let visibility = if self.probes.visibility {
            format!(
                "visibility of every commit by {}, idle look every {}",
                self.probes.method.as_str(),
                exact_duration(self.probes.tick)
            )
        } else {
            "no visibility".into()
        };
        let lag = exact_duration(self.probes.lag_interval);
        format!("{visibility}; lag every {lag}")
    }
}

impl Sides<Plan> {
    /// Describes what a session will run: each side with the items it was given, then the order of the turns.
    pub fn describe(&self, given: &Sides<Vec<String>>) -> String {
        let mut page = Page::default();
        for side in Side::BOTH {
            let given = match given.get(side).as_slice() {
                [] => "as the profile says".into(),
                items => visible(&items.join(" ")),
            };
            page.title(&format!("{side}: {given}"));
            self.get(side).describe_work(&mut page);
        }
        page.title("session");
        page.section("order, each turn on servers made for it");
        let name = |turn: &Turn| {
            let plan = self.get(turn.side);
            format!(
                "{} ({})",
                turn.side,
                plan.name_modes(plan.block(turn.block))
            )
        };
        for turns in self.turns().chunk_by(|a, b| a.block == b.block) {
            let block = format!("block {}", turns[0].block);
            page.row(&block, &turns.iter().map(name).join(", then "));
        }
        page.section("in all");
        let cells = self.base.cells.len() + self.head.cells.len();
        page.row("cells", &cells.to_string());
        page.row("seed", &describe_seed(self.base.seed));
        page.row("workload", &self.base.workload_hash()[..16]);
        page.row("takes about", &minutes(self.estimate()));
        page.text
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { rate, arrivals } => {
                write!(f, "open loop, {rate}, {} arrivals", arrivals.as_str())
            }
            Self::Closed => f.write_str("closed loop, as fast as the server answers"),
        }
    }
}

fn describe_seed(seed: u64) -> String {
    format!("{seed}; `--seed {seed}` repeats arrivals and order")
}

fn describe_table(table: &Table) -> String {
    let id = if table.id == table.name {
        String::new()
    } else {
        format!(" ({})", visible(&table.id))
    };
    format!(
        "{}{id}, {} before each cell, filled to {} bytes",
        visible(&table.name),
        counted(table.rows, "row"),
        thousands(table.row_bytes.into()),
    )
}

/// An estimated duration in words, coarse on purpose: `about 6 min`.
pub fn about(duration: Duration) -> String {
    format!("about {}", minutes(duration))
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1800) / 3600),
    }
}

/// A page of rows, each with a label and a text that is folded beside the label.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn section(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n{title}");
    }

    /// Adds a title, folded to the page's width, above a part that has sections of its own.
    fn title(&mut self, title: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for line in fold(title, WIDTH) {
            let _ = writeln!(self.text, "{line}");
        }
    }

    fn paragraph(&mut self, text: &str) {
        for line in fold(text, WIDTH - 2) {
            let _ = writeln!(self.text, "  {line}");
        }
    }

    fn row(&mut self, label: &str, text: &str) {
        // A label too long for the margin has a line of its own.
        let mut label = label;
        if label.len() > MARGIN {
            let _ = writeln!(self.text, "  {label}");
            label = "";
        }
        for line in fold(text, WIDTH - MARGIN - 4) {
            let _ = writeln!(self.text, "  {label:MARGIN$}  {line}");
            label = "";
        }
    }
}

/// Lines of at most `width` columns, broken between words; a longer word is cut.
pub(crate) fn fold(text: &str, width: usize) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let options = textwrap::Options::new(width)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_lines_fit_and_lose_no_word() {
        let text = "one two three fourfivesixseveneightnine ten";
        let lines = fold(text, 10);
        assert!(
            lines.iter().all(|line| line.chars().count() <= 10),
            "{lines:?}"
        );
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        assert_eq!(fold("", 10), [""]);
    }

    #[test]
    fn estimates_are_coarse() {
        assert_eq!(minutes(Duration::from_secs(66)), "66 s");
        assert_eq!(minutes(Duration::from_secs(276)), "5 min");
        assert_eq!(minutes(Duration::from_hours(30)), "30 h");
    }
}
