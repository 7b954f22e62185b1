"""What every scenario does alike: starts its bridge, waits for its alert, tries the runbook, waits again."""

import threading
import time

from drill.processes import eventually, get

PREFIX = "OnboardingBridge"


def nats_sink(name, port, stream, prefix):
    return (
        f"{{name: {name}, type: nats, url: 'nats://127.0.0.1:{port}', stream: {stream}, "
        f"subject_prefix: {prefix}, settle: 0s}}"
    )


class Scenario:
    """`must` and `may`: names of alerts without their prefix."""

    fault = ""
    must = ()
    may = ()

    def __init__(self, world):
        self.world, self.name = world, type(self).__name__.lower()
        self.bridge, self.problems, self.seen = None, [], {}
        self.over = threading.Event()
        self.prepare(world)

    def prepare(self, world):
        raise NotImplementedError

    def run(self):
        raise NotImplementedError

    def make(self, vendor, sinks, **more):
        return self.world.bridge(self.name, vendor, sinks, **more)

    def started(self, sinks=()):
        """Up, subscribed, and every sink opened."""
        self.bridge.up()
        self.wait("it is ready", lambda: self.bridge_answers("/readyz"))
        for sink in sinks:
            series = f'sink_published_total{{sink="{sink}"}}'
            self.wait(f"{sink} publishes", lambda series=series: self.bridge.metric(series) > 0)

    def bridge_answers(self, path):
        return get(self.bridge.url + path)[0] == 200

    def wait(self, what, condition, seconds=45.0):
        return eventually(f"{self.name}: {what}", condition, seconds)

    def holds(self, what, is_so):
        if not is_so and what not in self.problems:
            self.problems.append(what + ": no")

    def is_firing(self, alert, **labels):
        return self.world.alerts.fires(self.name, PREFIX + alert, labels)

    def fires(self, alert, within=60.0, **labels):
        """Waits until it fires, and does what the runbook says to look at, while it does."""
        begun = time.monotonic()
        self.wait(f"{alert} fires", lambda: self.is_firing(alert, **labels), within * self.world.patience)
        self.seen[alert] = [time.monotonic() - begun, None]
        self.problems += self.world.try_runbook(PREFIX + alert, self.bridge)

    def resolves(self, alert, within=75.0):
        begun = time.monotonic()
        self.wait(f"{alert} resolves", lambda: not self.is_firing(alert), within * self.world.patience)
        self.seen[alert][1] = time.monotonic() - begun

    def play(self):
        """Runs to its end; what went wrong is in `problems`."""
        try:
            self.run()
        except Exception as error:  # a scenario must not take the others with it
            self.problems.append(f"{type(error).__name__}: {error}")
        self.over.set()
        # A process ends with the thread that started it; see `with_us`.
        self.world.ended.wait()

    def verdict(self):
        """What is wrong, after the book of everything that fired."""
        wrong = list(self.problems)
        fired = {alert.removeprefix(PREFIX): seen for alert, seen in self.world.alerts.of(self.name).items()}
        wrong += [f"{alert} did not fire and resolve" for alert in self.must if self.seen.get(alert, [0, None])[1] is None]
        for alert in sorted(fired.keys() - {*self.must, *self.may}):
            first, last = fired[alert]
            wrong.append(f"{alert} fired and should not, from second {first:.1f} to {last:.1f}")
        return wrong
