#!/usr/bin/env python3
"""Runs the services of docker-compose.yml without an engine, each as its image would.

    compose.py --compose DOCKER_COMPOSE --program ONBOARDING_BRIDGE --kafka JARS --tools JARS --nats SERVER \
        --cli NATS

Needs root, java, prometheus and alertmanager. Each in a network of its own, on a copy of the file system that
is gone at the end, the services start in the order of `depends_on`, with the command, the environment, the
files, the user and the health check that docker-compose.yml gives them; only the programs are this
machine's. Then an event must have come through to the watcher of each bus, and each published port must be
open. That is done with every profile, with Kafka alone, and with NATS alone. There is no Grafana: its service
is left out. Memory, capabilities and the read-only root are the engine's part.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOT_HERE = {"grafana"}
PATIENCE = 150
# The profiles of a case, and the buses that there are then.
CASES = [(("*",), ("kafka", "nats")), (("kafka", "watch"), ("kafka",)), (("nats", "watch-nats"), ("nats",))]
# Whose services there are only with the profile: the watcher of a bus, and what it prints at an event.
WATCHERS = {"kafka": ("watch", "Partition:"), "nats": ("watch-nats", "[#1]")}
TOOLS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}


def fail(why):
    sys.exit(f"compose.py: {why}")


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, **more)


class Service:
    """One service, started once what it depends on is as far as it asks."""

    def __init__(self, name, said, options, logs, number):
        self.name, self.said, self.options = name, said, options
        self.number, self.address = number, f"10.77.{number}.2"
        self.log = logs / f"{name}.log"
        self.process, self.unhealthy = None, ""

    def network(self):
        """A network of its own, as a container has, from which the others are reached."""
        outside, gate = f"v{self.number}", f"10.77.{self.number}.1"
        run("ip", "netns", "add", self.name)
        if self.said.get("network_mode") == "none":
            return
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "address", "add", f"{gate}/24", "dev", outside)
        run("ip", "link", "set", outside, "up")
        inside = ("ip", "-n", self.name)
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run(*inside, "link", "set", device, "up")
        run(*inside, "route", "add", "default", "via", gate)

    def there(self, command):
        return ["ip", "netns", "exec", self.name, *command]

    def image(self):
        return self.said["image"].rsplit(":", 1)[0]

    def environment(self):
        here = {"PATH": os.environ["PATH"], "HOME": "/root"}
        return here | {key: str(value) for key, value in self.said.get("environment", {}).items()}

    def command(self):
        entrypoint, words = self.said.get("entrypoint"), self.said.get("command") or []
        if entrypoint:
            return [*entrypoint, *words]
        # What the image's own entrypoint does.
        match self.image():
            case "apache/kafka":
                return ["/opt/kafka/start"]
            case "nats":
                return [self.options.nats, *words]
            case "prom/prometheus":
                return ["prometheus", *words]
            case "prom/alertmanager":
                return ["prometheus-alertmanager", *words]
            case "onboarding-bridge":
                user = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"]
                return [*user, "--bounding-set=-all", "--no-new-privs", self.options.program, *words]
        fail(f"nobody knows what the image of {self.name} runs")

    def files(self):
        """Puts what is mounted where it is mounted."""
        for mount in self.said.get("volumes", []):
            target = pathlib.Path(mount["target"])
            if mount["type"] == "bind":
                put(pathlib.Path(mount["source"]), target)
                continue
            volume = pathlib.Path("/volumes", mount["source"])
            if not volume.exists():
                volume.mkdir(parents=True)
                if mount["source"] == "journal":
                    # As the image's directory is, whose ownership a new volume takes over.
                    os.chown(volume, 65532, 65532)
                    volume.chmod(0o700)
                if mount["source"] == "config":
                    # As an earlier start with other buses leaves it.
                    (volume / "bridge.yaml").write_text("of: the start before\n")
            if not target.is_mount():
                target.mkdir(parents=True, exist_ok=True)
                run("mount", "--bind", volume, target)
                if mount.get("read_only"):
                    run("mount", "-o", "remount,bind,ro", target)
        for secret in self.said.get("secrets", []):
            put(ROOT / "compose" / f"{secret['source']}.example", pathlib.Path("/run/secrets", secret["source"]))

    def start(self):
        self.files()
        if self.image() == "apache/kafka" and not self.said.get("entrypoint"):
            kafka(self.environment(), self.options)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.there(self.command()), env=self.environment(), cwd="/",
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def healthy(self):
        check = self.said["healthcheck"]["test"]
        if check[0] != "CMD":
            fail(f"the health check of {self.name} is no plain command: {check}")
        done = subprocess.run(
            self.there(check[1:]), env=self.environment(), capture_output=True, timeout=30, check=False
        )
        self.unhealthy = (done.stdout + done.stderr).decode()[-1500:]
        return done.returncode == 0

    def is_as_far(self, condition):
        ended = self.process.poll()
        if condition == "service_completed_successfully":
            if ended:
                self.died()
            return ended == 0
        if ended is not None:
            self.died()
        return condition == "service_started" or self.healthy()

    def died(self):
        lines = self.log.read_text().splitlines()
        wrong = [line for line in lines if "ERROR" in line or "Exception" in line]
        text = "\n".join([*wrong[:10], "...", *lines[-15:]])
        fail(f"the service {self.name} ended with {self.process.returncode}:\n{text}")

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def put(source, target):
    """A copy: whoever may read the source may read it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def kafka(environment, options):
    """The settings that apache/kafka makes of its environment, and its tools by their names."""
    bin_folder = pathlib.Path("/opt/kafka/bin")
    bin_folder.mkdir(parents=True, exist_ok=True)
    java = 'exec java ${KAFKA_HEAP_OPTS:-} -cp'
    for name, main in TOOLS.items():
        (bin_folder / name).write_text(f'#!/bin/sh\n{java} "{options.tools}/*" {main} "$@"\n')
        (bin_folder / name).chmod(0o755)
    apart = {"KAFKA_HEAP_OPTS"}
    settings = pathlib.Path("/opt/kafka/server.properties")
    lines = [
        f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={value}"
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name not in apart
    ]
    settings.write_text("\n".join(lines) + "\n")
    start = pathlib.Path("/opt/kafka/start")
    start.write_text(
        f"""#!/bin/sh
set -e
java -cp "{options.kafka}/*" kafka.tools.StorageTool format -t "$CLUSTER_ID" -c {settings} --ignore-formatted
{java} "{options.kafka}/*" kafka.Kafka {settings}
"""
    )
    start.chmod(0o755)


