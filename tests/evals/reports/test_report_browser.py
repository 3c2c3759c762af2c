"""The report in a real browser, from disk: no message on the console, nothing too wide, no dead link."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from report_help import EVIL, report_run

from steergraph.cli import main

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine: apt-get install chromium"),
]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LINKS = "JSON.stringify([...document.querySelectorAll('a[href]')].map(a => a.href))"
UNNAMED = """[...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-labelledby').split(' ')
    .every(id => document.getElementById(id).textContent.trim())).length"""
CONTRAST = """(() => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(channel);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const behind = e => {
    for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return c; }
  };
  return Math.min(...[...document.querySelectorAll('p, td, th, h1, h2, h3, a, dt, dd, pre span, .chip, summary')]
    .filter(e => e.textContent.trim() && e.offsetParent).map(e => ratio(getComputedStyle(e).color, behind(e))));
})()"""


class Page:
    """One tab, spoken to over the browser's own protocol."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.number = socket, 0
        self.said: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **words: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": words}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.take(answer)

    def take(self, event: dict[str, Any]) -> None:
        name = event.get("method")
        if name in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed"):
            self.said.append(json.dumps(event["params"])[:500])
        if name == "Network.requestWillBeSent" and not event["params"]["request"]["url"].startswith(("file:", "data:")):
            self.said.append(event["params"]["request"]["url"])

    def open(self, path: Path) -> None:
        self.ask("Page.navigate", url=path.as_uri())
        until = time.monotonic() + 60
        while self.eval("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < until
            time.sleep(0.05)

    def eval(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def width(self, pixels: int) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)

    def scheme(self, name: str) -> None:
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    from websockets.sync.client import connect

    assert BROWSER
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        process = subprocess.Popen(
            [BROWSER, *words, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            port_file, until = Path(profile, "DevToolsActivePort"), time.monotonic() + 60
            while not port_file.is_file() or not port_file.read_text().strip():
                assert time.monotonic() < until and process.poll() is None, "the browser did not start"
                time.sleep(0.1)
            port = port_file.read_text().split()[0]
            tabs = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False, timeout=30).json()
            (tab,) = [each for each in tabs if each["type"] == "page"]
            with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its helpers too, which write to the profile
            process.wait()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    run = report_run(root)
    evil = root / "evil.jsonl"
    row = {"instance_id": f"{'w' * 90}{EVIL}".replace("/", ""), "model_name_or_path": f"{'m' * 90} {EVIL}"}
    evil.write_text(json.dumps(row | {"model_patch": f"{EVIL}\n+{'x' * 3000}\n{EVIL}"}) + "\n", encoding="utf-8")
    words = [str(evil), "--dataset", str(run.dataset), "--repos", str(run.repos), "--grades", str(run.grades)]
    assert main(["report", str(run.folder), *words, "--out", str(root / "out")]) == 0
    return root / "out"


def test_the_pages_open_without_a_word_and_none_is_too_wide(page: Page, report: Path) -> None:
    pages = [report / "index.html", *sorted((report / "instances").glob("*.html"))]
    assert len(pages) == 5
    for path in pages:
        page.open(path)
        page.eval("document.querySelectorAll('details').forEach(d => d.open = true)")
        for width in (1280, 768, 360):
            page.width(width)
            assert page.eval(OVERFLOW) == 0, f"{path.name} at {width}"
        page.width(1280)
        assert page.eval(UNNAMED) == 0
        for scheme in ("light", "dark"):
            page.scheme(scheme)
            assert page.eval(CONTRAST) >= 4.5, f"{path.name}, {scheme}"
    page.scheme("light")
    assert page.said == []


def test_a_table_that_is_cut_shows_that_it_scrolls(page: Page, report: Path) -> None:
    page.open(report / "index.html")
    page.width(400)
    cut = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth)"
    assert page.eval(f"{cut}.length") > 0
    assert page.eval(f"{cut}.every(e => getComputedStyle(e).backgroundImage.split('linear-gradient').length === 5)")
    page.width(1280)


def test_colours_follow_the_reader(page: Page, report: Path) -> None:
    page.open(report / "index.html")
    colours = []
    for scheme in ("light", "dark"):
        page.scheme(scheme)
        colours.append(page.eval("getComputedStyle(document.body).backgroundColor"))
    page.scheme("light")
    assert colours[0] != colours[1]


def test_every_link_leads_somewhere(page: Page, report: Path) -> None:
    seen, to_see = set(), [report / "index.html"]
    while to_see:
        path = to_see.pop()
        page.open(path)
        seen.add(path)
        for link in json.loads(page.eval(LINKS)):
            target, _, anchor = link.removeprefix("file://").partition("#")
            assert Path(target).is_file(), link
            if Path(target) == path and anchor:
                assert page.eval(f"document.getElementById({json.dumps(anchor)}) !== null"), link
            elif Path(target) not in seen and target.endswith(".html"):
                to_see.append(Path(target))
    assert seen == {report / "index.html", *(report / "instances").glob("*.html")}


def test_clicking_goes_to_an_instance_and_back(page: Page, report: Path) -> None:
    page.open(report / "index.html")
    for selector, name in (("td a, th a", "instances/steergraph__pantry-stock.html"), (".crumbs a", "index.html")):
        page.eval(f"document.querySelector({json.dumps(selector)}).click()")
        until = time.monotonic() + 30
        while not page.eval("location.pathname").endswith(name) or page.eval("document.readyState") != "complete":
            assert time.monotonic() < until, page.eval("location.pathname")
            time.sleep(0.05)
