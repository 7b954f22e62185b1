#!/usr/bin/env python3
"""Judges alerts, their tests, the runbook and the dashboards: lint.py

- every metric, label and label value that they name exists in docs/metrics.md;
- alerts have the form that alerts.yaml promises, and Grafana's rules are the same alerts;
- each alert has a test in which it fires and, in the same case, does not;
- each alert has its section of docs/runbook.md, in the same order, and each section its alert;
- the dashboards keep the rules of lint_boards.py;
- what docker-compose.yml mounts is there.

It says everything that is wrong and ends with 1, or says what it looked at. It writes nothing. Needs
PyYAML.
"""

import re
import sys

import yaml

import catalogue
import lint_boards
import runbook
from catalogue import ROOT

PREFIX = "OnboardingBridge"
GROUPS = ["promise", "feed", "normalise", "journal", "sinks", "reconcile", "dead-letters"]
HERE = ROOT / "monitoring"


def alert_rules(known):
    names = [group["name"] for group in catalogue.groups()]
    if names != [f"onboarding-bridge.{name}" for name in GROUPS]:
        yield f"alerts.yaml: its groups {names} are not those of the flow"
    seen = set()
    for rule in catalogue.alerts():
        for wrong in alert_rule(rule, known):
            yield f"alerts.yaml: {rule['alert']}: {wrong}"
        if rule["alert"] in seen:
            yield f"alerts.yaml: {rule['alert']} is there twice"
        seen.add(rule["alert"])


def alert_rule(rule, known):
    if not re.fullmatch(PREFIX + r"([A-Z][a-z]+)+", rule["alert"]):
        yield "its name is not in CamelCase after the prefix"
    if rule["labels"].keys() != {"severity"} or rule["labels"]["severity"] not in ("critical", "warning"):
        yield "its only label is a severity, critical or warning"
    notes = rule["annotations"]
    if notes.keys() != {"summary", "description", "runbook_url"}:
        yield f"its annotations are {sorted(notes)}"
        return
    if "{{" in notes["summary"] or not notes["summary"].endswith("."):
        yield "its summary is not one fixed sentence"
    if "{{ $labels." not in notes["description"]:
        yield "its description does not say which"
    if not notes["runbook_url"].endswith("/docs/runbook.md#" + rule["alert"].lower()):
        yield "its runbook_url does not lead to its section"
    yield from catalogue.wrong_names(rule["expr"], known)


def grafana_rules():
    path = HERE / "grafana/alerting/onboarding-bridge.yaml"
    rules = [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    for rule, ours in zip(rules, catalogue.alerts(), strict=True):
        steps = {step["refId"]: step for step in rule["data"]}
        same = (
            rule["title"] == ours["alert"]
            and steps["A"]["model"]["expr"] == ours["expr"]
            and rule["for"] == ours.get("for", "0s")
            and rule["keepFiringFor"] == ours.get("keep_firing_for", "0s")
            and rule["labels"] == ours["labels"]
            and rule["condition"] == "C"
        )
        if not same:
            yield f"{path.name}: {rule['title']} is not the alert of the source"
        if len(rule["uid"]) > 40 or not re.fullmatch(r"[a-z0-9-]+", rule["uid"]):
            yield f"{path.name}: {rule['uid']} is no uid that Grafana takes"
        if "$value " in rule["annotations"]["description"]:
            yield f"{path.name}: {rule['title']}: $value means something else to Grafana"


def alert_tests(known):
    fired, silent = set(), set()
    for path in sorted((HERE / "tests").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for series in case["input_series"]:
                for wrong in catalogue.wrong_names(series["series"], known):
                    yield f"tests/{path.name}: {case['name']}: {wrong}"
            firing = [
                set(re.findall(r'alertname="(\w+)"', str(look["exp_samples"])))
                for look in case.get("promql_expr_test", [])
            ]
            fired |= set().union(*firing)
            silent |= {name for names in firing for name in names if any(name not in other for other in firing)}
    for rule in catalogue.alerts():
        for what, names in (("fires", fired), ("stays silent in a case in which it also fires", silent)):
            if rule["alert"] not in names:
                yield f"tests: no test in which {rule['alert']} {what}"


def runbook_rules(known):
    sections = runbook.sections()
    ours = [rule["alert"] for rule in catalogue.alerts()]
    if [section.title for section in sections] != ours:
        missing, strange = set(ours) - {s.title for s in sections}, {s.title for s in sections} - set(ours)
        yield f"runbook.md: sections and alerts differ: missing {sorted(missing)}, strange {sorted(strange)}, or in another order"
    pages = {rule["alert"]: rule["labels"]["severity"] == "critical" for rule in catalogue.alerts()}
    for section in sections:
        if section.pages != pages.get(section.title):
            yield f"runbook.md: {section.title}: it does not say rightly whether it pages"
        if not section.commands:
            yield f"runbook.md: {section.title}: it has no command"
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            if part not in section.text:
                yield f"runbook.md: {section.title}: it lacks {part}"
    for name in re.findall(r"`onboarding_bridge_(\w+)`|`(\w+_(?:total|seconds|bytes))`", runbook.text()):
        name = "onboarding_bridge_" + (name[0] or name[1])
        if not catalogue.metric_of(name, known):
            yield f"runbook.md: there is no metric {name}"


def compose_mounts():
    """Compose itself would make a folder of what is missing, and not complain."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and not (ROOT / source).exists():
                yield f"docker-compose.yml: {name} mounts {source}, which is not there"


def board_rules(known):
    paths = sorted((HERE / "dashboards").glob("*.json"))
    if len(paths) != 2:
        yield f"dashboards: {len(paths)} files"
    for path in paths:
        for wrong in lint_boards.lint(path, known):
            yield f"dashboards/{path.name}: {wrong}"


def main():
    known = catalogue.metrics()
    wrong = [
        *alert_rules(known),
        *grafana_rules(),
        *alert_tests(known),
        *runbook_rules(known),
        *board_rules(known),
        *compose_mounts(),
    ]
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(1)
    print(f"{len(known)} metrics, {len(catalogue.alerts())} alerts with tests and runbook, 2 dashboards: nothing is wrong")


if __name__ == "__main__":
    main()
