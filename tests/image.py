#!/usr/bin/env python3
"""Builds the image from the Dockerfile, and runs the bridge in it. Needs root and buildah, no engine.

    image.py --program ONBOARDING_BRIDGE [--release]

The base image of the builder cannot be had without a registry. In its place is one made of this machine's
own tools (a Debian 12, as the base is), in which `cargo` compiles nothing and hands over --program. All
other steps are the Dockerfile's. What comes out is looked into as a folder, and runs as its user against a
simulated vendor on this machine. --release: the program is what `cargo auditable build --release` made, so the
size is judged, and the list of its dependencies that it holds.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = "bash sh ldd mkdir touch rm find cp grep xargs chown chmod chroot cat".split()
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# `install` is that of cargo-auditable.
CARGO = """#!/bin/bash
set -euo pipefail
case "$*" in
  install*) ;;
  *build*) mkdir -p target/release && cp /program target/release/onboarding-bridge ;;
  *) echo "the stand-in does not know cargo $*" >&2; exit 1 ;;
esac
"""
# Of glibc and the compiler's runtime; another one would have to be named in the Dockerfile.
LIBRARIES = {"libc.so.6", "libm.so.6", "libgcc_s.so.1"}
PATIENCE = 60
MEBIBYTES = 25


def fail(why):
    sys.exit(f"image.py: {why}")


class Buildah:
    def __init__(self, folder):
        self.store = ["--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "runroot")]
        self.environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def command(self, *words):
        return ["buildah", *self.store, *map(str, words)]

    def __call__(self, *words):
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            fail(f"buildah {' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


def stand_in(folder, program):
    """The root of the builder's base: tools of this machine with what they link, and a `cargo`."""
    def put(source, place=None):
        to = folder / str(place or source).lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists():
            shutil.copy(source, to)

    for tool in TOOLS:
        found = shutil.which(tool) or fail(f"this machine has no {tool}")
        put(found, f"/bin/{tool}")
        linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=False)
        for library in re.findall(r"(/\S+)", linked.stdout):
            if not library.startswith(found):
                put(library)
    for library in subprocess.check_output(["ldd", program], text=True).split():
        if library.startswith("/"):
            put(library)
    # Scripts of the tools, such as ldd, name these.
    (folder / "usr").mkdir()
    (folder / "usr" / "bin").symlink_to("../bin")
    put(AUTHORITIES)
    put(program, "/program")
    cargo = folder / "bin" / "cargo"
    cargo.write_text(CARGO)
    cargo.chmod(0o755)


def look_into(root, release):
    """Nothing but what the bridge needs."""
    files = {path for path in root.rglob("*") if path.is_file()}
    names = {path.name for path in files}
    libraries = {name for name in names if re.match(r"lib.*\.so", name)}
    loaders = {name for name in names if name.startswith("ld-linux")}
    wanted = {"onboarding-bridge", pathlib.Path(AUTHORITIES).name} | libraries | loaders
    if libraries != LIBRARIES or len(loaders) != 1 or names != wanted:
        fail(f"the image holds {sorted(names)}")
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID):
            fail(f"{path} has the rights of another")
        if mode & stat.S_IWOTH and not path.is_symlink():
            fail(f"{path} can be written by everybody")
    journal = (root / "var/lib/onboarding-bridge").stat()
    if (journal.st_uid, journal.st_gid, stat.S_IMODE(journal.st_mode)) != (65532, 65532, 0o700):
        fail(f"the journal's directory is {journal}")
    size = sum(path.stat().st_size for path in files)
    if release and size > MEBIBYTES * 1024 * 1024:
        fail(f"the image has {size / 1024 / 1024:.1f} MiB")
    return size


def dependencies(program, folder):
    """The list of them that cargo-auditable has put into the program."""
    dumped = folder / "dependencies"
    subprocess.run(["objcopy", "--dump-section", f".dep-v0={dumped}", program, "/dev/null"], check=False)
    if not dumped.exists():
        fail(f"{program} holds no list of its dependencies")
    names = {package["name"] for package in json.loads(zlib.decompress(dumped.read_bytes()))["packages"]}
    locked = set(re.findall(r'^name = "(.*)"$', (ROOT / "Cargo.lock").read_text(), re.MULTILINE))
    if not {"onboarding-bridge", "rdkafka-sys", "libsqlite3-sys"} <= names <= locked:
        fail(f"the list of dependencies is {sorted(names)}")


