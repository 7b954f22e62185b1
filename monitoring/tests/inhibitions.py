#!/usr/bin/env python3
"""Asks a real Alertmanager which alerts it keeps back: inhibitions.py ALERTMANAGER_YML

It starts one on loopback with that configuration, tells it alerts, and reads which are inhibited. Nobody
is notified: Alertmanager's receivers are those of the file, and it ends before it would send.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

CASES = [
    # source, target, whether it is kept back where the source is of the same bridge
    ("Down", "SinkStalled", True),
    ("Down", "Restarting", True),
    ("FeedDisconnected", "FeedBlind", True),
    ("FeedCredentialRefused", "FeedReconnectStorm", True),
    ("JournalBlocked", "FeedBlind", True),
    ("JournalBlocked", "JournalFillingUp", True),
    ("FeedDisconnected", "JournalFillingUp", False),
    ("FeedCredentialRefused", "JournalFillingUp", False),
    ("SinkStalled", "JournalFillingUp", False),
    ("FeedBlind", "FeedDisconnected", False),
]


def call(url, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read() or "null")


def alert(name, case, namespace):
    # The job tells the cases from each other.
    labels = {"alertname": "OnboardingBridge" + name, "job": f"case-{case}", "instance": "bridge-0"}
    return {"labels": {**labels, "namespace": namespace}}


def ready(url):
    for _ in range(150):
        try:
            urllib.request.urlopen(url + "/-/ready", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("inhibitions.py: Alertmanager does not become ready")


def ask(url):
    """What is wrong with each case."""
    told = []
    for number, (source, target, _) in enumerate(CASES):
        told += [alert(source, number, "here"), alert(target, number, "here")]
        told += [alert(source, f"{number}-apart", "there"), alert(target, f"{number}-apart", "here")]
    call(url + "/api/v2/alerts", told)
    back = {
        (one["labels"]["job"], one["labels"]["alertname"])
        for one in call(url + "/api/v2/alerts")
        if one["status"]["inhibitedBy"]
    }
    for number, (source, target, wanted) in enumerate(CASES):
        name = "OnboardingBridge" + target
        if ((f"case-{number}", name) in back) != wanted:
            yield f"{source} {'does not keep' if wanted else 'keeps'} {target} back"
        if (f"case-{number}-apart", name) in back:
            yield f"{source} keeps {target} of another namespace back"


def main():
    # Debian's name, and that of the project.
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if not program:
        sys.exit("inhibitions.py: there is no Alertmanager")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "wb") as log:
        command = [program, f"--config.file={sys.argv[1]}", f"--storage.path={folder}/data"]
        command += [f"--web.listen-address={address}", "--cluster.listen-address="]
        child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            ready("http://" + address)
            # What is told is inhibited once Alertmanager has taken it in itself.
            deadline = time.monotonic() + 10
            while (wrong := list(ask("http://" + address))) and time.monotonic() < deadline:
                time.sleep(0.2)
        finally:
            child.kill()
            child.wait()
    for line in wrong:
        print(f"inhibitions.py: {line}")
    if wrong:
        sys.exit(1)
    print(f"inhibitions.py: {len(CASES)} pairs of alerts, in one namespace and in two: as they should be")


main()
