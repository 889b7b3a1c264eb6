"""The page as a person meets it: the real command in a process of its own, and Debian's Chromium."""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PATIENCE = 120.0  # seconds: the machine may be busy
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
# Says on standard error when the server asks for a name or an address outside of this machine.
_WATCHED = """
import socket, sys
def watched(call, where):
    def asked(*args, **kwargs):
        host = where(args)
        if str(host) not in ("127.0.0.1", "localhost", "None"):
            print("WENT OUT", host, file=sys.stderr, flush=True)
        return call(*args, **kwargs)
    return asked
def peer(args):
    return args[1][0] if args[0].family != socket.AF_UNIX else None
socket.socket.connect = watched(socket.socket.connect, peer)
socket.getaddrinfo = watched(socket.getaddrinfo, lambda a: a[0])
from gansharing.cli import main
main()
"""


class Served:
    """A running ``gansharing explore``.

    Attributes:
        process: It.
        address: Of the page.
        log: What it says on standard error.
    """

    def __init__(self, process: subprocess.Popen[str], address: str, log: Path) -> None:
        self.process, self.address, self.log = process, address, log


@contextmanager
def serve(folder: Path, *models: Path) -> Iterator[Served]:
    """Run the command on some models; at the end it is told to stop."""
    log = folder / "server.log"
    words = [sys.executable, "-c", _WATCHED, "explore", *map(str, models), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=folder
        )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 3 * PATIENCE)[0], "the server does not start"
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, log.read_text()
        yield Served(process, found[0], log)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


class Visitor:
    """A browser's page, and what it asked for.

    Attributes:
        page: It.
        asked: Addresses of all requests.
        errors: Of scripts.
        folder: For what is uploaded.
    """

    folder: Path

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address, self.asked, self.errors = page, address, list[str](), list[str]()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)
        self.says("images", "^seed")

    def says(self, part: str, pattern: str) -> str:
        """Wait until the line below a picture matches; that line."""
        line = self.page.locator(f"#message-{part} textarea")
        expect(line).to_have_value(re.compile(pattern), timeout=PATIENCE * 1000)
        return line.input_value()

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=name).click()
        self.page.wait_for_timeout(500)  # its parts are made when it is first opened, and deaf until then

    def number(self, name: str, value: str) -> None:
        """Write into a number's or a slider's box and leave it."""
        box = self.page.locator(f"#{name} input[type=number]")
        box.fill(value)
        box.press("Tab")

    def text(self, name: str, value: str) -> None:
        """Write into a box of text and leave it."""
        box = self.page.locator(f"#{name} textarea, #{name} input").first
        box.fill(value)
        box.press("Tab")

    def choose(self, name: str, value: str) -> None:
        """Take an entry of a menu."""
        self.page.locator(f"#{name} input").click()
        self.page.get_by_role("option", name=value, exact=True).click()

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.locator(f"button#{name}").click()

    def upload(self, path: Path) -> None:
        """Give a file in the place of the one before."""
        self.clear()
        self.page.locator("#upload input[type=file]").set_input_files(path)

    def clear(self) -> None:
        """Take the file away."""
        away = self.page.locator("#upload button[aria-label='Clear'], #upload button[aria-label='Remove']")
        if away.count():
            away.first.click()

    def download(self, part: str) -> Path:
        """The file behind a download button."""
        with self.page.expect_download() as waiting:
            self.page.locator(f"#download-{part}").click()
        return waiting.value.path()

    def shot(self, name: str) -> None:
        """Keep a screenshot, in the folder that the environment names, where it names one."""
        folder = os.environ.get("GANSHARING_SCREENSHOTS")
        if folder:
            time.sleep(1)  # toasts and spinners move
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@contextmanager
def visit(address: str) -> Iterator[Visitor]:
    """A new browser before the page, its pictures drawn."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield Visitor(browser.new_page(viewport={"width": 1240, "height": 900}), address)
        finally:
            browser.close()
