# SPDX-License-Identifier: GPL-2.0-only
"""Headless Chromium, driven by its DevTools protocol over two pipes: no port, no package."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

import debian_packages

# Debian's smallest comes with two thirds of the packages that `chromium` needs.
PACKAGE = "chromium-headless-shell"
NAMES = ("chromium", PACKAGE, "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
# The browser expects its pipes at 3 and 4.
LAUNCH = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def found():
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def need():
    """Install one where root and apt are there to do it, and none is; skip the test elsewhere."""
    if found() is None:
        debian_packages.need(PACKAGE)


class BrowserError(Exception):
    """The browser refused a command, ended, or did not do in time what was waited for."""


class Page:
    """One page of a browser of its own; a context manager that ends it."""

    def __init__(self, profile, width=1280, height=1400):
        commands, self._commands = _high(os.pipe())
        self._replies, replies = _high(os.pipe())

        self._browser = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(commands), str(replies), found(), *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, replies), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(replies)
        self._unread, self._number, self._session = b"", 0, None
        self._events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._browser.terminate()
        try:
            self._browser.wait(10)
        except subprocess.TimeoutExpired:
            self._browser.kill()
            self._browser.wait()
        os.close(self._commands)
        os.close(self._replies)

    def call(self, method, **params):
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._commands, json.dumps(asked).encode() + b"\0")
        while True:
            reply = self._reply(method)
            if "method" in reply:
                self._events.append(reply)
            elif reply.get("id") == self._number:
                if "error" in reply:
                    raise BrowserError(f"{method}: {reply['error']['message']}")
                return reply["result"]

    def event(self, method):
        """Return what the next event of a name says; its domain must be enabled."""
        while True:
            event = self._events.pop(0) if self._events else self._reply(method)
            if event.get("method") == method:
                return event["params"]

    def _reply(self, method):
        while b"\0" not in self._unread:
            if not select.select([self._replies], [], [], 60)[0]:
                raise BrowserError(f"{method}: no reply in 60 s")
            read = os.read(self._replies, 1 << 20)
            if not read:
                raise BrowserError(f"{method}: the browser ended")
            self._unread += read
        reply, _, self._unread = self._unread.partition(b"\0")
        return json.loads(reply)

    def resize(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def open(self, url):
        self.call("Page.navigate", url=url)

    def run(self, script):
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True,
            userGesture=False,
        )  # fmt: skip
        if "exceptionDetails" in done:
            raise BrowserError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def until(self, script, seconds=60):
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.05)
        raise BrowserError(f"not in {seconds} s: {script}")

    def key(self, key, code=None, number=0, text="", modifiers=0):
        """Press and release one key, as a keyboard does."""
        pressed = {
            "key": key, "code": code or key, "windowsVirtualKeyCode": number,
            "modifiers": modifiers,
        }  # fmt: skip
        down = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=down, text=text, **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def upload(self, path):
        """Choose a file in the dialogue that the focused button opens at Enter."""
        self.call("Page.enable")
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        self.key("Enter", number=13, text="\r")
        chosen = self.event("Page.fileChooserOpened")["backendNodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], backendNodeId=chosen)
        self.call("Page.disable")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def _high(pair):
    # Out of the way of 3 and 4.
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pair)
    for end in pair:
        os.close(end)
    return moved
