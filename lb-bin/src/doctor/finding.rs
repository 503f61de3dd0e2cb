//! What was found, and how it is printed.

use lb_core::Obstacle;
use serde::Serialize;

use crate::cli::Output;
use crate::client::print::for_programs;
use crate::config::count;
use crate::table::{Align, Table};

/// What is to be said of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: String,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What to do; `None` if nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    /// It works, but not as well as it could, or not for much longer.
    Warning,
    /// A balancer would not start, or not serve its clients.
    Failure,
}

impl Finding {
    pub(super) fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn warning(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.into()));
        Self { check: check.to_owned(), verdict: Verdict::Warning, found, remedy }
    }

    pub(super) fn failure(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failure, ..Self::warning(check, found, remedy) }
    }

    pub(super) fn obstacle(check: &str, obstacle: &Obstacle) -> Self {
        Self::failure(check, obstacle.found.clone(), obstacle.remedy.clone())
    }

    /// In one sentence, as a log has it.
    pub(super) fn sentence(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}: {}: {remedy}", self.check, self.found),
            None => format!("{}: {}", self.check, self.found),
        }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "FAILURE",
        }
    }
}

/// How many of them are of this verdict.
pub(super) fn number(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

/// What is printed of them.
///
/// # Errors
/// They can't be written in the wanted form.
pub(super) fn print(findings: &[Finding], output: Output) -> Result<String, String> {
    if output != Output::Table {
        return for_programs(&findings, output);
    }
    let mut table = Table::new(&[("VERDICT", Align::Left), ("CHECK", Align::Left), ("FOUND", Align::Left)]);
    for finding in findings {
        table.row([finding.verdict.word().to_owned(), finding.check.clone(), finding.found.clone()]);
        if let Some(remedy) = &finding.remedy {
            table.row([String::new(), String::new(), format!("→ {remedy}")]);
        }
    }
    let [failures, warnings] = [Verdict::Failure, Verdict::Warning].map(|verdict| number(findings, verdict));
    Ok(format!("{}{}, {}\n", table.text(), count(failures, "failure"), count(warnings, "warning")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_remedy_below_what_was_found() {
        let findings = [Finding::ok("io_uring", "allowed"), Finding::failure("clock", "it is 1970", "set it")];
        assert_eq!(
            print(&findings, Output::Table).unwrap(),
            "VERDICT  CHECK     FOUND\n\
             ok       io_uring  allowed\n\
             FAILURE  clock     it is 1970\n                   → set it\n\
             1 failure, 0 warnings\n"
        );
        let json: serde_json::Value = serde_json::from_str(&print(&findings, Output::Json).unwrap()).unwrap();
        assert_eq!(json[0], serde_json::json!({"check": "io_uring", "verdict": "ok", "found": "allowed"}));
        assert_eq!(json[1]["remedy"], "set it");
        assert_eq!(findings[1].sentence(), "clock: it is 1970: set it");
    }
}
