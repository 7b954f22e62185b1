"""Judges the dashboards by the rules of Grafana's dashboard-linter, and some of our own.

It looks at the JSON that Grafana gets, not at what made it, and changes nothing.
"""

import json
import re

import catalogue
import promql

PANELS_WITH_UNIT = {"stat", "timeseries", "table", "state-timeline", "heatmap"}
REQUIRED = {
    "uid": str, "title": str, "description": str, "tags": list, "editable": bool, "schemaVersion": int,
    "panels": list, "templating": dict, "time": dict, "refresh": str,
}
VARIABLES = ["datasource", "namespace", "job", "instance", "sink"]
ROWS = ["Promise and loss", "Process", "Feed", "Normalise", "Journal", "Sinks", "Reconcile", "Dead letters"]


def queries(board):
    """Panel and target of each query."""
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel, target


def lint(path, known):
    board = json.loads(path.read_text())
    for key, kind in REQUIRED.items():
        if not isinstance(board.get(key), kind):
            yield f"{key} is missing or no {kind.__name__}"
            return
    if board["editable"]:
        yield "it is editable"
    yield from variables(board)
    yield from layout(board)
    for panel in board["panels"]:
        if panel["type"] != "row":
            for wrong in panel_rules(panel):
                yield f"panel {panel['title']!r}: {wrong}"
    for panel, target in queries(board):
        for wrong in target_rules(panel, target, known):
            yield f"panel {panel['title']!r}: {wrong} in {target['expr']}"


def variables(board):
    found = {variable["name"]: variable for variable in board["templating"]["list"]}
    if list(found) != VARIABLES:
        yield f"its variables are {list(found)}, not {VARIABLES}"
        return
    if found["datasource"]["type"] != "datasource" or found["datasource"]["query"] != "prometheus":
        yield "the variable datasource does not choose a Prometheus"
    if found["datasource"]["label"] != "Data source":
        yield "the variable datasource is not labelled 'Data source'"
    for name in VARIABLES[1:]:
        variable = found[name]
        if variable["datasource"]["uid"] != "${datasource}":
            yield f"the variable {name} does not ask the chosen data source"
        if not (variable["multi"] and variable["includeAll"]):
            yield f"the variable {name} does not allow several and all"
        if variable["allValue"] != (".*" if name == "namespace" else ".+"):
            yield f"all of the variable {name} is {variable['allValue']!r}"


def layout(board):
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        yield "two panels have one id"
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    if rows != [row for row in ROWS if row in rows]:
        yield f"its rows {rows} are not in the order of the flow"
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        if cells & taken or place["x"] + place["w"] > 24:
            yield f"panel {panel['title']!r} lies on another or outside"
        taken |= cells


def panel_rules(panel):
    if not panel.get("title") or len(panel.get("description", "")) < 15:
        yield "it lacks a title or a description"
    if panel.get("datasource", {}).get("uid") != "${datasource}":
        yield "its data source is not the chosen one"
    if panel["type"] not in PANELS_WITH_UNIT:
        yield f"nobody has looked at panels of the type {panel['type']}"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "it has no unit"
    if not panel.get("targets"):
        yield "it asks for nothing"
    refs = [target["refId"] for target in panel.get("targets", [])]
    if len(refs) != len(set(refs)):
        yield "two queries have one refId"


def target_rules(panel, target, known):
    if target["datasource"]["uid"] != "${datasource}":
        yield "its data source is not the chosen one"
    if panel["type"] in ("timeseries", "state-timeline") and not target["legendFormat"]:
        yield "it has no legend"
    expr = target["expr"]
    yield from catalogue.wrong_names(expr, known)
    selectors, _ = promql.read(expr)
    for selector in selectors:
        given = {label: (operator, value) for label, operator, value in selector.matchers}
        wanted = ["namespace", "job", "instance"] + ["sink"] * ("_sink_" in selector.name)
        for name in wanted:
            if given.get(name) != ("=~", f"${name}"):
                yield f'{selector.name} has no matcher {name}=~"${name}"'
        is_rated = selector.function in ("rate", "increase", "irate")
        if catalogue.is_counter(selector.name, known) != is_rated:
            yield f"{selector.name} is {'' if is_rated else 'not '}inside rate or increase"
        allowed = {"$__rate_interval"} | ({"$__range"} if panel["type"] == "stat" else set())
        if selector.range is not None and selector.range not in allowed:
            yield f"the range [{selector.range}] is none of {sorted(allowed)}"
    labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    grouped = re.search(r"\bby \(([^)]*)\)", expr)
    if grouped and not labels <= {name.strip() for name in grouped.group(1).split(",")}:
        yield f"its legend names labels that the query does not keep: {sorted(labels)}"
