//! The published site in a browser that has no network: nothing is asked for, nothing complained of, and a person finds the way.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at the first thing that fails, and made-up figures are small"
)]

mod browser;
mod library;
mod made_up;

use std::fs;
use std::path::Path;

use browser::Browser;
use library::{Library, pages};

/// What has the focus: its tag, its role, its name.
const FOCUS: &str = "(() => { const it = document.activeElement; \
     return `${it.tagName} ${it.getAttribute('role')} ${it.getAttribute('aria-label') || it.textContent}`.slice(0, 80) })()";

#[test]
fn a_browser_without_a_network_shows_the_site_and_its_filters_and_tips_work() {
    let library = Library::grown();
    library.publish();
    let site = library.site();
    let mut browser = Browser::start();
    for path in pages(&site).into_keys() {
        browser.open(&site.join(&path));
        assert_eq!(browser.complaints(), [""; 0], "{}", path.display());
    }
    every_light_and_width_is_fit_to_look_at(&mut browser, &site);
    the_filter_hides_rows(&mut browser, &site);
    keys_reach_everything(&mut browser, &site);
    a_point_is_told_when_pointed_at(&mut browser, &site);
}

fn every_light_and_width_is_fit_to_look_at(browser: &mut Browser, site: &Path) {
    let folders = fs::read_dir(site.join("compare")).unwrap().flatten();
    let mut comparisons = folders.map(|entry| entry.path().join("comparison.html"));
    let run = fs::read_dir(site.join("runs")).unwrap().flatten().next();
    let pages = [
        ("index", site.join("index.html")),
        ("trend", site.join("trend.html")),
        ("method", site.join("method.html")),
        ("run", run.unwrap().path().join("index.html")),
        ("comparison", comparisons.find(|it| it.is_file()).unwrap()),
    ];
    for (name, page) in pages {
        for (scheme, background) in [("light", "rgb(255, 255, 255)"), ("dark", "rgb(21, 24, 28)")] {
            for width in [1280, 390] {
                browser.show(scheme, width);
                browser.open(&page);
                assert_eq!(browser.complaints(), [""; 0], "{name}");
                let drawn = browser.eval("getComputedStyle(document.body).backgroundColor");
                assert_eq!(drawn, background, "{name}");
                // What is wider than the window scrolls by itself, the page does not.
                let wide = browser.eval("document.documentElement.scrollWidth");
                assert!(
                    wide.as_u64().unwrap() <= width.into(),
                    "{name} at {width}: {wide}"
                );
                let broken =
                    "[...document.images].filter(it => it.complete && !it.naturalWidth).length";
                assert_eq!(
                    browser.eval(broken),
                    0,
                    "{name}: pictures that did not load"
                );
                browser.picture(&format!("{name}-{scheme}-{width}"));
            }
        }
    }
    browser.show("light", 1280);
}

fn the_filter_hides_rows(browser: &mut Browser, site: &Path) {
    browser.open(&site.join("index.html"));
    let shown =
        "[...document.querySelectorAll('#runs tbody tr')].filter(it => it.offsetHeight).length";
    assert_eq!(browser.eval(shown), 16);
    browser.eval("document.querySelector('form.filter input').focus()");
    browser.write("invalid");
    assert_eq!(browser.eval(shown), 1);
    let told = "document.querySelector('form.filter output').textContent";
    assert_eq!(browser.eval(told), "1 of 16 runs");
    // The hostile profile sorts first, and is one run.
    browser.eval(
        "(() => { const form = document.querySelector('form.filter'); form.reset(); \
         form.elements.profile.selectedIndex = 1; form.dispatchEvent(new Event('input')) })()",
    );
    assert_eq!(browser.eval(shown), 1);
    browser.open(&site.join("trend.html"));
    let shown =
        "[...document.querySelectorAll('section.series')].filter(it => it.offsetHeight).length";
    let all = browser.eval(shown).as_u64().unwrap();
    browser.eval("document.querySelector('form.filter input').focus()");
    browser.write("response.p50 async");
    let some = browser.eval(shown).as_u64().unwrap();
    assert!(0 < some && some < all, "{some} of {all}");
    assert_eq!(browser.complaints(), [""; 0]);
}

fn keys_reach_everything(browser: &mut Browser, site: &Path) {
    browser.open(&site.join("index.html"));
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press("Tab");
        reached.push(browser.eval(FOCUS).as_str().unwrap().to_owned());
    }
    for wanted in [
        "To the content",
        "Comparisons",
        "DIV region Table of modes",
        "INPUT",
        "SELECT",
        "DIV region Table of runs",
    ] {
        let is_reached = reached.iter().any(|it| it.contains(wanted));
        assert!(is_reached, "{wanted}: {reached:#?}");
    }
}

fn a_point_is_told_when_pointed_at(browser: &mut Browser, site: &Path) {
    browser.open(&site.join("trend.html"));
    let plot = "document.querySelector('section.series[data-figure=\"response.p50\"] .plot.wide')";
    browser.eval(&format!("{plot}.scrollIntoView({{block: 'center'}})"));
    let mut side = |name: &str| {
        let side = browser.eval(&format!("{plot}.getBoundingClientRect().{name}"));
        side.as_f64().unwrap()
    };
    let (x, y) = (
        side("left") + side("width") * 0.9,
        side("top") + side("height") * 0.5,
    );
    let is_hidden = "document.getElementById('tip').hidden";
    let text = "document.getElementById('tip').textContent";
    assert_eq!(browser.eval(is_hidden), true);
    browser.point(x, y);
    assert_eq!(browser.eval(is_hidden), false);
    let told = browser.eval(text).as_str().unwrap().to_owned();
    for part in [
        "commit: ",
        "run: 2026-03-01 ",
        "value (ms): ",
        "95 %: ",
        "reps: 3",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    browser.picture("trend-tip");
    browser.point(1.0, 1.0);
    assert_eq!(browser.eval(is_hidden), true);
    // The same without a pointer.
    browser.eval(&format!("{plot}.focus({{preventScroll: true}})"));
    let newest = browser.eval(text);
    browser.press("ArrowLeft");
    let before = browser.eval(text);
    assert!(
        newest.as_str().unwrap().contains("commit: ") && newest != before,
        "{newest} {before}"
    );
    browser.press("Escape");
    assert_eq!(browser.eval(is_hidden), true);
    assert_eq!(browser.complaints(), [""; 0]);
}
