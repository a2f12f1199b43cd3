//! What every page has around its content: the head, the security policy that forbids network access, and the style sheet.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::report::chart::style;
use crate::report::escape_control;

const CSS: &str = include_str!("../page.css");

/// The parts of a page around its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shell<'a> {
    pub(crate) title: &'a str,
    /// CSS rules in addition to those that all pages share.
    pub(crate) css: &'a str,
    /// The only script that may run on the page.
    pub(crate) script: Option<&'a str>,
    /// Whether the page may show image files from its own site.
    pub(crate) images: bool,
}

impl Shell<'_> {
    /// The HTML document around `body`. The page can fetch nothing but the allowed images, and runs no script but `script`, whatever a name
    /// in a run contains.
    pub(crate) fn document(&self, body: &Markup) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content=(self.policy());
                    meta name="color-scheme" content="light dark";
                    title { (escape_control(self.title)) " · replbench" }
                    style { (PreEscaped(CSS)) (PreEscaped(style())) (PreEscaped(self.css)) }
                }
                body {
                    (body)
                    @if let Some(script) = self.script { script { (PreEscaped(script)) } }
                }
            }
        }
        .into_string()
    }

    fn policy(&self) -> String {
        let mut policy = String::from(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        );
        if self.images {
            policy.push_str("; img-src 'self'");
        }
        if let Some(script) = self.script {
            let digest = STANDARD.encode(Sha256::digest(script));
            policy.push_str("; script-src 'sha256-");
            policy.push_str(&digest);
            policy.push('\'');
        }
        policy
    }
}
