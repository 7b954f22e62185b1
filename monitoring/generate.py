#!/usr/bin/env python3
"""Writes what follows from alerts.yaml and boards/: generate.py [--check]

- monitoring/grafana/alerting/onboarding-bridge.yaml: the alerts as Grafana provisions them
- monitoring/dashboards/*.json: the dashboards
- charts/onboarding-bridge/files/: copies of alerts.yaml and of the dashboards, because a chart can read
  no file outside of itself

With --check it writes nothing and ends with 1 if a file is not what it would write. Needs PyYAML. It
never changes alerts.yaml.
"""

import json
import pathlib
import sys

import yaml

from boards import BOARDS

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent / "charts/onboarding-bridge/files"
NOTICE = "# Generated from monitoring/alerts.yaml by monitoring/generate.py; do not edit.\n"
INTERVAL = "1m"
# The uid of the data source that compose/grafana provisions.
DATASOURCE = "prometheus"


def expression(ref, model):
    """One step of a rule; times are seconds before now."""
    source = "__expr__" if "type" in model else DATASOURCE
    return {
        "refId": ref,
        "datasourceUid": source,
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": {"refId": ref, **model},
    }


def grafana_rule(rule):
    """A rule of Prometheus as Grafana provisions it.

    Prometheus fires for each series that the expression returns, whatever its value; Grafana for each
    value above a threshold. A value to the power of 0 is 1, also that of 0.
    """
    query = {"expr": rule["expr"], "instant": True, "range": False}
    fires = {"expr": f"(\n{rule['expr'].rstrip()}\n) ^ 0", "instant": True, "range": False}
    above = {
        "type": "threshold",
        "expression": "B",
        "conditions": [{"evaluator": {"type": "gt", "params": [0]}}],
    }
    annotations = {
        name: text.replace("$value", "$values.A.Value") for name, text in rule["annotations"].items()
    }
    return {
        "uid": "onboarding-" + rule["alert"].removeprefix("OnboardingBridge").lower(),
        "title": rule["alert"],
        "condition": "C",
        "data": [expression("A", query), expression("B", fires), expression("C", above)],
        "for": rule.get("for", "0s"),
        # Grafana reads this from files since 12.1.2; an older one passes over it.
        "keepFiringFor": rule.get("keep_firing_for", "0s"),
        # No series is the good case; a data source that does not answer is not the bridge's alert.
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": rule["labels"],
        "annotations": annotations,
    }


def grafana(alerts):
    groups = [
        {
            "orgId": 1,
            "name": group["name"],
            "folder": "Onboarding bridge",
            "interval": INTERVAL,
            "rules": [grafana_rule(rule) for rule in group["rules"]],
        }
        for group in alerts["groups"]
    ]
    return {"apiVersion": 1, "groups": groups}


class Blocks(yaml.SafeDumper):
    """Text of several lines as a block, so that a change can be read."""


def block(dumper, text):
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Blocks.add_representer(str, block)


def files():
    """Path and content of each file."""
    source = (HERE / "alerts.yaml").read_text()
    rules = grafana(yaml.safe_load(source))
    text = yaml.dump(rules, Dumper=Blocks, sort_keys=False, allow_unicode=True, width=100)
    yield HERE / "grafana/alerting/onboarding-bridge.yaml", NOTICE + text
    yield CHART / "alerts.yaml", NOTICE + source
    for name, board in BOARDS.items():
        text = json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        yield HERE / f"dashboards/{name}.json", text
        yield CHART / f"dashboards/{name}.json", text


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    stale, wanted = [], dict(files())
    for path, text in wanted.items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    folders = {path.parent for path in wanted if path.suffix == ".json"}
    stray = [path for folder in folders for path in folder.glob("*") if path not in wanted]
    for path in stray:
        print(f"{path.relative_to(HERE.parent)}: nothing generates this file")
    for path in stale:
        print(f"{path.relative_to(HERE.parent)}: {'stale; run make monitoring-files' if check else 'written'}")
    if stray or (check and stale):
        sys.exit(1)


if __name__ == "__main__":
    main()