def wait_for(what, found):
    until = time.monotonic() + PATIENCE
    while True:
        try:
            value = found()
        except (OSError, ValueError):
            value = None
        if value:
            return value
        if time.monotonic() > until:
            fail(f"waited {PATIENCE} s for {what}")
        time.sleep(0.5)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def judge(services, buses):
    """What holds in each case: these sinks and no others, and an event at the watcher of each."""
    status = lambda: json.loads(get("http://bridge:9464/status"))["sinks"]  # noqa: E731
    if sorted(sink["name"] for sink in status()) != sorted(buses):
        fail(f"with {buses} the sinks are {status()}")
    wait_for(
        "each sink to deliver",
        lambda: all(sink["state"] == "delivering" and sink["delivered"] > 0 for sink in status()),
    )
    for bus in buses:
        name, event = WATCHERS[bus]
        watcher = services[name]
        watcher.start()
        wait_for(f"an event at `{name}`", lambda: event in watcher.log.read_text())  # noqa: B023
    for name, service in services.items():
        for port in service.said.get("ports", []):
            if port["host_ip"] != "127.0.0.1":
                fail(f"{name} publishes {port} to other machines")
            try:
                socket.create_connection((service.address, port["target"]), 10).close()
            except OSError as error:
                fail(f"nobody listens on {port['target']} of {name}: {error}")


def judge_observers(services):
    targets = lambda: json.loads(get("http://prometheus:9090/api/v1/targets"))  # noqa: E731
    wait_for(
        "Prometheus to scrape the bridge",
        lambda: any(
            target["labels"]["job"] == "onboarding-bridge" and target["health"] == "up"
            for target in targets()["data"]["activeTargets"]
        ),
    )
    rules = json.loads(get("http://prometheus:9090/api/v1/rules"))["data"]["groups"]
    if sum(len(group["rules"]) for group in rules) < 20:
        fail(f"Prometheus has {rules}")
    managers = lambda: json.loads(get("http://prometheus:9090/api/v1/alertmanagers"))  # noqa: E731
    wait_for("Alertmanager", lambda: managers()["data"]["activeAlertmanagers"])
    wait_for("trouble by `chaos`", lambda: "close" in services["chaos"].log.read_text())
    lost = 'onboarding_bridge_feed_reconnects_total{reason="closed"} '
    wait_for(
        "the bridge to tell of the trouble",
        lambda: any(
            line.startswith(lost) and float(line.split()[-1]) > 0
            for line in get("http://bridge:9464/metrics").splitlines()
        ),
    )


