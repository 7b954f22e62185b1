#!/usr/bin/env python3
"""Renders the chart for each values file, for Kubernetes and the bridge to judge what comes out.

    rendered.py --helm HELM --kubeconform KUBECONFORM --bridge BRIDGE --schemas FOLDER VERSION...

The values files are those of ci/ and the examples of docs/kubernetes.md (each YAML block after the
comment `<!-- values -->`). The manifests that it shows are valid too. For each: `helm lint --strict`, kubeconform with the schemas of each
version of Kubernetes, and the real bridge must accept the file in each ConfigMap as it stands, with
no environment, and understand what the chart promises. Nothing is installed.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import traceback

import yaml

TESTS = pathlib.Path(__file__).resolve().parent
CHART = TESTS.parent / "onboarding-bridge"
ROOT = TESTS.parent.parent
SCHEMA_FILE = (
    "{{.NormalizedKubernetesVersion}}{{.StrictSuffix}}/{{.ResourceKind}}{{.KindSuffix}}.json"
)
# Seconds beside the drain, to close sinks and journal.
MARGIN = 10
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
# The bridge's defaults that templates repeat, because they reckon with them: words before the value.
REPEATED = {
    "journal.max_bytes": '"journal" "max_bytes" "{}"',
    "shutdown.drain": '"shutdown" "drain" "{}"',
    "feed.limits.connections": '"limits" "connections" {} ',
    "feed.limits.requests_per_minute": '"limits" "requests_per_minute" {} ',
    "feed.url": '"feed" "url" "{}"',
    "reconcile.url": '"reconcile" "url" "{}"',
}
JOURNAL = "/var/lib/onboarding-bridge/journal.db"


def run(*command, **more):
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **more
    )


def must(done, what):
    if done.returncode:
        sys.exit(f"rendered.py: {what}:\n{done.stdout}{done.stderr}")
    return done.stdout


def examples(folder):
    """The values files that docs/kubernetes.md shows, as files."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    blocks = re.findall(r"<!-- values -->\n+```yaml\n(.*?)\n```", text, re.DOTALL)
    if len(blocks) < 2:
        sys.exit("rendered.py: docs/kubernetes.md shows no values")
    for number, block in enumerate(blocks, 1):
        path = folder / f"docs-kubernetes-{number}.yaml"
        path.write_text(block + "\n")
        yield path


def conform(options, manifest, what):
    """The schemas of every version of Kubernetes."""
    for version in options.versions:
        command = [options.kubeconform, "-strict", "-kubernetes-version", version]
        command += ["-schema-location", f"{options.schemas}/{SCHEMA_FILE}", manifest]
        must(run(*command), f"{what} in Kubernetes {version}")


def check_manifests(options, folder):
    """Each object that docs/kubernetes.md shows, and the restricted standard as the chart has it."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    blocks = re.findall(r"<!-- manifest -->\n+```yaml\n(.*?)\n```", text, re.DOTALL)
    assert blocks, "docs/kubernetes.md shows no manifest"
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for block in blocks:
        (folder / "manifest.yaml").write_text(block + "\n")
        conform(options, folder / "manifest.yaml", "docs/kubernetes.md")
        pod = yaml.safe_load(block)["spec"]
        assert pod["securityContext"] == values["podSecurityContext"]
        assert pod["containers"][0]["securityContext"] == values["securityContext"]


def mounted(pod):
    """What the container finds: mount path to the name of the Secret or ConfigMap, if it is one."""
    sources = {}
    for volume in pod["volumes"]:
        secret = volume.get("secret", {}).get("secretName")
        sources[volume["name"]] = secret or volume.get("configMap", {}).get("name")
    mounts = pod["containers"][0]["volumeMounts"]
    assert not any(
        "subPath" in mount for mount in mounts
    ), "a subPath is never renewed by the kubelet"
    return {mount["mountPath"]: sources.get(mount["name"]) for mount in mounts}


def files_of(value):
    """Every path that a configuration names, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if re.search(r"(_file|\.location|\.file|\.keytab)$", key) and isinstance(inner, str):
                yield inner
            elif key.endswith("_files"):
                yield from inner
            else:
                yield from files_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from files_of(inner)


def seconds(text):
    """Of a span as the bridge prints it."""
    parts = re.findall(r"([0-9]+) ?([a-z]+)", text)
    names = {"minutes": "m", "minute": "m", "hours": "h", "hour": "h", "days": "d", "day": "d"}
    return sum(int(number) * UNITS[names.get(unit, unit)] for number, unit in parts)


def check_defaults(bridge, folder):
    """What the templates take for the bridge's default is what the bridge says."""
    path = folder / "defaults.yaml"
    path.write_text("{feed: {api_key_file: /k}, sinks: [{name: f, type: file, path: '-'}]}")
    printed = run(bridge, "run", "--config", path, "--print-config", env={})
    defaults = yaml.safe_load(must(printed, "the bridge's defaults"))
    templates = "".join(file.read_text() for file in sorted((CHART / "templates").iterdir()))
    for key, pattern in REPEATED.items():
        value = defaults
        for part in key.split("."):
            value = value[part]
        before = pattern.split("{}")[0]
        told = templates.count(f"dig {before}") + templates.count(f'dig "feed" {before}')
        right = pattern.format(value)
        same = templates.count(f"dig {right}") + templates.count(f'dig "feed" {right}')
        assert told and told == same, f"a template has another default of {key} than {value}"


