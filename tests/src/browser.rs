//! A real browser: Chromium without a window, told by its driver what a person would do with it. Every step waits until it can
//! be done.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Log;

/// After this long something hangs: browsers are slow where much else runs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a page.
const PAUSE: Duration = Duration::from_millis(30);

/// A key that is no character, as WebDriver writes it.
pub mod key {
    pub const TAB: &str = "\u{e004}";
    pub const SHIFT_TAB: &str = "\u{e008}\u{e004}\u{e008}";
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const SPACE: &str = " ";
}

/// What a browser looks like.
#[derive(Debug, Clone, Copy, Default)]
pub enum Look {
    /// A window of a desktop, light.
    #[default]
    Light,
    /// The same, dark, for somebody who wants no movement.
    Dark,
    /// A small phone: 360 by 740 pixels.
    Phone,
}

/// A running browser with a profile of its own; ended when dropped.
#[derive(Debug)]
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// If `chromium` or `chromedriver` is missing: see `tests/run`.
    pub fn start(look: Look) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver can be started: see tests/run");
        let log = Log::follow(driver.stdout.take().unwrap());
        let line = log.wait_for("started successfully on port ").expect("chromedriver says its port");
        let port: String = line.rsplit(' ').next().unwrap().chars().filter(char::is_ascii_digit).collect();
        let profile = TempDir::with_prefix("lb-browser-").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let capabilities = capabilities(look, profile.path());
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let client = runtime.block_on(
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities)
                .connect(&format!("http://127.0.0.1:{port}")),
        );
        Self { runtime, client: client.expect("chromium starts"), driver, _profile: profile }
    }

    /// Goes to a page.
    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.client.goto(url)).unwrap();
    }

    /// Loads the page anew.
    pub fn reload(&self) {
        self.runtime.block_on(self.client.refresh()).unwrap();
    }

    /// Puts the window away: nobody sees the page any more.
    pub fn hide(&self) {
        self.runtime.block_on(self.client.minimize_window()).unwrap();
        self.until_holds("the page is hidden", || self.run("return document.hidden") == true);
    }

    /// Shows the window again.
    pub fn show(&self) {
        self.runtime.block_on(self.client.set_window_size(1280, 900)).unwrap();
        self.until_holds("the page is visible", || self.run("return document.hidden") == false);
    }

    /// Clicks on what is at `place`: a selector of CSS, or an XPath.
    pub fn click(&self, place: &str) {
        self.patiently(
            &format!("{place} can be clicked"),
            async |element: Element| {
                self.script_on(&element, "arguments[0].scrollIntoView({block: 'center'})").await?;
                element.click().await
            },
            place,
        );
    }

    /// Writes into a field in place of what is in it.
    pub fn fill(&self, place: &str, text: &str) {
        self.patiently(
            &format!("{place} can be written into"),
            async |element: Element| {
                self.script_on(&element, "arguments[0].scrollIntoView({block: 'center'})").await?;
                element.clear().await?;
                element.send_keys(text).await
            },
            place,
        );
    }

    /// Chooses in a list by what is shown.
    pub fn choose(&self, place: &str, label: &str) {
        self.patiently(
            &format!("{label} can be chosen at {place}"),
            async |element: Element| element.select_by_label(label).await,
            place,
        );
    }

    /// Gives a file to an input for files.
    pub fn upload(&self, place: &str, file: &Path) {
        let path = file.to_str().expect("paths of tests are UTF-8");
        self.patiently(&format!("{place} takes a file"), async |element: Element| element.send_keys(path).await, place);
    }

    /// Types, wherever the focus is: text, and [`key`]s.
    pub fn press(&self, keys: &str) {
        self.runtime.block_on(async { self.client.active_element().await?.send_keys(keys).await }).unwrap();
    }

    /// Waits until something is visible there.
    pub fn until(&self, place: &str) {
        self.until_holds(&format!("there is {place}"), || self.is_visible(place));
    }

    /// Waits until nothing is visible there.
    pub fn until_gone(&self, place: &str) {
        self.until_holds(&format!("there is no {place}"), || !self.is_visible(place));
    }

    /// Waits until what is there has this text in it, and gives the whole text.
    pub fn until_text(&self, place: &str, part: &str) -> String {
        let mut last = String::new();
        let holds = || {
            last = self.text(place).unwrap_or_else(|| "nothing".to_owned());
            last.contains(part)
        };
        if !holds_in_time(holds) {
            panic!(
                "waited {PATIENCE:?} in vain for {part:?} at {place}, where there is: {last}\n{}",
                self.whole_text()
            );
        }
        last
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// If it does not in a minute.
    pub fn until_holds(&self, what: &str, condition: impl FnMut() -> bool) {
        if !holds_in_time(condition) {
            panic!("waited {PATIENCE:?} in vain until {what}; the page is:\n{}", self.whole_text());
        }
    }

    /// The visible text of the first that is there, if there is one.
    pub fn text(&self, place: &str) -> Option<String> {
        self.runtime.block_on(async { self.client.find(locator(place)).await?.text().await }).ok()
    }

    /// Whether something is visible there.
    pub fn is_visible(&self, place: &str) -> bool {
        let visible = async { self.client.find(locator(place)).await?.is_displayed().await };
        self.runtime.block_on(visible).unwrap_or(false)
    }

    /// How many there are.
    pub fn count(&self, place: &str) -> usize {
        self.runtime.block_on(self.client.find_all(locator(place))).unwrap().len()
    }

    /// A property of what is there, for example `value` or `checked`, as text.
    pub fn property(&self, place: &str, name: &str) -> String {
        let property = async { self.client.find(locator(place)).await?.prop(name).await };
        self.runtime.block_on(property).unwrap_or_else(|error| panic!("{place}: {error}")).unwrap_or_default()
    }

    /// What has the focus: its label, its text or its name.
    pub fn focused(&self) -> String {
        let said = "const it = document.activeElement; return it.getAttribute('aria-label') || it.textContent || it.name || it.tagName";
        self.run(said).as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script in the page and gives what it returns; a promise is waited for.
    pub fn run(&self, script: &str) -> Value {
        let ran = self.runtime.block_on(self.client.execute(script, Vec::new()));
        ran.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What the browser has refused to the page by its content security policy: the directives, in their order.
    pub fn violations(&self) -> Vec<String> {
        let reports = self.run(
            "return new Promise((resolve) => {
                 new ReportingObserver(
                     (reports) => resolve(reports.map((report) => report.body.effectiveDirective)),
                     { types: ['csp-violation'], buffered: true },
                 ).observe();
                 setTimeout(() => resolve([]), 200);
             })",
        );
        serde_json::from_value(reports).expect("directives are text")
    }

    /// Keeps a picture of what is visible, under `target/screenshots/`.
    ///
    /// # Panics
    /// If it can't be made or written.
    pub fn keep_picture(&self, name: &str) {
        self.try_keep_picture(name).unwrap();
    }

    fn try_keep_picture(&self, name: &str) -> Result<(), Box<dyn std::error::Error>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
        fs::create_dir_all(&folder)?;
        let picture = self.runtime.block_on(self.client.screenshot())?;
        Ok(fs::write(folder.join(format!("{name}.png")), picture)?)
    }

    /// Tries something with what is at a place until it succeeds: it may come, be covered or be replaced meanwhile.
    fn patiently(&self, what: &str, action: impl AsyncFn(Element) -> Result<(), CmdError>, place: &str) {
        let mut last = String::new();
        let done = holds_in_time(|| {
            let tried = self.runtime.block_on(async {
                let element = self.client.find(locator(place)).await?;
                action(element).await
            });
            tried.map_err(|error| last = error.to_string()).is_ok()
        });
        assert!(done, "waited {PATIENCE:?} in vain until {what}: {last}; the page is:\n{}", self.whole_text());
    }

    async fn script_on(&self, element: &Element, script: &str) -> Result<Value, CmdError> {
        self.client.execute(script, vec![serde_json::to_value(element)?]).await
    }

    fn whole_text(&self) -> String {
        self.text("body").unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = std::thread::current().name().unwrap_or("test").replace("::", "-");
            let _ = self.try_keep_picture(&format!("failed-{name}"));
        }
        // The driver ends the browser with its session.
        let _ = self.runtime.block_on(self.client.clone().close());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A button by what is written on it, or by its label.
pub fn button(label: &str) -> String {
    format!("//button[normalize-space()=\"{label}\" or @aria-label=\"{label}\"]")
}

fn locator(place: &str) -> Locator<'_> {
    if place.starts_with("//") { Locator::XPath(place) } else { Locator::Css(place) }
}

fn holds_in_time(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

fn capabilities(look: Look, profile: &Path) -> Value {
    let mut arguments = vec![
        "--headless=new".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--window-size=1280,900".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    let mut options = json!({});
    match look {
        Look::Light => {}
        Look::Dark => {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
            arguments.push("--force-prefers-reduced-motion".to_owned());
        }
        Look::Phone => {
            options["mobileEmulation"] =
                json!({"deviceMetrics": {"width": 360, "height": 740, "pixelRatio": 2, "touch": true}});
        }
    }
    options["args"] = json!(arguments);
    json!({"browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": options})
}
