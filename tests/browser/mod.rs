//! A headless Chromium with the network cut off, driven over its debugging pipe. Knows pages, keys and the pointer; not what is
//! on a page.
#![allow(
    clippy::unwrap_used,
    reason = "a browser that does not answer fails the test"
)]
#![allow(
    unreachable_pub,
    reason = "a test file that has this module has no public face of its own"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use replbench::cluster::process;
use serde_json::{Value, json};
use tempfile::TempDir;

/// No answer takes so long, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_mins(1);
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// One browser with one page.
pub struct Browser {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<Value>,
    session: Option<String>,
    sent: u64,
    /// What has happened on the page since it was opened.
    events: Vec<Value>,
    // Removed after the browser has ended.
    profile: TempDir,
}

impl Browser {
    /// Fails without a Chromium: `scripts/test` installs one.
    pub fn start() -> Self {
        let program = std::env::var("CHROMIUM").ok().unwrap_or_else(|| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let has = |name: &&str| std::env::split_paths(&path).any(|it| it.join(name).is_file());
            let found = NAMES.into_iter().find(has);
            found
                .expect("no chromium on the PATH: `scripts/test` installs one, CHROMIUM=PATH names another")
                .to_owned()
        });
        let profile = TempDir::with_prefix("replbench-chromium-").unwrap();
        let log = File::create(profile.path().join("log")).unwrap();
        // The browser speaks over its descriptors 3 and 4, which only a shell hands on without unsafe code.
        let mut child = process::command("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh", &program])
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--remote-debugging-pipe",
                // Whoever asks the network for something gets nothing.
                "--host-resolver-rules=MAP * ~NOTFOUND",
                "--proxy-server=127.0.0.1:9",
                "--window-size=1280,900",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (tell, answers) = channel();
        // Ends with the browser.
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output
                .read_until(0, &mut message)
                .is_ok_and(|length| length > 0)
            {
                message.pop();
                let value = serde_json::from_slice(&message).unwrap_or_default();
                if tell.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            orders,
            answers,
            session: None,
            sent: 0,
            events: Vec::new(),
            profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = target["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// The log of the browser itself, for a failure.
    fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }

    fn next(&mut self, what: &str) -> Value {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(value) => value,
            Err(error) => panic!("chromium: {what}: {error}\n{}", self.log()),
        }
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "every caller makes them on the spot"
    )]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut order = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let orders = self.orders.as_mut().unwrap();
        orders.write_all(order.to_string().as_bytes()).unwrap();
        orders.write_all(&[0]).unwrap();
        orders.flush().unwrap();
        loop {
            let mut value = self.next(method);
            if value["id"] == self.sent {
                assert!(value["error"].is_null(), "{method}: {}", value["error"]);
                return value["result"].take();
            }
            self.events.push(value);
        }
    }

    /// Opens a file and waits until it has loaded.
    pub fn open(&mut self, path: &Path) {
        self.events.clear();
        let url = format!("file://{}", path.display());
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let event = self.next("load");
            self.events.push(event);
        }
    }

    /// What the page complained of, and everything that it asked for from elsewhere than the disk.
    pub fn complaints(&mut self) -> Vec<String> {
        // What is under way arrives before the answer to a question.
        self.eval("0");
        let told = self.events.iter().filter_map(|event| {
            let parameters = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" => {
                    Some(parameters.to_string())
                }
                "Log.entryAdded" => Some(parameters["entry"].to_string()),
                "Network.requestWillBeSent" => {
                    let url = parameters["request"]["url"].as_str().unwrap_or_default();
                    (!url.starts_with("file://")).then(|| format!("asked for {url}"))
                }
                "Network.loadingFailed" => Some(parameters.to_string()),
                _ => None,
            }
        });
        told.collect()
    }

    /// The value of an expression on the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let mut answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true}),
        );
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].take()
    }

    /// As a person sees it: light or dark, so many CSS pixels wide.
    pub fn show(&mut self, scheme: &str, width: u32) {
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}),
        );
    }

    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            _ => 0,
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Moves the pointer there, in CSS pixels of the window.
    pub fn point(&mut self, x: f64, y: f64) {
        self.call(
            "Input.dispatchMouseEvent",
            json!({"type": "mouseMoved", "x": x, "y": y}),
        );
    }

    /// A picture of the window, into `$SCREENSHOTS` if that is set, for a person.
    pub fn picture(&mut self, name: &str) {
        if let Some(folder) = std::env::var_os("SCREENSHOTS") {
            let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
            let data = shot["data"].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(data)
                .unwrap();
            std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser ends when its pipe does.
        self.orders = None;
        for _ in 0..500 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
