#!/usr/bin/env python3
"""Helm must refuse each entry of refused.yaml with a message that names the key.

    refused.py HELM

It installs nothing and needs no cluster.
"""

import pathlib
import subprocess
import sys
import tempfile

import yaml

TESTS = pathlib.Path(__file__).resolve().parent
CHART = TESTS.parent / "onboarding-bridge"
LEAST = 140


def rendered(helm, *files):
    values = [word for file in files for word in ("--values", str(file))]
    return subprocess.run(
        [helm, "template", "r", str(CHART), *values], capture_output=True, text=True, check=False
    )


def main():
    helm = sys.argv[1]
    cases = yaml.safe_load((TESTS / "refused.yaml").read_text())
    base = CHART / "ci" / "minimal-values.yaml"
    good = rendered(helm, base)
    if good.returncode:
        sys.exit(f"refused.py: what the cases are laid over is refused itself: {good.stderr}")
    wrong = 0
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        for case in cases:
            file.seek(0)
            file.truncate()
            yaml.safe_dump(case["values"], file)
            file.flush()
            done = rendered(helm, base, file.name)
            lacking = [words for words in case["says"] if words not in done.stderr]
            if done.returncode == 0 or lacking:
                wrong += 1
                said = done.stderr.strip() or "nothing: it was rendered"
                print(f"FAIL {case['values']}\n  lacks {lacking}\n  said {said}", file=sys.stderr)
    print(
        f"refused.py: {len(cases) - wrong} of {len(cases)} wrong values files are refused by name"
    )
    if wrong or len(cases) < LEAST:
        sys.exit(1)


main()
