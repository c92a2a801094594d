"""A headless browser, where the machine has one with its driver, and how long to wait in it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium with its driver: apt-get install chromium chromium-driver"
)
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
SECONDS = 60
"""To wait at most, on a busy machine."""
Size = tuple[int, str]
"""Width in pixels, and light or dark."""


def browser(profile: Path) -> Iterator[WebDriver]:
    """Chromium with a new profile, in which downloads go too; its requests and its console are kept."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(profile)})
        yield driver
    finally:
        driver.quit()


def look(driver: WebDriver, width: int, scheme: str = "light") -> None:
    """Show pages as a window of this width does, to a user who likes them light or dark."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preference = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})


def offline(driver: WebDriver) -> None:
    """Take the network away."""
    driver.execute_cdp_cmd("Network.enable", {})
    no_network = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", no_network)


def requests(driver: WebDriver) -> list[str]:
    """The addresses that were asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]


def complaints(driver: WebDriver) -> list[str]:
    """What the console has of errors and warnings since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def wait(driver: WebDriver, script: str, *given: Any) -> Any:
    """What a script gives once that is true."""
    met: Callable[[WebDriver], Any] = lambda page: page.execute_script(script, *given)  # noqa: E731
    return WebDriverWait(driver, SECONDS, poll_frequency=0.1).until(met, message=script)


def screenshot(driver: WebDriver, path: Path) -> None:
    """Of what the window shows."""
    shown = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    path.write_bytes(base64.b64decode(shown["data"]))
