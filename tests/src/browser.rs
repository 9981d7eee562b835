//! A page in Debian's Chromium, without a screen, driven over its debugging protocol.
//!
//! Keys and clicks are those of a keyboard and a mouse: what can't be reached by them can't be
//! reached here. Everything that the page or the browser complains of is kept.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::wait_until;

/// Longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    socket: WebSocket<TcpStream>,
    _processes: Processes,
    /// After its processes: they write into it.
    _folder: tempfile::TempDir,
    session: String,
    calls: u64,
    complaints: Vec<String>,
    received: u64,
}

/// All processes of a browser, which are a group.
#[derive(Debug)]
struct Processes(Child);

/// What is held while a key is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// The control key.
    Control,
}

impl Browser {
    /// Starts one, of a size in points.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start((width, height): (u32, u32)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("chromium");
        command
            .args(["--headless=new", "--disable-gpu", "--no-first-run"])
            // Its own sandbox is not to be had as root; the pages are ours.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg("about:blank")
            .env("HOME", folder.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let processes = Processes(command.spawn().expect("chromium, see contrib/test.sh"));
        let file = folder.path().join("DevToolsActivePort");
        let address = || -> Option<(String, String)> {
            let text = fs::read_to_string(&file).ok()?;
            let (port, path) = text.trim_end().split_once('\n')?;
            Some((port.to_owned(), path.to_owned()))
        };
        wait_until("chromium says where it listens", || address().is_some());
        let (port, path) = address().expect("just seen");
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tungstenite::client(url, stream).expect("a WebSocket");
        let mut browser = Self {
            socket,
            _processes: processes,
            _folder: folder,
            session: String::new(),
            calls: 0,
            complaints: Vec::new(),
            received: 0,
        };
        browser.new_page();
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        browser.call("Emulation.setDeviceMetricsOverride", &size);
        browser
    }

    /// Goes on with a page that shares nothing with those before.
    fn new_page(&mut self) {
        let context = self.call("Target.createBrowserContext", &json!({}));
        let context = &context["browserContextId"];
        let target = json!({"url": "about:blank", "browserContextId": context});
        let target = self.call("Target.createTarget", &target)["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = self.call("Target.attachToTarget", &attach);
        attached["sessionId"]
            .as_str()
            .expect("a session")
            .clone_into(&mut self.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    /// Opens an address, and waits until the page says that it is ready.
    pub fn open(&mut self, url: &str) {
        self.open_to(url, "document.body?.dataset.ready !== undefined");
    }

    /// The same, where something else has to come true.
    pub fn open_to(&mut self, url: &str, expression: &str) {
        self.received = 0;
        // Of two addresses that differ in the fragment alone the second would load nothing.
        self.call("Page.navigate", &json!({"url": "about:blank"}));
        self.call("Page.navigate", &json!({"url": url}));
        self.until(expression);
    }

    /// The value of an expression; of a promise, what it gives.
    ///
    /// # Panics
    /// When it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut told = self.call("Runtime.evaluate", &asked);
        let thrown = &told["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        told["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it does not come true; what the page shows is said.
    pub fn until(&mut self, expression: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.eval(expression) != json!(true) {
            if std::time::Instant::now() > deadline {
                let shown = self.eval("document.body?.innerText");
                panic!("not in time: {expression}\n{shown}\n{:?}", self.complaints);
            }
            crate::daemon::pause();
        }
    }

    /// Clicks into the middle of what a selector finds.
    ///
    /// # Panics
    /// When something else is there, or nothing.
    pub fn click(&mut self, selector: &str) {
        let found = self.eval(&format!(
            "(() => {{ const found = document.querySelector({selector:?}); \
             found.scrollIntoView({{block: 'nearest'}}); \
             const box = found.getBoundingClientRect(); \
             const at = [box.x + box.width / 2, box.y + box.height / 2]; \
             return found.contains(document.elementFromPoint(...at)) ? at : null; }})()"
        ));
        assert!(found.is_array(), "{selector} can't be clicked");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": found[0], "y": found[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Types a text where the focus is.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Replaces all text where the focus is.
    pub fn rewrite(&mut self, text: &str) {
        self.press("a", Held::Control);
        self.write(text);
    }

    /// Presses a key and lets it go.
    pub fn press(&mut self, key: &str, held: Held) {
        let number = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "Delete" => 46,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            "F2" => 113,
            _ => u32::from(key.to_ascii_uppercase().bytes().next().unwrap_or(0)),
        };
        let (modifiers, commands) = match held {
            Held::Nothing => (0, json!([])),
            Held::Control if key == "a" => (2, json!(["selectAll"])),
            Held::Control => (2, json!([])),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "modifiers": modifiers,
                "windowsVirtualKeyCode": number, "text": text, "commands": commands,
            });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Says that the user prefers a scheme, `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({"features": [feature]}),
        );
    }

    /// What it complained of so far.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Bytes that came since a page was opened, heads and all.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Writes what is seen into `PISTON_TEST_PICTURES`, where that names a folder.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("PISTON_TEST_PICTURES") else {
            return;
        };
        let shot = self.call("Page.captureScreenshot", &json!({}));
        let file = PathBuf::from(folder).join(format!("{name}.png.base64"));
        fs::write(file, shot["data"].as_str().expect("a picture")).expect("written");
    }

    /// Sends a call and does not wait for what is answered.
    fn send(&mut self, method: &str, params: &Value) -> u64 {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.socket
            .send(Message::text(call.to_string()))
            .expect("sent");
        self.calls
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = self.send(method, params);
        loop {
            let Message::Text(text) = self.socket.read().expect("chromium answers") else {
                continue;
            };
            let mut heard: Value = serde_json::from_str(&text).expect("JSON");
            if heard["id"] == json!(id) {
                assert!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return heard["result"].take();
            }
            self.hear(&heard);
        }
    }

    fn hear(&mut self, event: &Value) {
        let told = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(told["exceptionDetails"].to_string());
            }
            Some("Runtime.consoleAPICalled") => self.complaints.push(told["args"].to_string()),
            Some("Log.entryAdded") => {
                let entry = &told["entry"];
                self.complaints
                    .push(format!("{}: {}", entry["text"], entry["url"]));
            }
            Some("Network.loadingFinished") => {
                // A float in the protocol, whole in fact.
                let bytes = told["encodedDataLength"].to_string();
                let whole = bytes.split('.').next().unwrap_or_default();
                self.received += whole.parse::<u64>().expect("a length");
            }
            // The page asks before it removes something: yes.
            Some("Page.javascriptDialogOpening") => {
                self.send("Page.handleJavaScriptDialog", &json!({"accept": true}));
            }
            _ => {}
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        // None of it is left when it has crashed.
        killpg(group, Signal::SIGKILL).unwrap_or_default();
        drop(self.0.wait());
    }
}
