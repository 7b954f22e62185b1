"""Reads docs/runbook.md: its sections, whether each pages, and the commands that it shows.

A command is a line that begins with `$ ` in a block fenced as `console`; `# ends with N` behind it says
with which exit code it ends where the fault lasts. It runs nothing.
"""

import re
from dataclasses import dataclass

from catalogue import ROOT

PATH = ROOT / "docs/runbook.md"


@dataclass
class Command:
    """One line of shell, and the exit codes that are right while the alert fires."""

    line: str
    codes: tuple


@dataclass
class Section:
    """What stands under the heading of an alert."""

    title: str
    text: str
    pages: bool | None
    commands: list


def text():
    return PATH.read_text() if PATH.exists() else ""


def commands(part):
    for block in re.findall(r"^```console\n(.*?)^```", part, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                code = re.search(r"# ends with (\d+)", line)
                bare = re.sub(r"\s+#.*$", "", line[2:])
                yield Command(bare, (int(code.group(1)),) if code else (0,))


def sections():
    """The sections whose heading is an alert's name."""
    found = []
    for part in re.split(r"^## ", text(), flags=re.M)[1:]:
        title, body = part.split("\n", 1)
        if not title.startswith("OnboardingBridge"):
            continue
        pages = re.search(r"^Pages: (yes|no)\.", body, re.M)
        found.append(Section(title, body, pages and pages.group(1) == "yes", list(commands(body))))
    return found
