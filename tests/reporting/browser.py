"""Chromium without a head and without a network."""

import contextlib
import json
import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = " and ".join(
    name for name, found in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if not found
)
if MISSING and os.environ.get("RNN_JAX_BROWSER") == "needed":  # as CI has it
    raise RuntimeError(f"no {MISSING} in PATH, which the report's tests need: install it")
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}, not there")

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--proxy-server=127.0.0.1:9",  # nothing listens there
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@contextlib.contextmanager
def browser():
    """Yield a driver of Chromium that records its console and every request."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for option in OPTIONS:
        options.add_argument(option)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver, width, height=900):
    """Make the page so many pixels wide, a telephone's too."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requested(driver):
    """Return the addresses that the page has asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent]
