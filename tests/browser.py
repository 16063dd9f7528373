"""A headless Chromium, driven over chromedriver's WebDriver interface."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64decode
from contextlib import contextmanager

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

# All text that a reader of the page sees, also inside custom elements.
TEXT = """
const parts = [];
(function walk(node) {
    if (node.nodeType === Node.TEXT_NODE) parts.push(node.textContent.trim());
    if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.nodeName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
})(document.body);
return parts.filter(Boolean);
"""


def missing():
    """Say what an end-to-end test needs and is not installed; None if all is there."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"needs {' and '.join(absent)}" if absent else None


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition, what, seconds=90):
    """Return the first true value of `condition`; errors count as false."""
    end, error = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except (OSError, ValueError) as exception:
            error = exception
        time.sleep(0.3)
    raise AssertionError(f"no {what} within {seconds} s ({error})")


@contextmanager
def running(*command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def tensorboard(log_dir):
    """Serve a log; yields the address."""
    port = free_port()
    server = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--load_fast=false"]
    address = f"http://127.0.0.1:{port}"
    with running(*server, "--logdir", str(log_dir), "--port", str(port)):
        wait_for(lambda: open_json(f"{address}/data/runs"), "answer of TensorBoard")
        yield address


@contextmanager
def browser(profile, width=1280, height=720, phone=None):
    """Yields a `Page`; of a phone that is `phone` pixels wide if that is given."""
    port = free_port()
    with running("chromedriver", f"--port={port}"):
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: open_json(f"{address}/status")["value"]["ready"], "chromedriver")
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        options = {"binary": shutil.which("chromium"), "args": flags}
        if phone is not None:
            metrics = {"width": phone, "height": 2 * phone, "pixelRatio": 1.0, "mobile": True}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        wanted = {
            "capabilities": {
                "alwaysMatch": {
                    "goog:chromeOptions": options,
                    "goog:loggingPrefs": {"browser": "ALL"},
                }
            }
        }
        session = open_json(f"{address}/session", wanted)["value"]["sessionId"]
        page = Page(f"{address}/session/{session}")
        try:
            yield page
        finally:
            page.close()


class Page:
    def __init__(self, session):
        self.session = session

    def open(self, address):
        open_json(f"{self.session}/url", {"url": address})

    def run(self, script):
        return open_json(f"{self.session}/execute/sync", {"script": script, "args": []})["value"]

    def text(self):
        return self.run(TEXT)

    def console(self):
        """Return what the page, and the browser about it, wrote to the console."""
        entries = open_json(f"{self.session}/se/log", {"type": "browser"})["value"]
        return [entry["message"] for entry in entries]

    def errors(self):
        """Return the errors among what `console` returns."""
        entries = open_json(f"{self.session}/se/log", {"type": "browser"})["value"]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def picture(self):
        return b64decode(open_json(f"{self.session}/screenshot")["value"])

    def close(self):
        request = urllib.request.Request(self.session, method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


def open_text(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read().decode()


def open_json(address, data=None):
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.load(answer)
