"""The faults: each with a bridge of its own, what it must set off, and how it is mended.

The classes are in the order of the flow. A scenario that sets off an alert which it names neither in
`must` nor in `may` has failed; so has one whose alert does not fire, or not resolve.
"""

import signal
import time

from drill import buses
from drill.proxy import Proxy
from drill.scenario import Scenario, nats_sink


class Calm(Scenario):
    """Nothing is wrong: three sinks, and no alert at all from the first second to the last."""

    fault = "none"

    def prepare(self, world):
        file = f"{{name: file, type: file, path: '{world.folder}/calm.jsonl'}}"
        self.bridge = self.make(world.calm, [world.stream("calm"), world.stream("other"), file])

    def run(self):
        self.bridge.up()


class Restarts(Scenario):
    """Ends and starts again, at last without a start."""

    fault = "the process dies four times and stays away the last time"
    must = ("Restarting", "Down")
    may = ("FeedBlind",)

    def prepare(self, world):
        self.bridge = self.make(world.calm, [world.stream(self.name)])

    def run(self):
        self.bridge.up()
        for _ in range(3):
            time.sleep(2)
            self.bridge.stop(signal.SIGKILL)
            self.bridge.up()
        self.fires("Restarting")
        self.bridge.stop(signal.SIGKILL)
        self.fires("Down")
        self.bridge.up()
        self.resolves("Down")
        self.resolves("Restarting")


class Lost(Scenario):
    """The journal is full, and the operator chose to drop what is new."""

    fault = "sink away, journal full, when_full: drop_newest"
    must = ("EventsLost", "JournalFillingUp", "JournalBlocked", "SinkStalled")
    may = ("FeedBlind",)
    when_full = "drop_newest"

    def prepare(self, world):
        sink = world.stream(self.name, bed=world.late_nats)
        journal = {"max_bytes": "600KiB", "retention": "0s", "when_full": self.when_full}
        # Fast enough to fill a small journal in seconds.
        self.vendor = world.vendor(self.name, "--rate", "150")
        self.bridge = self.make(self.vendor, [sink], journal=journal)

    def worse(self):
        """What happens next while it lasts."""

    def run(self):
        self.bridge.up()
        for alert in self.must:
            self.fires(alert)
        self.worse()
        self.world.late_nats_returns()
        for alert in self.must:
            self.resolves(alert)


class Full(Lost):
    """The journal is full, and the feed waits until it is not read any more: one page, not two."""

    fault = "sink away, journal full, when_full: block"
    must = ("JournalFillingUp", "JournalBlocked", "SinkStalled")
    when_full = "block"

    def worse(self):
        self.vendor.do("rate", events_per_second=3000)
        self.wait("the feed is not read", lambda: self.bridge.metric("feed_connected") == 0)
        self.vendor.do("rate", events_per_second=50)
        # As long as a disconnected feed would need to page.
        self.world.settle(2 * 5 * 60 / self.world.factor)


class Disconnected(Scenario):
    """The vendor is away."""

    fault = "the vendor drops every connection"
    must = ("FeedDisconnected", "FeedBlind")

    def prepare(self, world):
        self.vendor = world.vendor(self.name, "--rate", "5")
        self.bridge = self.make(self.vendor, [world.stream(self.name)])

    def run(self):
        self.started()
        self.vendor.do("down", on=True)
        self.fires("FeedDisconnected")
        self.fires("FeedBlind")
        self.vendor.do("down", on=False)
        self.resolves("FeedDisconnected")
        self.resolves("FeedBlind")


class Refused(Scenario):
    """The key is wrong; the restarts are there so that nobody waits minutes for the next try."""

    fault = "a wrong API key"
    must = ("FeedCredentialRefused",)
    may = ("FeedBlind",)

    def prepare(self, world):
        self.bridge = self.make(world.calm, [world.stream(self.name)])

    def run(self):
        self.started()
        self.restart_with("a-wrong-key")
        self.fires("FeedCredentialRefused", reason="authentication")
        self.restart_with(self.world.key)
        self.resolves("FeedCredentialRefused")

    def restart_with(self, key):
        self.bridge.key.write_text(key)
        self.bridge.stop(signal.SIGKILL)
        self.bridge.up()


class Storm(Scenario):
    """The vendor closes each connection after a moment, until its limit, which is not shorter, is spent."""

    fault = "each connection is closed after a second"
    must = ("FeedReconnectStorm",)
    may = ("FeedBlind", "FeedDisconnected")

    def prepare(self, world):
        self.vendor = world.vendor(self.name, "--rate", "5")
        self.bridge = self.make(self.vendor, [world.stream(self.name)], feed={"ping_interval": "300ms", "idle_timeout": "1s"})

    def run(self):
        self.started()
        before = 0
        deadline = time.monotonic() + 60
        while not self.is_firing("FeedReconnectStorm") and time.monotonic() < deadline:
            connects = self.bridge.metric("feed_connects_total")
            if connects > before and self.bridge.metric("feed_connected"):
                before = connects
                time.sleep(1.1)
                self.vendor.do("close", code=1001)
            time.sleep(0.1)
        self.fires("FeedReconnectStorm", within=5)
        self.resolves("FeedReconnectStorm")


class Silent(Scenario):
    """The feed is connected and tells of nobody: the longest of all."""

    fault = "no event for six hours"
    must = ("FeedSilent",)

    def prepare(self, world):
        self.vendor = world.vendor(self.name, "--rate", "0.0001")
        self.bridge = self.make(self.vendor, [world.stream(self.name)])

    def run(self):
        self.started()
        self.vendor.do("pause")
        self.fires("FeedSilent", within=6 * 3600 / self.world.factor + 30)
        self.vendor.do("step", n=1)
        self.resolves("FeedSilent")


class Frames(Scenario):
    """Messages that are missing, and one that cannot be read."""

    fault = "a gap of three numbers; then a frame that is no JSON"
    must = ("FeedSequenceGaps", "FramesRejected")

    def prepare(self, world):
        self.vendor = world.vendor(self.name, "--rate", "20")
        self.bridge = self.make(self.vendor, [world.stream(self.name)])

    def run(self):
        self.started()
        self.vendor.do("gap", n=3)
        self.fires("FeedSequenceGaps")
        self.resolves("FeedSequenceGaps")
        self.vendor.do("noise", frame="malformed")
        self.fires("FramesRejected", reason="malformed")
        self.resolves("FramesRejected")


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
        self.proxy.hold = 4.0
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


class Lists(Scenario):
    """The list fails; then it lacks half of the users."""

    fault = "the list answers 500; then it lacks half of the users"
    must = ("ReconcileFailing", "ReconcileRefused")

    def prepare(self, world):
        self.vendor = world.vendor(self.name, "--rate", "5", "--rest", "server-error")
        self.bridge = self.make(self.vendor, [world.stream(self.name)])

    def run(self):
        self.bridge.up()
        self.fires("ReconcileFailing")
        self.vendor.do("rest", mode="ok")
        self.resolves("ReconcileFailing")
        self.wait("a list is compared", lambda: self.bridge.metric('reconcile_runs_total{outcome="success"}') > 0)
        self.vendor.do("rest_lacks", share=0.5)
        self.vendor.do("close", code=1001)
        self.fires("ReconcileRefused", outcome="refused")
        self.vendor.do("rest_lacks", share=0.0)
        self.resolves("ReconcileRefused")


SCENARIOS = [
    Calm, Restarts, Lost, Disconnected, Refused, Storm, Silent, Frames, Full, Halted, Outage, Lagging,
    Twins, Letters, Lists,
]
