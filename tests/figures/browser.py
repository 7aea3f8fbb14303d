"""A headless Chromium for the tests of pages: what a page asked for, what it complained of, what its charts hold.

It may reach this machine alone. Every request of a page is on record, those that were refused too.
"""

import json
import os
import shutil
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GET_IT = "apt-get install --no-install-recommends chromium chromium-driver"
OPTIONS = (
    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1600", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)  # fmt: skip
INLINE = ("data:", "blob:", "about:")  # addresses that ask nobody for anything
LOADED = "return document.readyState === 'complete'"
DRAWN = (
    "return window.Bokeh !== undefined && Bokeh.documents.length > 0 && Bokeh.documents.every((each) => each.is_idle)"
)
# Every glyph's source of every chart: {title of the figure: [{column: values}, ...]}.
CHARTS = """
const plain = (values) => Array.from(values, (each) => each instanceof Object && each.length ? Array.from(each) : each);
const found = {};
for (const drawn of Bokeh.documents) for (const model of drawn.all_models) {
    if (model.type !== "Figure") continue;
    const title = model.title ? model.title.text : "";
    found[title] = model.renderers.filter((each) => each.data_source).map((each) =>
        Object.fromEntries(each.data_source.columns().map((name) => [name, plain(each.data_source.get_column(name))])));
}
return found;
"""


class Page:
    """A browser with one page at a time; what it logged is read once and kept until the next page."""

    def __init__(self, driver):
        self.driver = driver
        self._logged = {"browser": [], "performance": []}

    def open(self, address, drawn=True, seconds=30):
        """Open an address (a path is opened from `file://`), and wait until it is loaded, and its charts are drawn."""
        self.driver.get("about:blank")
        self._logged = {kind: [] for kind in self._logged}
        for kind in self._logged:
            self.driver.get_log(kind)  # what an earlier page left
        self.driver.get(address if "://" in str(address) else address.resolve().as_uri())
        self.until(LOADED, seconds)
        if drawn:
            self.until(DRAWN, seconds)
        return self

    def run(self, script, *given):
        """Run JavaScript in the page; return what it returns."""
        return self.driver.execute_script(script, *given)

    def until(self, script, seconds=30):
        """Wait until a script returns something true; return that."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda driver: self.run(script))

    def charts(self):
        """Return what every chart has been given, by its title: the columns of each of its glyphs."""
        return self.run(CHARTS)

    def complaints(self):
        """Return the errors on the page's console."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] == "SEVERE"]

    def requests(self):
        """Return the addresses that the page asked for, beside its own and those of data within it."""
        sent = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        asked = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
        asked += [each["params"]["url"] for each in sent if each["method"] == "Network.webSocketCreated"]
        own = self.driver.current_url.partition("#")[0]
        return [each for each in asked if not each.startswith(INLINE) and each.partition("#")[0] != own]

    def _log(self, kind):
        self._logged[kind] += self.driver.get_log(kind)
        return self._logged[kind]


def lacking():
    """Return why there is no browser here, and the command that gets one; None where there is one."""
    found = any(map(shutil.which, CHROMIUM)) and shutil.which("chromedriver")
    if not found:
        return f"no Chromium with its chromedriver here: {GET_IT}"
    return None if find_spec("bokeh") else "no bokeh here: pip install -e .[report]"


@contextmanager
def opened():
    """Yield a headless browser; skip the test where there is none."""
    if reason := lacking():
        pytest.skip(reason)
    options = Options()
    options.binary_location = next(filter(None, map(shutil.which, CHROMIUM)))
    for each in (*OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Page(driver)
    finally:
        driver.quit()
