"""A real browser without a window: Chromium, driven through the pipe of its DevTools protocol."""

import base64
import fcntl
import io
import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
).split()
PATIENCE = 120  # seconds


class Page:
    """A page in Chromium, and what it has complained about and asked for."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.unread, self.number, self.session = b"", 0, None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, scheme: str = "light", width: int = 1200, height: int = 900) -> None:
        """Show a file, until it and all that it needs is loaded."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self.loaded:
            self._read()

    def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self) -> Image.Image:
        """The whole page, also what does not fit the window."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        """The next message; events are noted."""
        selector, deadline = selectors.DefaultSelector(), time.monotonic() + PATIENCE
        selector.register(self.from_browser, selectors.EVENT_READ)
        while b"\0" not in self.unread:
            assert selector.select(deadline - time.monotonic()), "the browser does not answer"
            chunk = os.read(self.from_browser, 1 << 20)
            assert chunk, "the browser has died"
            self.unread += chunk
        line, self.unread = self.unread.split(b"\0", 1)
        message = json.loads(line)
        event = message.get("method")
        if event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(message["params"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        elif event == "Page.loadEventFired":
            self.loaded = True
        return message


def system_chromium() -> str:
    """The system's Chromium; skips the test where there is none."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if binary is None:
        pytest.skip("needs Chromium (on Debian: apt-get install chromium)")
    return binary


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start Chromium with a fresh profile; skips the test where there is none."""
    binary = system_chromium()
    theirs_in, to_browser = os.pipe()
    from_browser, theirs_out = os.pipe()
    # out of the way of 3 and 4, where Chromium expects them
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]

    def put_in_place() -> None:
        for end, place in zip(high, (3, 4), strict=True):
            os.dup2(end, place)

    with open(profile.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            [binary, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=put_in_place,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for end in (theirs_in, theirs_out, *high):
        os.close(end)
    try:
        yield Page(to_browser, from_browser)
    finally:
        os.close(to_browser)  # it ends when nobody is left to talk to
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_browser)
