"""What there is: the metrics of docs/metrics.md, which is generated from the code, and the alerts.

It reads files of the repository and judges an expression against them; it runs nothing. Needs PyYAML.
"""

import pathlib
import re
from dataclasses import dataclass

import yaml

import promql

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What Prometheus and its operator add to every series of a target.
TARGET_LABELS = {"job", "instance", "namespace", "pod"}
# Not of the bridge: what Prometheus says of a target, and of alerts.
FOREIGN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass
class Metric:
    """`labels`: each with its possible values, or None where the configuration has them."""

    name: str
    kind: str
    labels: dict


def metrics(path=ROOT / "docs/metrics.md"):
    """The metrics by name, read from the table of the document."""
    found = {}
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not re.fullmatch(r"`[a-z_]+`", cells[0]) or len(cells) < 4:
            continue
        name, kind, labels = cells[0].strip("`"), cells[1], {}
        for label in cells[2].split("<br>"):
            match = re.fullmatch(r"`([a-z_]+)`(?:: (.*))?", label.strip())
            if match:
                labels[match.group(1)] = match.group(2).split(", ") if match.group(2) else None
        found[name] = Metric(name, kind, labels)
    if len(found) < 40:
        raise ValueError(f"{path}: only {len(found)} metrics were found; has its form changed?")
    return found


def metric_of(name, known):
    """The metric that a series name belongs to."""
    if name in known:
        return known[name]
    for suffix in SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and base in known and known[base].kind == "histogram":
            return known[base]
    return None


def is_counter(name, known):
    metric = metric_of(name, known)
    return metric is not None and (metric.kind == "counter" or metric.name != name)


def wrong_names(expr, known):
    """What an expression names that does not exist."""
    selectors, grouped = promql.read(expr)
    grouping = set(TARGET_LABELS)
    for selector in selectors:
        if selector.name in FOREIGN:
            labels = dict.fromkeys(FOREIGN[selector.name])
        elif metric := metric_of(selector.name, known):
            labels = dict(metric.labels)
            if selector.name.endswith("_bucket"):
                labels["le"] = None
        else:
            yield f"there is no metric {selector.name}"
            continue
        grouping |= labels.keys()
        for label, operator, value in selector.matchers:
            if label in TARGET_LABELS or selector.name == "ALERTS":
                continue
            if label not in labels:
                yield f"{selector.name} has no label {label}"
            elif labels[label] is not None and not value.startswith("$"):
                wanted = value.split("|") if "~" in operator else [value]
                for one in set(wanted) - set(labels[label]):
                    yield f"{selector.name} has no {label}={one!r}"
    for label in grouped - grouping:
        yield f"no series of the expression has the label {label}"


def groups(path=ROOT / "monitoring/alerts.yaml"):
    return yaml.safe_load(path.read_text())["groups"]


def alerts(path=ROOT / "monitoring/alerts.yaml"):
    """Every rule, in order."""
    return [rule for group in groups(path) for rule in group["rules"]]
