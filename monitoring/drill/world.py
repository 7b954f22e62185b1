"""Everything around the scenarios: beds, vendors, Prometheus, and the runbook's commands."""

import os
import pathlib
import shutil
import subprocess
import threading
import time

import runbook
from drill import buses
from drill.processes import KEY, ROOT, Bed, Bridge, Ports, Vendor, eventually
from drill.prometheus import Alerts, Prometheus, shorter
from drill.scenario import nats_sink

# The alerts are made for a scrape each minute, or more often.
SCRAPE = 60


class World:
    key = KEY

    def __init__(self, folder, program, factor, first_port, patience):
        self.folder, self.program, self.factor, self.patience = folder, program, factor, patience
        self.ports = Ports(first_port)
        self.processes, self.bridges, self.streams, self.topics = [], {}, [], []
        self.ended = threading.Event()
        self.kafka = Bed("kafka.sh", folder, "kafka", self.ports.take(3))
        self.nats = Bed("nats.sh", folder, "nats", self.ports.take(3))
        self.late_nats = Bed("nats.sh", folder, "late-nats", self.ports.take(3))
        for bed in (self.nats, self.late_nats, self.kafka):
            bed.begin()
        self.calm = self.vendor("calm", "--rate", "5")
        tools = folder / "bin"
        tools.mkdir()
        (tools / "onboarding-bridge").symlink_to(program)
        self.path = f"{tools}:{os.environ['PATH']}"
        self.sections = {section.title: section for section in runbook.sections()}
        self.tried = []

    def vendor(self, name, *options):
        vendor = Vendor(name, self.program, self.ports.take(), self.folder, *options)
        self.processes.append(vendor)
        return vendor

    def bridge(self, name, vendor, sinks, **more):
        bridge = Bridge(name, self.program, self.ports.take(), self.folder, vendor, sinks, **more)
        self.processes.append(bridge)
        self.bridges[name] = bridge
        return bridge

    def stream(self, name, bed=None, port=None, control=True, **config):
        """A sink with a stream of its own, which is there before any bridge starts."""
        bed, stream, prefix = bed or self.nats, f"S{name}".upper(), f"stream.{name}"
        subjects = [f"{prefix}.>"] + [f"{prefix}_control.>"] * control
        self.streams.append((bed, stream, subjects, config))
        return nats_sink(name, port or bed.port, stream, prefix)

    def begin(self, scenarios):
        """Everything runs and can be scraped before Prometheus looks for the first time."""
        rules = shorter((ROOT / "monitoring/alerts.yaml").read_text(), self.factor)
        targets = {scenario.name: scenario.bridge.port for scenario in scenarios}
        interval = SCRAPE / self.factor
        self.prometheus = Prometheus(self.folder, self.ports.take(), rules, targets, interval)
        self.processes.append(self.prometheus)
        self.alerts = Alerts(self.prometheus, interval / 2)
        for bed in (self.nats, self.late_nats, self.kafka):
            bed.ready()
        for bed, stream, subjects, config in self.streams:
            buses.create_stream(bed.port, stream, subjects, **config)
        for topic in self.topics:
            buses.create_topic(self.kafka.port, topic)
        # It is away from now on; what it holds is there when it returns.
        self.late_nats.call("kill")
        waiting = sum(bed is self.late_nats for bed, *_ in self.streams)
        self.all_waited = threading.Barrier(max(1, waiting), lambda: self.late_nats.call("restart"))
        for process in self.processes:
            if isinstance(process, Vendor):
                process.ready()
        for bridge in self.bridges.values():
            bridge.start()
        for bridge in self.bridges.values():
            bridge.up()
        self.prometheus.up()
        # `increase` needs what was before the fault.
        enough = f"count(count_over_time(up[{round(120 * interval)}s]) > 3) == {len(targets)}"
        eventually("every bridge is scraped", lambda: self.prometheus.query(enough), 60 * self.patience)
        self.alerts.start()

    def late_nats_returns(self):
        """The NATS server that was away is back, as soon as all whose sink it is have asked for it."""
        self.all_waited.wait(120)

    @staticmethod
    def settle(seconds=3.0):
        time.sleep(seconds)

    def try_runbook(self, alert, bridge):
        """Runs the commands of the alert's section against the bridge; says which failed."""
        problems = []
        environment = {
            **os.environ,
            "PATH": self.path,
            "BRIDGE": bridge.url,
            "CONFIG": str(bridge.config),
            "PROMETHEUS": self.prometheus.url,
        }
        for command in self.sections[alert].commands:
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command.line],
                env=environment, cwd=bridge.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )
            self.tried.append((alert, command.line))
            if ran.returncode not in command.codes:
                problems.append(f"runbook of {alert}: {command.line!r} ended with {ran.returncode}: {(ran.stdout + ran.stderr)[-300:]}")
            elif not (ran.stdout + ran.stderr).strip():
                problems.append(f"runbook of {alert}: {command.line!r} printed nothing")
        return problems

    def end(self):
        if hasattr(self, "alerts"):
            self.alerts.stop()
        for process in reversed(self.processes):
            process.stop()
        for bed in (self.nats, self.late_nats, self.kafka):
            bed.stop()
        self.ended.set()

    def copy_to(self, folder):
        for log in self.folder.glob("*.log"):
            shutil.copy(log, folder)
        shutil.copy(self.folder / "prometheus/alerts.yaml", folder)

    def show_log(self, name):
        """The end of what the bridge of a scenario has said."""
        log = pathlib.Path(self.folder / f"bridge-{name}.log")
        if log.exists():
            print(f"--- {log.name}")
            print("\n".join(log.read_text().splitlines()[-15:]))

