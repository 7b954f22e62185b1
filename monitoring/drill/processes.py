"""The processes of the drill: bridges, simulated vendors, beds, Prometheus. All end with the drill.

Each has a log in the drill's folder. None is ended by its name.
"""

import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KEY = "example-enterprise-key"
PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec of a process with threads a lock may be held for ever.
LIBC = ctypes.CDLL(None)


def eventually(what, condition, seconds=20.0, pause=0.1):
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def get(url, timeout=5.0):
    """Status and body; (0, "") where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Ports:
    """Free ports, one after the other, from a first one on."""

    def __init__(self, first):
        self.next = first

    def take(self, neighbours=1):
        while True:
            wanted = range(self.next, self.next + neighbours)
            self.next += neighbours
            try:
                for port in wanted:
                    socket.create_server(("127.0.0.1", port)).close()
                return wanted[0]
            except OSError:
                continue


def with_us():
    """In the child: ends when the thread that started it ends, so with the drill, however that ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    def __init__(self, name, command, folder):
        self.name, self.command = name, [str(part) for part in command]
        self.log = folder / f"{name}.log"
        self.child = None

    def start(self):
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=with_us
            )

    def running(self):
        return self.child is not None and self.child.poll() is None

    def stop(self, how=signal.SIGTERM):
        if not self.running():
            return
        self.child.send_signal(how)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Vendor(Process):
    """A simulated vendor; `do` is its control endpoint."""

    def __init__(self, name, program, port, folder, *options):
        command = [program, "simulate", "--listen", f"127.0.0.1:{port}", "--api-key", KEY, *options]
        super().__init__(f"vendor-{name}", command, folder)
        self.port = port
        self.start()

    def ready(self):
        eventually(self.name, lambda: get(f"http://127.0.0.1:{self.port}/_control/stats")[0] == 200)

    def do(self, action, **arguments):
        url = f"http://127.0.0.1:{self.port}/_control/{action}"
        request = urllib.request.Request(url, json.dumps(arguments).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


class Bridge(Process):
    """A bridge with its configuration: `sinks` is YAML, one string a sink; `feed` and `journal` override."""

    def __init__(self, name, program, port, folder, vendor, sinks, feed=None, journal=None):
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.folder = folder / name
        self.folder.mkdir()
        self.config, self.key = self.folder / "bridge.yaml", self.folder / "key"
        self.key.write_text(KEY)
        parts = {
            "feed": {
                "url": f"ws://127.0.0.1:{vendor.port}/ws",
                "api_key_file": str(self.key),
                "ping_interval": "1s",
                "idle_timeout": "3s",
                "reply_timeout": "2s",
                "limits": {"connections": 10, "requests_per_minute": 40, "block_wait": "1s"},
                **(feed or {}),
            },
            "reconcile": {"url": f"http://127.0.0.1:{vendor.port}", "read_after_write": "0s", "silence_grace": "0s"},
            "journal": {"path": str(self.folder / "journal.db"), **(journal or {})},
            "admin": {"listen": f"127.0.0.1:{port}"},
            "shutdown": {"drain": "2s"},
        }
        lines = [f"{part}: {json.dumps(content)}" for part, content in parts.items()]  # JSON is YAML
        self.config.write_text("\n".join([*lines, "sinks:", *(f"  - {sink}" for sink in sinks)]) + "\n")
        super().__init__(f"bridge-{name}", [program, "run", "--config", self.config], folder)

    def up(self):
        """Starts, if it does not run, and waits until it can be scraped."""
        if not self.running():
            self.start()
        eventually(self.name, lambda: self.running() and get(self.url + "/metrics")[0] == 200)

    def metric(self, series):
        """The value of one series, as it stands in the scrape after the prefix."""
        for line in get(self.url + "/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == "onboarding_bridge_" + series:
                return float(value)
        raise KeyError(series)


class Bed:
    """A real server from tests/beds."""

    def __init__(self, script, folder, name, port):
        self.script, self.port = str(ROOT / "tests/beds" / script), port
        self.data, self.log = folder / name, folder / f"{name}.log"
        self.data.mkdir()
        self.starting = None

    def call(self, *words, check=True):
        command = [self.script, *words, "--data", str(self.data)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check, timeout=300)

    def begin(self):
        """Starts it beside whatever else is done; `ready` waits for it."""
        command = [self.script, "start", "--data", str(self.data), "--port", str(self.port), "--owner", str(os.getpid())]
        with self.log.open("wb") as log:
            self.starting = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ready(self):
        if self.starting.wait(300):
            raise RuntimeError(f"{self.script} did not start: {self.log.read_text()[-2000:]}")

    def stop(self):
        if self.starting is not None:
            self.starting.wait(300)
            self.call("stop", check=False)
