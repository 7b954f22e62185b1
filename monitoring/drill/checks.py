"""What is asked when all scenarios are over: dashboards, names, the form and the number of the series."""

import json
import subprocess

import catalogue
import lint_boards
import yaml
from drill.processes import ROOT, get

# Every series of one bridge with three sinks; design and documentation say fewer than this.
SERIES_MAX = 300
VARIABLES = {
    "${datasource}": "", "$namespace": ".*", "$job": ".+", "$instance": ".+", "$sink": ".+",
    "$__rate_interval": "5m", "$__range": "5m",
}


def checks(world):
    """Everything that is wrong."""
    scrape = get(world.bridges["calm"].url + "/metrics", 20)[1]
    return [
        *(f"dashboards: {wrong}" for wrong in dashboards(world.prometheus)),
        *(f"grafana: {wrong}" for wrong in grafana(world.prometheus)),
        *(f"metrics: {wrong}" for wrong in metrics(scrape)),
        *(f"runbook: {wrong}" for wrong in commands(world)),
        *(f"alerts: {wrong}" for wrong in texts(world.alerts)),
    ]


def filled(text):
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def dashboards(prometheus):
    asked = 0
    for path in sorted((ROOT / "monitoring/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for variable in board["templating"]["list"]:
            # There is no namespace outside Kubernetes.
            if variable["type"] == "query" and variable["name"] != "namespace":
                if not prometheus.label_values(filled(variable["definition"])):
                    yield f"{path.name}: the variable {variable['name']} offers nothing"
        for panel, target in lint_boards.queries(board):
            asked += 1
            if not prometheus.has_data(filled(target["expr"])):
                yield f"{path.name}: {panel['title']}: no data: {target['expr']}"
    print(f"dashboards: {asked} queries asked")


def grafana(prometheus):
    """Prometheus understands each query of the rules for Grafana."""
    path = ROOT / "monitoring/grafana/alerting/onboarding-bridge.yaml"
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            for step in rule["data"]:
                if "expr" in step["model"]:
                    try:
                        prometheus.query(step["model"]["expr"])
                    except RuntimeError as error:
                        yield f"{rule['title']}: {error}"


def metrics(scrape):
    """The scrape of the bridge with three sinks."""
    judged = subprocess.run(["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True, check=False)
    if judged.returncode or judged.stdout.strip() or judged.stderr.strip():
        yield f"promtool check metrics: {judged.stdout}{judged.stderr}"
    lines = [line for line in scrape.splitlines() if line and not line.startswith("#")]
    print(f"metrics: {len(lines)} series with three sinks")
    if len(lines) >= SERIES_MAX:
        yield f"{len(lines)} series with three sinks, not fewer than {SERIES_MAX}"
    known, kinds, values = catalogue.metrics(), {}, {}
    for line in scrape.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            kinds[name] = kind
    for name in kinds.keys() ^ known.keys():
        yield f"{name} is {'not in docs/metrics.md' if name in kinds else 'not in the scrape'}"
    for line in lines:
        series = line.rsplit(" ", 1)[0]
        name, _, labels = series.partition("{")
        metric = catalogue.metric_of(name, known)
        for label, value in (pair.split("=", 1) for pair in labels.rstrip("}").split(",") if pair):
            if metric and label != "le":
                values.setdefault((metric.name, label), set()).add(value.strip('"'))
    for metric in known.values():
        for label, wanted in metric.labels.items():
            found = values.get((metric.name, label), set())
            if wanted is not None and set(wanted) != found:
                yield f"{metric.name}: the values of {label} are {sorted(found)}, not {sorted(wanted)}"


def commands(world):
    """Each command of each section was tried in its alert."""
    for title, section in world.sections.items():
        for command in section.commands:
            if (title, command.line) not in world.tried:
                yield f"{title}: {command.line!r} was not tried"


def texts(alerts):
    """What a person would read."""
    if alerts.failures > 5:
        yield f"Prometheus did not answer {alerts.failures} times"
    for alert, text in sorted(alerts.texts):
        if "<no value>" in text or "{{" in text or "error" in text.lower():
            yield f"{alert} reads: {text}"
