#!/usr/bin/env python3
"""Tries those steps of the Dockerfile that need no engine and break when a file moves.

    tests/dockerfile.py

In an empty folder it copies what COPY names, runs each RUN up to its `cargo auditable build`, and asks Cargo
whether every target that Cargo.toml names is there: the layer of the dependencies needs an empty
file for each. It also sees that .dockerignore lets the copied files pass, and that the chart runs
the image as the image says. It compiles nothing and starts no container.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def fail(message):
    sys.exit(f"tests/dockerfile.py: {message}")


def instructions(text):
    """(name, arguments) of each instruction, continued lines joined, comments left out."""
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.split("\n") if line.strip()]


def passes(path, rules):
    """Whether .dockerignore lets a path of the root pass: the last rule that names it decides."""
    lets = True
    for rule in rules:
        if rule.lstrip("!") in ("*", path):
            lets = rule.startswith("!")
    return lets


def targets(folder):
    """What Cargo takes for the targets of the folder's manifest, each with its file."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"Cargo cannot read the manifest in the layer of the dependencies:\n{done.stderr}")
    return [
        (target["name"], pathlib.Path(target["src_path"]))
        for target in json.loads(done.stdout)["packages"][0]["targets"]
    ]


def main():
    steps = instructions((ROOT / "Dockerfile").read_text())
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().split("\n")
        if line and not line.startswith("#")
    ]
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    named = {
        target["name"]
        for kind in ("bin", "example", "test", "bench")
        for target in manifest.get(kind, [])
    }
    wanted = {
        name
        for name, _ in targets(ROOT)
        if name in named or name.replace("_", "-") == manifest["package"]["name"]
    }
    if len(wanted) < len(named) + 2:
        fail(f"Cargo knows {wanted} only")
    layers = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, arguments in steps:
            if name == "COPY" and "--from" not in arguments:
                *sources, to = arguments.split()
                for source in sources:
                    if not passes(source, rules):
                        fail(f".dockerignore leaves out {source}, which the Dockerfile copies")
                    to_path = folder / to
                    if (ROOT / source).is_dir():
                        shutil.copytree(ROOT / source, to_path, dirs_exist_ok=True)
                    else:
                        shutil.copy(
                            ROOT / source, to_path / source if to.endswith("/") else to_path
                        )
            build = "cargo auditable build"
            if name == "RUN" and build in arguments:
                before = arguments.split(build)[0].rstrip().removesuffix("&&")
                subprocess.run(["sh", "-euc", before], cwd=folder, check=True)
                found = targets(folder)
                lacking = [str(path.relative_to(folder)) for _, path in found if not path.exists()]
                lacking += sorted(wanted - {name for name, _ in found})
                if lacking:
                    fail(f"at `cargo build` number {layers + 1} it lacks {', '.join(lacking)}")
                layers += 1
    if layers != 2:
        fail(f"expected a build of the dependencies and one of the program, found {layers}")
    final = dict(steps)
    chart = (ROOT / "charts/onboarding-bridge/templates/statefulset.yaml").read_text()
    args = re.search(r"args: \[(.*)\]", chart).group(1).split(", ")
    if json.loads(final["CMD"]) != args:
        fail(f"the chart runs {args}, the image {final['CMD']}")
    values = (ROOT / "charts/onboarding-bridge/values.yaml").read_text()
    user, group = final["USER"].split(":")
    if f"runAsUser: {user}\n" not in values or f"runAsGroup: {group}\n" not in values:
        fail(f"the chart runs as another user than the image's {final['USER']}")
    print(f"tests/dockerfile.py: both builds have a file for each of {len(wanted)} targets")


main()
