#!/usr/bin/env python3
"""Looks at the status page of a real bridge in a real browser (Chromium, headless).

    page.py --program ONBOARDING_BRIDGE --axe AXE.MIN.JS [--pictures FOLDER]

A simulated vendor, a bridge with a file and with a Kafka that is away. The page must live without being
loaded again, fit every width from a small phone to a wall screen, pass axe's rules of WCAG 2.2 AA in
light and dark, be readable as text, show nothing of a person, and ask nobody but the bridge. Then the
vendor goes, and then the bridge: it must say so. With --pictures each view is kept, to be looked at.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

WIDTHS = (320, 390, 768, 1280, 2560)
PATIENCE = 60
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What a page of this browser may ask for beside the bridge.
ITS_OWN = ("data:", "blob:", "chrome:", "about:")


def fail(why):
    sys.exit(f"page.py: {why}")


def eventually(what, found):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    fail(f"waited {PATIENCE} s for {what}")


class Process:
    """A process whose output goes to a file; it is gone at the end."""

    def __init__(self, folder, name, *command):
        self.path = folder / name
        with self.path.open("w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )

    def said(self, pattern):
        found = re.search(pattern, self.path.read_text())
        return found and found.group(1)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


class World:
    def __init__(self, program, folder):
        self.vendor = Process(
            folder, "vendor.log", program, "simulate", "--listen", "127.0.0.1:0", "--users", "40",
            "--rate", "5",
        )  # fmt: skip
        feed = eventually("the simulator", lambda: self.vendor.said(r"(ws://\S+)"))
        rest = self.vendor.said(r"(http://127\S+)")
        config = {
            "feed": {"url": feed, "api_key": "example-enterprise-key"},
            "reconcile": {"url": rest, "read_after_write": "0s"},
            "journal": {"path": str(folder / "journal.db")},
            "admin": {"listen": "127.0.0.1:0"},
            "sinks": [
                {"name": "local", "type": "file", "path": str(folder / "events.jsonl")},
                # Nobody listens there.
                {"name": "away", "type": "kafka", "brokers": ["127.0.0.1:1"], "topic": "users"},
            ],
        }
        path = folder / "bridge.yaml"
        path.write_text(json.dumps(config))
        self.bridge = Process(folder, "bridge.log", program, "run", "--config", str(path))
        found = eventually(
            "the admin port", lambda: self.bridge.said(r'"address":"(127[^"]+)"[^\n]+::admin"')
        )
        self.url = f"http://{found}/"

    def people(self):
        """Words of the simulated people, as the consumers of the file see them."""
        lines = (self.bridge.path.parent / "events.jsonl").read_text().splitlines()
        words = set()
        for line in lines[:200]:
            record = json.loads(line)
            user = record.get("user") or {}
            words |= {record["user_id"], *(str(value) for value in user.values())}
        # A status, a country or a flag is no person's own.
        return {word for word in words if len(word) > 6 and not word.isupper()}

    def end(self):
        self.bridge.end()
        self.vendor.end()


def browser(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for word in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "hide-scrollbars", f"user-data-dir={folder / 'browser'}",
    ):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options, Service(shutil.which("chromedriver") or "chromedriver"))


def text(driver):
    return driver.find_element(By.TAG_NAME, "body").text


def figure(driver, name):
    """A figure of the page, by the words beside it."""
    script = """const name = [...document.querySelectorAll("dt")].find((dt) => dt.textContent === arguments[0]);
      return name ? name.nextElementSibling.textContent : null;"""
    return driver.execute_script(script, name)


def view(driver, width, scheme):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def look(driver, axe, name, pictures):
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            view(driver, width, scheme)
            what = f"{name} at {width} pixels, {scheme}"
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            if wide > width:
                fail(f"{what}: it is {wide} pixels wide")
            driver.execute_script(axe)
            found = driver.execute_async_script(
                "axe.run({runOnly: arguments[0]}).then(arguments[1])", RULES
            )
            if len(found["passes"]) < 10:
                fail(f"{what}: axe looked at {len(found['passes'])} rules only")
            for wrong in found["violations"]:
                places = [node["target"] for node in wrong["nodes"]]
                fail(f"{what}: {wrong['id']}: {wrong['help']}: {places}")
            if pictures:
                driver.save_screenshot(str(pictures / f"{name}-{scheme}-{width}.png"))


def asked(driver):
    """Every address that the page has asked for."""
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]


# A change of a bridge that is well, and what the first line of the page must say then. Not each can be
# waited for; the figures are given to the page's own script.
TROUBLES = [
    ({}, {}, "All is well"),
    ({"feed": {"connected": False}}, {}, "the feed is not heard"),
    ({"journal": {"blocked": "full"}}, {}, "the journal takes no events"),
    ({"journal": {"bytes": 81}}, {}, "the journal is nearly full"),
    ({"sinks": [{"name": "k", "state": "halted"}]}, {}, "sink k is halted"),
    ({"sinks": [{"name": "k", "state": "opening"}]}, {}, "sink k is opening"),
    ({}, {'sink_lag_seconds{sink="k"}': 301}, "sink k is far behind"),
    ({}, {'sink_certificate_expiry_timestamp_seconds{sink="k"}': 1}, "a certificate of sink k"),
    ({}, {"feed_certificate_expiry_timestamp_seconds": 1}, "on the way to the vendor"),
    ({"reconcile": {"last_list": {"outcome": "failed"}}}, {}, "the vendor's list is failed"),
    ({"reconcile": {"last_list": {"outcome": "refused"}}}, {}, "the vendor's list is refused"),
    ({}, {"events_lost_total": 1}, "events were lost"),
    ({}, {"dead_letters": 1}, "there are dead letters"),
]


def sums_up(driver):
    """Every trouble is in the first line, and no other is."""
    for change, figures, said in TROUBLES:
        status = {
            "ready": {"ready": True},
            "feed": {"connected": True, "blind_windows": []},
            "journal": {"blocked": None, "bytes": 80, "capacity_bytes": 100},
            "sinks": [{"name": "k", "state": "delivering"}],
            "reconcile": {"last_list": {"outcome": "success"}},
        }
        for part, values in change.items():
            status[part] = {**status[part], **values} if isinstance(values, dict) else values
        found = driver.execute_script(
            """const [status, figures] = arguments;
            const of = (name) => figures[name];
            return summary(status, { of, sum: (name) => of(name) || 0 });""",
            status,
            figures,
        )
        if said not in found[1] or ";" in found[1] or (found[0] == "good") == bool(change or figures):
            fail(f"with {change or figures} the page says {found}, and should say {said!r}")


def walk(driver, world, axe, pictures):
    driver.get(world.url)
    eventually("the page to have figures", lambda: figure(driver, "events"))
    events = int(figure(driver, "events").replace(",", ""))
    eventually(
        "more events without loading again",
        lambda: int(figure(driver, "events").replace(",", "")) > events,
    )
    eventually("both sinks", lambda: "Sink local" in text(driver) and "Sink away" in text(driver))
    said = text(driver)
    for words in ("subscribed", "delivering", "Vendor's list", "Journal", "Blind windows"):
        if words not in said:
            fail(f"the page does not say {words!r}:\n{said}")
    eventually("the sink that is away", lambda: "sink away is" in text(driver))
    people = eventually("events in the file", world.people)
    source = driver.page_source + urllib.request.urlopen(f"{world.url}status").read().decode()
    shown = [word for word in people if word in source]
    if shown or len(people) < 20:
        fail(f"{len(shown)} of {len(people)} words of people are on the page")
    sums_up(driver)
    look(driver, axe, "heard", pictures)

    world.vendor.end()
    eventually("the lost feed", lambda: "the feed is not heard" in text(driver))
    look(driver, axe, "lost", pictures)

    world.bridge.end()
    eventually("the lost bridge", lambda: "does not answer" in text(driver))
    look(driver, axe, "ended", pictures)
    foreign = {
        address for address in asked(driver) if not address.startswith((world.url, *ITS_OWN))
    }
    if foreign:
        fail(f"the page asks others: {foreign}")
    for entry in driver.get_log("browser"):
        # That nobody answers any more is what was tried last.
        if "ERR_CONNECTION_REFUSED" not in entry["message"] and "503" not in entry["message"]:
            fail(f"the browser says: {entry['message']}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--axe", required=True, type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path)
    options = parser.parse_args()
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    axe = options.axe.read_text()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        world = World(options.program, folder)
        driver = None
        try:
            driver = browser(folder)
            walk(driver, world, axe, options.pictures)
        finally:
            if driver:
                driver.quit()
            world.end()
    print(f"page.py: three states at {len(WIDTHS)} widths in light and dark, axe finds nothing wrong")


main()