def check_bridge(bridge, config, set_by, folder):
    """The real bridge reads the file of one StatefulSet."""
    path = folder / "bridge.yaml"
    path.write_text(config["data"]["bridge.yaml"])
    printed = run(bridge, "run", "--config", path, "--print-config", env={})
    understood = yaml.safe_load(must(printed, f"the bridge refuses {config['metadata']['name']}"))
    pod = set_by["spec"]["template"]["spec"]
    port = pod["containers"][0]["ports"][0]["containerPort"]
    grace = pod["terminationGracePeriodSeconds"]
    wanted = math.ceil(seconds(understood["shutdown"]["drain"])) + MARGIN
    assert grace == wanted, f"{grace} s to end, and {wanted} are needed"
    listen = understood["admin"]["listen"]
    assert listen in (f"0.0.0.0:{port}", f"[::]:{port}"), listen
    assert understood["journal"]["path"] == JOURNAL, understood["journal"]
    assert understood["feed"]["api_key_file"].startswith("/run/secrets/sfox/")
    mounts = mounted(pod)
    assert mounts[str(pathlib.Path(JOURNAL).parent)] is None and "/run/secrets/sfox" in mounts
    for name in files_of(understood):
        assert any(name.startswith(mount + "/") for mount in mounts) or name.startswith(
            ("/opt/", "/etc/ssl/")
        ), name


def check_monitoring(objects):
    """Rules and dashboards arrive as they are in files/, their own braces too."""
    source = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    wanted = {rule["alert"]: rule for group in source["groups"] for rule in group["rules"]}
    for thing in objects:
        if thing["kind"] == "PrometheusRule":
            rules = {
                rule["alert"]: rule for group in thing["spec"]["groups"] for rule in group["rules"]
            }
            assert rules.keys() == wanted.keys()
            for name, rule in rules.items():
                anchor = wanted[name]["annotations"]["runbook_url"].partition("#")[2]
                assert rule["annotations"].pop("runbook_url").endswith("#" + anchor), name
                same = {
                    key: value
                    for key, value in wanted[name]["annotations"].items()
                    if key != "runbook_url"
                }
                assert rule["annotations"] == same and rule["expr"] == wanted[name]["expr"], name
                assert all(
                    rule.get(key) == wanted[name].get(key) for key in ("for", "keep_firing_for")
                )
                assert wanted[name]["labels"].items() <= rule["labels"].items(), name
        if thing["kind"] == "ConfigMap" and "grafana_dashboard" in thing["metadata"].get(
            "labels", {}
        ):
            for name, text in thing["data"].items():
                assert json.loads(text) == json.loads(
                    (CHART / "files" / "dashboards" / name).read_text()
                ), name


def check(options, values, folder):
    must(
        run(options.helm, "lint", "--strict", "--values", values, CHART),
        f"helm lint of {values.name}",
    )
    text = must(
        run(options.helm, "template", "r", CHART, "--namespace", "ns", "--values", values),
        values.name,
    )
    manifest = folder / "manifest.yaml"
    manifest.write_text(text)
    conform(options, manifest, values.name)
    objects = [thing for thing in yaml.safe_load_all(text) if thing]
    names = [
        (thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"])
        for thing in objects
    ]
    assert len(names) == len(set(names)), f"{values.name}: a name is used twice: {names}"
    check_monitoring(objects)
    sets = [thing for thing in objects if thing["kind"] == "StatefulSet"]
    assert sets, f"{values.name}: no StatefulSet"
    for each in sets:
        config = mounted(each["spec"]["template"]["spec"])["/etc/onboarding-bridge"]
        found = [
            thing
            for thing in objects
            if thing["kind"] == "ConfigMap" and thing["metadata"]["name"] == config
        ]
        assert len(found) == 1, f"{values.name}: {config}"
        check_bridge(options.bridge, found[0], each, folder)
    return len(objects), len(sets)


def main():
    parser = argparse.ArgumentParser()
    for name in ("helm", "kubeconform", "bridge", "schemas"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("versions", nargs="+")
    options = parser.parse_args()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert (
        chart["appVersion"] == cargo["package"]["version"]
    ), "Chart.yaml's appVersion is not Cargo.toml's version"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check_defaults(options.bridge, folder)
        check_manifests(options, folder)
        every = [*sorted((CHART / "ci").glob("*-values.yaml")), *examples(folder)]
        counts = []
        for values in every:
            try:
                counts.append(check(options, values, folder))
            except AssertionError as wrong:
                traceback.print_exc()
                sys.exit(f"rendered.py: {values.name}: {wrong}")
    objects, sets = (sum(column) for column in zip(*counts, strict=True))
    print(
        f"rendered.py: {len(every)} values files, {objects} objects valid in Kubernetes "
        f"{' and '.join(options.versions)}, {sets} configurations accepted by the bridge"
    )


if __name__ == "__main__":
    main()
