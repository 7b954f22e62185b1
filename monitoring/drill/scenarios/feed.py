"""Faults of the vendor: the connection, the key, the messages, the list."""

import signal
import time

from drill.scenario import Scenario


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
