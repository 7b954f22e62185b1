#!/usr/bin/env python3
"""The drill: drill.py --program FILE [--factor N] [--port P] [--only NAME ...] [--keep]

Starts real bridges, each with a simulated vendor, real NATS and Kafka servers (tests/beds), and a real
Prometheus with the alerts of monitoring/alerts.yaml, in which every time is shorter by one factor (120).
Then it does to each bridge what its alerts are for, sees each alert fire and resolve, tries the commands
of the alert's section of docs/runbook.md meanwhile, and asks every query of the dashboards. It ends
with 1 if an alert did not fire, did not resolve, or fired where it should not, if a command of the
runbook failed, or a query of a dashboard has no data.

It takes four minutes, at most six. With `--factor 1 --only outage` the outage lasts its whole hour. It needs Java and Maven (Kafka), Python with venv (NATS), curl,
prometheus, promtool and openssl. Everything is in a folder of its own, listens on loopback only, and ends with it.
"""

import argparse
import pathlib
import sys
import tempfile
import threading
import time

from drill.checks import checks
from drill.scenarios import SCENARIOS
from drill.world import World

# For the usual factor; where every time is longer, so is the patience with it.
LIMIT, USUAL = 360, 120.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path, help="the bridge to try")
    parser.add_argument("--factor", type=float, default=USUAL, help="by which every time is shorter (120)")
    parser.add_argument("--port", type=int, default=28000, help="first of the ports to take (28000)")
    parser.add_argument("--only", nargs="*", default=[], help="names of scenarios; checks need all of them")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    return parser.parse_args()


def play(world, scenarios):
    """All at once; whoever takes longer than the limit has failed."""
    limit = LIMIT * world.patience
    deadline = time.monotonic() + limit
    for scenario in scenarios:
        threading.Thread(target=scenario.play, daemon=True).start()
    for scenario in scenarios:
        if not scenario.over.wait(max(0.0, deadline - time.monotonic())):
            scenario.problems.append(f"not over after {limit:g} s")
    # What resolved last may be followed by what should not fire.
    world.settle(10)


def table(scenarios):
    """One line an alert: when it fired after the fault, when it resolved after the mending."""
    print(f"\n{'bridge':<13}{'alert':<23}{'fires after':>12}{'resolves after':>16}  fault")
    for scenario in scenarios:
        seen = scenario.seen or {"none": [None, None]}
        for alert, (fired, resolved) in seen.items():
            times = [f"{value:.1f} s" if value is not None else "-" for value in (fired, resolved)]
            print(f"{scenario.name:<13}{alert:<23}{times[0]:>12}{times[1]:>16}  {scenario.fault}")


def main():
    args = arguments()
    begun = time.monotonic()
    wanted = [each for each in SCENARIOS if not args.only or each.__name__.lower() in args.only]
    with tempfile.TemporaryDirectory(prefix="onboarding-bridge-drill.") as folder:
        world = World(pathlib.Path(folder), args.program.resolve(), args.factor, args.port, max(1.0, USUAL / args.factor))
        try:
            scenarios = [make(world) for make in wanted]
            world.begin(scenarios)
            play(world, scenarios)
            wrong = [f"{scenario.name}: {line}" for scenario in scenarios for line in scenario.verdict()]
            if not args.only:
                wrong += checks(world)
        finally:
            world.end()
            if args.keep:
                kept = tempfile.mkdtemp(prefix="onboarding-bridge-drill-kept.")
                world.copy_to(kept)
                print(f"kept in {kept}")
        table(scenarios)
        print(f"\n{len(scenarios)} bridges, every time shorter by {args.factor:g}, {time.monotonic() - begun:.0f} s in all")
        for line in wrong:
            print(f"WRONG {line}")
        if wrong:
            for name in {line.split(":")[0] for line in wrong}:
                world.show_log(name)
            sys.exit(1)
        print("every alert fired and resolved where it should, and nowhere else")


if __name__ == "__main__":
    main()
