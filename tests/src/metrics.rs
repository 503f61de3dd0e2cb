//! The metrics of a running `lb`, as a collector reads them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::http::Wire;
use crate::lb::text;
use crate::program::{Program, free_addr};
use crate::{Lb, wait};

/// The samples of one text.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Scrapes an endpoint.
    ///
    /// # Panics
    /// If it does not answer with metrics.
    pub fn at(endpoint: SocketAddr) -> Self {
        let answer = Wire::connect(endpoint).get("/metrics");
        assert_eq!(answer.status(), 200, "{answer:?}");
        Self::read(answer.text())
    }

    /// Reads a text, in whichever format.
    ///
    /// # Panics
    /// If a line is no sample.
    pub fn read(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.replace('"', ""), value.parse().ok()?))
        };
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(samples.map(|line| sample(line).unwrap_or_else(|| panic!("{line:?} is no sample"))).collect())
    }

    /// The value of a series, whose labels are written without quotation marks: `lb_server_up{frontend=web,server=a}`.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn value(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// The same, or `None` if there is no such series.
    pub fn find(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// All series, in order.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Where a running `lb` tells its metrics by TCP, as its log says.
///
/// # Panics
/// If it does not.
pub fn endpoint(lb: &Lb) -> SocketAddr {
    let line = lb.log().wait_for("metrics on http://").expect("lb tells its metrics");
    let (_, rest) = line.split_once("metrics on http://").expect("the line has it");
    rest.trim_end_matches("/metrics").parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// What `promtool check metrics` says about a text: nothing, if it is good.
///
/// # Panics
/// If it can't be run.
pub fn complaints(metrics: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool is installed: see tests/run");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.code().is_some(), "{output:?}");
    text(&output.stdout) + &text(&output.stderr)
}

/// A Prometheus that scrapes every 200 ms.
#[derive(Debug)]
pub struct Prometheus(Program);

impl Prometheus {
    /// Starts it with one target and a file of rules.
    pub fn start(target: SocketAddr, rules: &str) -> Self {
        let folder = TempDir::with_prefix("lb-test-prometheus-").unwrap();
        let addr = free_addr();
        let [config, rule_file, data] = ["prometheus.yml", "rules.yml", "data"].map(|name| folder.path().join(name));
        fs::write(&rule_file, rules).unwrap();
        let text = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: lb, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={addr}"));
        Self(Program::start(folder, command, addr, "KILL"))
    }

    /// What an expression gives: a value for each series.
    ///
    /// # Panics
    /// If it is not understood.
    pub fn query(&self, expression: &str) -> Vec<f64> {
        let answer = self.get(&format!("/api/v1/query?query={}", percent_encoded(expression)));
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        let value = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
        series.iter().map(|series| value(series).unwrap_or_else(|| panic!("{expression}: {series}"))).collect()
    }

    /// The rules that it evaluates, once it has done so.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn evaluated_rules(&self) -> Vec<Value> {
        wait::until_some("all rules are evaluated", || {
            let answer = self.get("/api/v1/rules");
            let rules = answer["data"]["groups"][0]["rules"].as_array()?.clone();
            rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
        })
    }

    fn get(&self, target: &str) -> Value {
        let answer = Wire::connect(self.0.addr()).get(target);
        serde_json::from_str(answer.text()).unwrap_or_else(|error| panic!("{target}: {error}: {answer:?}"))
    }
}

fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
