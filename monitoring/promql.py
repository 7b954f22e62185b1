"""Reads out of a PromQL expression which series and labels it names. It evaluates nothing.

Not a whole parser: `promtool` and Prometheus judge the syntax. This finds what they cannot know: whether
a metric, a label or a label's value exists.
"""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<range>\[[^\]]*\])
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<number>[0-9][0-9.eE]*[a-z]*)
    | (?P<operator>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>@$])""",
    re.X,
)
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


@dataclass
class Selector:
    """A metric with its matchers, the range behind it, and the function around it."""

    name: str
    function: str | None
    matchers: list = field(default_factory=list)  # (label, operator, value)
    range: str | None = None


def tokens(expr):
    at = 0
    while at < len(expr):
        match = TOKEN.match(expr, at)
        if match is None:
            raise ValueError(f"cannot read {expr[at:at + 20]!r} in {expr!r}")
        at = match.end()
        if match.lastgroup:
            yield match.lastgroup, match.group()


def read(expr):
    """The selectors of an expression, and the labels that it groups or matches by."""
    parts = [*tokens(expr), ("end", "")]
    selectors, labels, functions = [], set(), []
    at = 0
    while parts[at][0] != "end":
        kind, text = parts[at]
        following = parts[at + 1][1]
        if text == "(":
            functions.append(None)
        elif text == ")":
            functions.pop()
        elif kind == "name" and text in GROUPING:
            if following == "(":
                at += 2
                while parts[at][1] != ")":
                    labels |= {parts[at][1]} - {","}
                    at += 1
        elif kind == "name" and following == "(":
            functions.append(text)
            at += 1
        elif kind == "name" and text not in WORDS and following not in GROUPING:
            selector = Selector(text, functions[-1] if functions else None)
            if following == "{":
                at = matchers(parts, at + 2, selector)
            if parts[at + 1][0] == "range":
                at += 1
                selector.range = parts[at][1][1:-1]
            selectors.append(selector)
        at += 1
    return selectors, labels


def matchers(parts, at, selector):
    while parts[at][1] != "}":
        if parts[at][1] == ",":
            at += 1
            continue
        label, operator, value = (text for _, text in parts[at : at + 3])
        selector.matchers.append((label, operator, value[1:-1]))
        at += 3
    return at