def inside(options):
    """In the namespaces, on the copy of the file system."""
    # `config` writes each dollar twice, to be read again.
    said = json.loads(pathlib.Path(options.said).read_text().replace("$$", "$"))["services"]
    cli = pathlib.Path("/usr/local/bin/nats")
    cli.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.cli, cli)
    logs = pathlib.Path(tempfile.mkdtemp())
    services = {
        name: Service(name, service, options, logs, number)
        for number, (name, service) in enumerate(said.items(), 1)
        if name not in NOT_HERE
    }
    names = [f"127.0.0.1 localhost {socket.gethostname()}"]
    names += [f"{service.address} {name}" for name, service in services.items()]
    pathlib.Path("/etc/hosts").write_text("\n".join(names) + "\n")
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for service in services.values():
        service.network()
    watchers = {name for name, _ in WATCHERS.values()}
    waiting = [name for name in services if name not in watchers]
    try:
        until = time.monotonic() + PATIENCE
        while waiting:
            for name in list(waiting):
                wanted = services[name].said.get("depends_on", {})
                if all(
                    other not in waiting and services[other].is_as_far(how["condition"])
                    for other, how in wanted.items()
                    if other in services or how["required"]
                ):
                    services[name].start()
                    waiting.remove(name)
            if time.monotonic() > until:
                why = "\n".join(f"{name}: {service.unhealthy}" for name, service in services.items())
                fail(f"{waiting} did not start\n{why}")
            time.sleep(0.3)
        try:
            wait_for("the bridge", lambda: get("http://bridge:9464/readyz"))
        except SystemExit:
            print("\n".join(services["bridge"].log.read_text().splitlines()[-12:]), file=sys.stderr)
            raise
        for service in services.values():
            if service.process and "healthcheck" in service.said:
                wait_for(f"the health of {service.name}", service.healthy)
        judge(services, options.buses.split(","))
        if "chaos" in services:
            judge_observers(services)
    finally:
        for service in reversed(services.values()):
            service.end()
    print(f"compose.py: {options.buses}: {len(services)} services ran, and an event came through", flush=True)


def configuration(options, *profiles):
    """What Compose makes of the file with these profiles, or with those of .env."""
    command = [options.compose]
    for profile in profiles:
        command += ["--profile", profile]
    environment = {name: value for name, value in os.environ.items() if name != "COMPOSE_PROFILES"}
    return run(*command, "config", "--format", "json", cwd=ROOT, env=environment, stdout=subprocess.PIPE).stdout


def selected(options, *profiles):
    return set(json.loads(configuration(options, *profiles))["services"])


def judge_profiles(options):
    """Without a profile there are both buses, and with that of one there is nothing of the other."""
    both = selected(options, "kafka", "nats")
    if selected(options) != both:
        fail(f"without a profile the services are {sorted(selected(options))}, not {sorted(both)}")
    for bus, other in (("kafka", "nats"), ("nats", "kafka")):
        wanted = {name for name in both if other not in name}
        if selected(options, bus) != wanted or not {bus, "bridge"} <= wanted:
            fail(f"with the profile {bus} the services are {sorted(selected(options, bus))}, not {sorted(wanted)}")


def enter(options, words, profiles, buses):
    """Makes the copy of the file system, whose changes are in memory, and goes there."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        said = folder / "said.json"
        said.write_bytes(configuration(options, *profiles))
        script = """set -euo pipefail
ip link set lo up
mount -t tmpfs none "$1"
cp "$2" "$1/said.json"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
for part in proc sys dev; do mount --rbind /$part "$1/root/$part"; done
cp "$1/said.json" "$1/root/said.json"
# What lies on another disk than the root is not in the copy.
for place in $PLACES; do
  [ -e "$1/root$place" ] || { mkdir -p "$1/root$place"; mount --rbind "$place" "$1/root$place"; }
done
shift 2
exec chroot "$FOLDER/root" "$@"
"""
        files = [options.program, options.nats, options.cli]
        places = [str(ROOT), options.kafka, options.tools, sys.base_prefix]
        places += [str(pathlib.Path(path).parent) for path in files]
        made = folder / "made"
        made.mkdir()
        done = subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script, "-",
             str(made), str(said), sys.executable, "-B", str(ROOT / "tests" / "compose.py"), *words,
             "--said", "/said.json", "--buses", ",".join(buses)],
            env={**os.environ, "FOLDER": str(made), "PLACES": " ".join(places)}, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.returncode)


def main():
    parser = argparse.ArgumentParser()
    for name in ("compose", "program", "kafka", "tools", "nats", "cli"):
        parser.add_argument(f"--{name}", required=True, type=lambda path: str(pathlib.Path(path).resolve()))
    for name in ("said", "buses"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.said:
        inside(options)
        return
    given = {name: value for name, value in vars(options).items() if value}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    judge_profiles(options)
    for profiles, buses in CASES:
        enter(options, words, profiles, buses)


main()
