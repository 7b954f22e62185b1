"""What the dashboards are made of: rows of panels, each with a title, a description and a unit.

A query is written short: `@feed_connected` stands for the metric with the bridge's prefix and the
matchers of the variables, `@sink_state{state="halted"}` adds its own to them. It knows no panel.
"""

import re

PREFIX = "onboarding_bridge_"
MATCHERS = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


def expand(expr):
    """The query as Prometheus gets it."""

    def selector(match):
        name, own = match.group(1), match.group(3)
        matchers = MATCHERS
        if name.startswith("sink_"):
            matchers += ', sink=~"$sink"'
        if own:
            matchers += ", " + own
        prefix = "" if name.startswith("process_") else PREFIX
        return f"{prefix}{name}{{{matchers}}}"

    return re.sub(r"@([a-z_]+)(\{([^}]*)\})?", selector, expr)


def targets(queries, instant=False, **more):
    """`queries`: pairs of legend and short query."""
    return [
        {
            "datasource": DATASOURCE,
            "expr": expand(expr),
            "legendFormat": legend,
            "refId": chr(ord("A") + index),
            **({"instant": True, "range": False} if instant else {"range": True}),
            **more,
        }
        for index, (legend, expr) in enumerate(queries)
    ]


def thresholds(steps):
    """`steps`: pairs of the value from which a colour holds, the first None, and the colour."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def panel(kind, title, description, unit, made, width, height, defaults=None, options=None):
    field = {"unit": unit, **(defaults or {})}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": field, "overrides": []},
        "gridPos": {"h": height, "w": width, "x": 0, "y": 0},
        "options": options or {},
        "targets": made,
    }


def stat(title, description, unit, query, steps, width=3, mappings=None, decimals=None):
    """One figure, coloured by its thresholds."""
    defaults = {"thresholds": thresholds(steps), "color": {"mode": "thresholds"}}
    if mappings:
        defaults["mappings"] = [{"type": "value", "options": mappings}]
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "value",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("stat", title, description, unit, targets([("", query)], instant=True), width, 4, defaults, options)


def lines(title, description, unit, *queries, width=8, top=None, steps=None, bars=False):
    """Lines over time; `bars` for what happens now and then."""
    custom = {"fillOpacity": 60 if bars else 8, "lineWidth": 1, "drawStyle": "bars" if bars else "line"}
    custom["showPoints"] = "never"
    custom["thresholdsStyle"] = {"mode": "line" if steps else "off"}
    defaults = {"custom": custom, "min": 0, "color": {"mode": "palette-classic"}}
    if top is not None:
        defaults["max"] = top
    if steps:
        defaults["thresholds"] = thresholds(steps)
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, unit, targets(queries), width, 8, defaults, options)


def states(title, description, mappings, *queries, width=12):
    """Coloured bars over time, one a series."""
    defaults = {
        "custom": {"fillOpacity": 80, "lineWidth": 0},
        "mappings": [{"type": "value", "options": mappings}],
        "color": {"mode": "thresholds"},
        "thresholds": thresholds([(None, GREEN)]),
    }
    options = {"showValue": "never", "mergeValues": True, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}}
    return panel("state-timeline", title, description, "none", targets(queries), width, 8, defaults, options)


def heatmap(title, description, unit, query, width=12):
    """The buckets of a histogram over time."""
    options = {
        "calculate": False,
        "yAxis": {"unit": unit, "reverse": False},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
        "cellGap": 1,
        "tooltip": {"mode": "single", "yHistogram": False},
    }
    made = targets([("{{le}}", query)], format="heatmap")
    return panel("heatmap", title, description, unit, made, width, 8, None, options)


def table(title, description, query, columns, width=12):
    """The labels of a series, one row a series."""
    hidden = {"Time": True, "Value": True, "__name__": True}
    panel_ = panel("table", title, description, "none", targets([("", query)], instant=True, format="table"), width, 8)
    panel_["transformations"] = [
        {"id": "organize", "options": {"excludeByName": hidden, "indexByName": {name: at for at, name in enumerate(columns)}}}
    ]
    return panel_


def variable(name, label, query, every):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": every,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def variables():
    info, sinks = PREFIX + "build_info", PREFIX + "sink_lag_records"
    datasource = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
    }
    return [
        datasource,
        # Outside Kubernetes there is no namespace, so all of them include none.
        variable("namespace", "Namespace", f"label_values({info}, namespace)", ".*"),
        variable("job", "Job", f'label_values({info}{{namespace=~"$namespace"}}, job)', ".+"),
        variable("instance", "Instance", f'label_values({info}{{namespace=~"$namespace", job=~"$job"}}, instance)', ".+"),
        variable("sink", "Sink", f"label_values({sinks}{{{MATCHERS}}}, sink)", ".+"),
    ]


def board(uid, title, description, other, rows):
    """`rows`: pairs of a title and its panels, laid out from left to right."""
    panels, top = [], 0
    for row, members in rows:
        panels.append({"type": "row", "title": row, "collapsed": False, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top}, "panels": []})
        top, left, height = top + 1, 0, 0
        for member in members:
            place = member["gridPos"]
            if left + place["w"] > WIDTH:
                top, left, height = top + height, 0, 0
            member["gridPos"] = {**place, "x": left, "y": top}
            left, height = left + place["w"], max(height, place["h"])
            panels.append(member)
        top += height
    for number, member in enumerate(panels, start=1):
        member["id"] = number
    link = {"type": "link", "title": other[0], "url": f"/d/{other[1]}", "keepTime": True, "includeVars": True, "icon": "external link", "targetBlank": False}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["onboarding-bridge"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "links": [link],
        "panels": panels,
    }
