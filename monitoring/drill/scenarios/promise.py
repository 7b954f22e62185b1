"""Faults of the process and of the journal: it dies, it is full, and nothing is wrong at all."""

import signal
import subprocess
import time

from drill.scenario import Scenario


class Calm(Scenario):
    """Nothing is wrong: three sinks, and no alert at all from the first second to the last."""

    fault = "none"

    def prepare(self, world):
        file = f"{{name: file, type: file, path: '{world.folder}/calm.jsonl'}}"
        self.bridge = self.make(world.calm, [world.stream("calm"), world.stream("other"), file])

    def run(self):
        self.bridge.up()


class Restarts(Scenario):
    """Dies soon after each start, so that it answers now and then; later it is away and stays so."""

    fault = "the process dies soon after each start; later it stays away"
    must = ("Restarting", "Down")
    may = ("FeedBlind",)

    def prepare(self, world):
        self.bridge = self.make(world.calm, [world.stream(self.name)])

    def run(self):
        self.dies_again_and_again()
        self.fires("Restarting", within=5)
        self.fires("Down", within=5)
        self.bridge.up()
        self.resolves("Down")
        self.bridge.stop(signal.SIGKILL)
        self.fires("Down")
        self.bridge.up()
        self.resolves("Down")
        self.resolves("Restarting")

    def dies_again_and_again(self):
        """Never away for the five minutes that `up == 0` would have to last, on a machine that is not busy."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (self.is_firing("Restarting") and self.is_firing("Down")):
            self.bridge.up()
            time.sleep(60 / self.world.factor)
            self.bridge.stop(signal.SIGKILL)
            time.sleep(120 / self.world.factor)
        # Before it stays away for longer, which would fire too.
        self.holds("Down fires although it answers now and then", self.is_firing("Down"))


class Expiring(Scenario):
    """The authority that is trusted, by feed and sink, ends; a file with a new one mends it."""

    fault = "the authority in the ca_file of feed and sink is about to end"
    must = ("CertificateExpiring",)

    def prepare(self, world):
        self.ca = world.folder / "authority.pem"
        self.lasts(days=1)
        sink = world.stream(self.name).replace("}", f", ca_file: '{self.ca}'}}")
        self.bridge = self.make(world.calm, [sink], feed={"ca_file": str(self.ca)})

    def lasts(self, days):
        """A day is more than what the alert calls soon, by the factor of the drill."""
        key, request, new = (self.ca.with_suffix(end) for end in (".key", ".csr", ".new"))
        ask = ["req", "-new", "-newkey", "ed25519", "-nodes", "-subj", "/CN=drill", "-keyout", key, "-out", request]
        sign = ["x509", "-req", "-in", request, "-signkey", key, "-days", str(days), "-out", new]
        for command in (ask, sign):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
        new.rename(self.ca)

    def run(self):
        self.started([self.name])
        self.world.settle()
        self.holds("it is silent while the end is far", not self.is_firing("CertificateExpiring"))
        self.lasts(days=0)
        self.fires("CertificateExpiring", sink=self.name)
        self.lasts(days=1)
        self.resolves("CertificateExpiring")


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