def look_at(inspected):
    """What the image says of itself."""
    config = inspected["OCIv1"]["config"]
    said = {
        "User": "65532:65532",
        "Entrypoint": ["/usr/local/bin/onboarding-bridge"],
        "Cmd": ["run", "--config", "/etc/onboarding-bridge/bridge.yaml"],
        "ExposedPorts": {"9464/tcp": {}},
        "Volumes": {"/var/lib/onboarding-bridge": {}},
        "StopSignal": "SIGTERM",
    }
    for name, wanted in said.items():
        if config.get(name) != wanted:
            fail(f"{name} is {config.get(name)}, not {wanted}")
    for label in ("title", "description", "licenses"):
        if not config["Labels"].get(f"org.opencontainers.image.{label}"):
            fail(f"the label {label} is missing")


def eventually(what, found):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    fail(f"waited {PATIENCE} s for {what}")


def run_in_it(buildah, container, program, folder):
    """The bridge in the image, as its user, from a simulated vendor to a file."""
    log = folder / "log"
    with log.open("w") as output:
        vendor = subprocess.Popen(
            [program, "simulate", "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    address = lambda scheme: re.search(rf"{scheme}://\S+", log.read_text())  # noqa: E731
    state = folder / "state"
    state.mkdir()
    os.chown(state, 65532, 65532)
    try:
        feed = eventually("the simulator", lambda: address("ws"))
        config = {
            "feed": {"url": feed.group(), "api_key": "example-enterprise-key"},
            "reconcile": {"url": address("http").group()},
            "journal": {"path": "/var/lib/onboarding-bridge/journal.db"},
            "admin": {"listen": "127.0.0.1:0"},
            "sinks": [
                {"name": "f", "type": "file", "path": "/out/events.jsonl"}
            ],
        }
        settings = folder / "bridge.yaml"
        settings.write_text(json.dumps(config))
        with (folder / "bridge.log").open("w") as output:
            bridge = subprocess.Popen(
                buildah.command(
                    "run", "-v", f"{settings}:/etc/onboarding-bridge/bridge.yaml:ro",
                    "-v", f"{state}:/out", container,
                    "/usr/local/bin/onboarding-bridge", "run", "--config",
                    "/etc/onboarding-bridge/bridge.yaml",
                ),
                env=buildah.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        events = state / "events.jsonl"
        try:
            until = time.monotonic() + PATIENCE
            while bridge.poll() is None and not (events.exists() and events.stat().st_size):
                if time.monotonic() > until:
                    break
                time.sleep(0.2)
        finally:
            subprocess.run(["pkill", "-TERM", "-P", str(bridge.pid)], check=False)
            bridge.terminate()
            bridge.wait(PATIENCE)
        if not (events.exists() and events.stat().st_size):
            fail(f"the bridge in the image says:\n{(folder / 'bridge.log').read_text()}")
        if events.stat().st_uid != 65532:
            fail("it does not run as its user")
    finally:
        vendor.terminate()
        vendor.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--release", action="store_true")
    options = parser.parse_args()
    program = str(options.program.resolve())
    base = re.search(r"^FROM (\S+) AS builder", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        buildah = Buildah(folder / "store")
        (folder / "base").mkdir()
        stand_in(folder / "base", program)
        container = buildah("from", "scratch")
        buildah("add", container, folder / "base", "/")
        buildah("config", "--env", "PATH=/bin", container)
        buildah("commit", container, f"docker.io/library/{base.group(1)}")
        built = buildah("bud", "--format", "docker", "--pull=never", "-t", "bridge:test", ROOT)
        if "onboarding-bridge " not in built:
            fail(f"the program did not tell its version:\n{built}")
        look_at(json.loads(buildah("inspect", "--type", "image", "bridge:test")))
        made = buildah("from", "--pull=never", "bridge:test")
        root = pathlib.Path(buildah("mount", made))
        size = look_into(root, options.release)
        if options.release:
            dependencies(root / "usr/local/bin/onboarding-bridge", folder)
        run_in_it(buildah, made, program, folder)
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")
    print(f"image.py: built, looked into ({size / 1024 / 1024:.1f} MiB), and an event has gone through it")


main()
