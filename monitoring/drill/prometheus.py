"""A real Prometheus with the alerts of the repository, every time in them shorter by one factor.

`Alerts` keeps book of what fires since when; it judges nothing.
"""

import json
import math
import re
import threading
import time
import urllib.parse

from drill.processes import Process, eventually, get

DURATION = re.compile(r"(\d+)(ms|[smhd])")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
JOB = "onboarding-bridge"


def seconds(text):
    return sum(int(number) * SECONDS[unit] for number, unit in DURATION.findall(text))


def shorter(rules, factor):
    """alerts.yaml with each `for` and `keep_firing_for`, each range and each `N * 60` or `N * 3600` divided by `factor`."""

    def duration(match):
        return f"{match.group(1)}{max(1, round(seconds(match.group(2)) * 1000 / factor))}ms{match.group(3)}"

    rules = re.sub(r"(\[)((?:\d+(?:ms|[smhd]))+)(\])", duration, rules)
    rules = re.sub(r"(\n +(?:for|keep_firing_for): )((?:\d+(?:ms|[smhd]))+)()(?=\n)", duration, rules)
    product = lambda match: f"{int(match.group(1)) * int(match.group(2)) / factor:g}"
    return re.sub(r"\b(\d+) \* (60|3600)\b", product, rules)


class Prometheus(Process):
    """`targets`: name of each bridge and its port. The name is the label `instance`."""

    def __init__(self, folder, port, rules, targets, interval):
        self.url = f"http://127.0.0.1:{port}"
        home = folder / "prometheus"
        home.mkdir()
        (home / "alerts.yaml").write_text(rules)
        static = [{"targets": [f"127.0.0.1:{at}"], "labels": {"instance": name}} for name, at in targets.items()]
        every = f"{round(interval * 1000)}ms"
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{"job_name": JOB, "static_configs": static}],
        }
        (home / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        command = ["prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
        super().__init__("prometheus", [*command, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"], folder)

    def up(self):
        self.start()
        eventually("prometheus", lambda: get(self.url + "/-/ready")[0] == 200, 60)

    def query(self, expr):
        """The samples of an instant query."""
        status, body = get(f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expr}), 20)
        answer = json.loads(body) if body else {}
        if status != 200 or answer["status"] != "success":
            raise RuntimeError(f"{answer.get('error', status)}: {expr}")
        return answer["data"]["result"]

    def has_data(self, expr):
        values = [float(sample["value"][1]) for sample in self.query(expr)]
        return any(not math.isnan(value) for value in values)

    def label_values(self, query):
        """What the variable of a dashboard would offer."""
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        parameters = urllib.parse.urlencode({"match[]": series})
        return json.loads(get(f"{self.url}/api/v1/label/{label}/values?{parameters}")[1])["data"]


class Alerts:
    """Who fires, looked at several times a second."""

    def __init__(self, prometheus, pause):
        self.prometheus, self.pause = prometheus, pause
        self.lock = threading.Lock()
        self.firing = {}  # (instance, alert) -> labels of each
        self.history = {}  # (instance, alert) -> [first seen, last seen]
        self.texts = set()  # rendered annotations
        self.failures = 0
        self.begun = time.monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def start(self):
        self.thread.start()

    def stop(self):
        self.over.set()
        if self.thread.is_alive():
            self.thread.join(10)

    def _watch(self):
        while not self.over.wait(self.pause):
            status, body = get(self.prometheus.url + "/api/v1/alerts", 10)
            if status != 200:
                self.failures += 1
                continue
            self._note([alert for alert in json.loads(body)["data"]["alerts"] if alert["state"] == "firing"])

    def _note(self, alerts):
        now, firing = time.monotonic() - self.begun, {}
        for alert in alerts:
            labels = alert["labels"]
            key = (labels.get("instance", ""), labels["alertname"])
            firing.setdefault(key, []).append(labels)
            self.texts.update((labels["alertname"], text) for text in alert["annotations"].values())
        with self.lock:
            self.firing = firing
            for key in firing:
                self.history.setdefault(key, [now, now])[1] = now

    def fires(self, instance, alert, labels):
        """Whether it fires with these labels."""
        with self.lock:
            found = self.firing.get((instance, alert), [])
        return any(labels.items() <= one.items() for one in found)

    def of(self, instance):
        """Every alert of the instance so far, with when it was first and last seen."""
        with self.lock:
            return {alert: tuple(seen) for (who, alert), seen in self.history.items() if who == instance}
