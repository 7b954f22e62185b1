"""Faults of the destinations: missing, away, slow, late, and one that refuses."""

import signal
import time

from drill import buses
from drill.proxy import Proxy
from drill.scenario import Scenario, nats_sink


class Halted(Scenario):
    """A stream is missing."""

    fault = "the stream of a sink is missing"
    must = ("SinkHalted",)

    def prepare(self, world):
        self.sink = nats_sink("missing", world.nats.port, "DMISSING", "drill.missing")
        self.bridge = self.make(world.calm, [self.sink, world.stream(self.name)])

    def run(self):
        self.bridge.up()
        self.fires("SinkHalted", sink="missing")
        buses.create_stream(self.world.nats.port, "DMISSING", ["drill.missing.>", "drill.missing_control.>"])
        self.resolves("SinkHalted")


class Outage(Scenario):
    """Kafka stands still for an hour; the other sinks, the feed and the process do not notice."""

    fault = "Kafka stands still for an hour"
    must = ("SinkStalled",)
    last = 3600

    def prepare(self, world):
        topic = "drill.outage"
        kafka = f"{{name: kafka, type: kafka, brokers: ['127.0.0.1:{world.kafka.port}'], topic: {topic}}}"
        file = f"{{name: file, type: file, path: '{world.folder}/outage.jsonl'}}"
        world.topics += [topic, topic + ".control"]
        self.bridge = self.make(world.calm, [kafka, world.stream(self.name), file])

    def run(self):
        kafka = self.world.kafka
        self.started(["kafka", self.name, "file"])
        start = self.bridge.child.pid
        self.world.settle()
        kafka.call("kill", "--signal", "STOP")
        until = time.monotonic() + self.last / self.world.factor
        try:
            self.fires("SinkStalled", sink="kafka")
            while time.monotonic() < until:
                self.holds("/livez is good while Kafka is away", self.bridge_answers("/livez"))
                self.holds("/readyz is good while Kafka is away", self.bridge_answers("/readyz"))
                time.sleep(0.5)
        finally:
            kafka.call("kill", "--signal", "CONT")
        self.resolves("SinkStalled")
        self.holds("the process is the same", self.bridge.running() and self.bridge.child.pid == start)


class Lagging(Scenario):
    """A destination that answers late: everything arrives, and always too late."""

    fault = "a destination that hears everything three seconds late"
    must = ("SinkLagging",)

    def prepare(self, world):
        self.proxy = Proxy(world.nats.port)
        # Two events of one user are never under way at once, which would make a batch take twice as long.
        self.vendor = world.vendor(self.name, "--rate", "3", "--users", "20000", "--registered", "0")
        self.bridge = self.make(self.vendor, [world.stream(self.name, port=self.proxy.port)])

    def run(self):
        self.started()
        self.proxy.hold = 3.0
        self.fires("SinkLagging")
        self.proxy.hold = 0.0
        self.resolves("SinkLagging")


class Twins(Scenario):
    """What a dead process had sent arrives when its successor has sent it again."""

    fault = "kill -9, and what was sent arrives after the restart"
    must = ("SinkLateDuplicates",)
    may = ("FeedBlind",)

    def prepare(self, world):
        self.proxy = Proxy(world.nats.port)
        sink = world.stream(self.name, port=self.proxy.port, duplicate_window=100_000_000)
        self.vendor = world.vendor(self.name, "--rate", "50")
        self.bridge = self.make(self.vendor, [sink])

    def run(self):
        self.started()
        # Longer than the restart takes on a busy machine.
        self.proxy.hold = 10.0
        time.sleep(1.5)
        self.bridge.stop(signal.SIGKILL)
        self.proxy.hold = 0.0
        self.bridge.up()
        self.fires("SinkLateDuplicates", sink=self.name)
        self.resolves("SinkLateDuplicates")


class Letters(Scenario):
    """A stream without a subject for notices, which refuses large records."""

    fault = "no control subject; then a record larger than the stream takes"
    must = ("SinkNoticesDropped", "DeadLetters")

    def prepare(self, world):
        self.vendor = world.vendor(self.name, "--rate", "5")
        sink = world.stream(self.name, control=False, max_msg_size=3000)
        self.bridge = self.make(self.vendor, [sink])

    def run(self):
        self.started()
        # The blind window of the start is told before the first scrape.
        self.bridge.stop(signal.SIGKILL)
        self.bridge.up()
        self.fires("SinkNoticesDropped", sink=self.name)
        self.resolves("SinkNoticesDropped")
        self.vendor.do("odd", shape="long-text", n=1)
        self.fires("DeadLetters", reason="sink")
        self.resolves("DeadLetters")
