#!/usr/bin/env python3
"""Writes strict JSON Schemas of Kubernetes' objects, one file a kind, for kubeconform.

    kube_schemas.py OUT CRD_FOLDER VERSION...

The built-in kinds come from the package kubernetes-validate, whose files refer to one file of
definitions in a way that kubeconform does not follow; each gets the definitions that it needs. The
kinds of the Prometheus Operator come from its CustomResourceDefinitions, every unknown key refused.
"""

import json
import pathlib
import sys

import kubernetes_validate
import yaml

SOURCE = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
CUSTOM = ("servicemonitors", "podmonitors", "prometheusrules")


def localised(node, needed):
    """The node with references into its own file; their names go into `needed`."""
    if isinstance(node, list):
        return [localised(item, needed) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: localised(value, needed) for key, value in node.items()}
    if isinstance(node.get("$ref"), str):
        name = node["$ref"].rsplit("/", 1)[1]
        needed.append(name)
        made["$ref"] = f"#/$defs/{name}"
    return made


def folder_of(version):
    folder = SOURCE / f"v{version}-local-strict"
    if not folder.is_dir():
        sys.exit(f"kube_schemas.py: no schemas for Kubernetes {version}")
    return folder


def known_in(folder):
    """Every definition of a version."""
    return json.loads((folder / "_definitions.json").read_text())["$defs"]


def embedded(known, todo):
    """Of the known definitions those of these names, and of all that they need."""
    made = {}
    while todo:
        name = todo.pop()
        if name not in made:
            made[name] = localised(known[name], todo)
    return made


def builtin(version, out):
    folder = folder_of(version)
    known = known_in(folder)
    for file in folder.glob("[!_]*.json"):
        schema = json.loads(file.read_text())
        if not {"apiVersion", "kind"} <= set(schema.get("properties", {})):
            continue
        todo = []
        schema = localised(schema, todo)
        (out / file.name).write_text(json.dumps({**schema, "$defs": embedded(known, todo)}))


def plain(node):
    """The node without descriptions, and without what Helm does not look at."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    noise = {"format"} | {key for key in node if key.startswith("x-kubernetes-")}
    if isinstance(node.get("description"), str):
        noise.add("description")
    return {key: plain(value) for key, value in node.items() if key not in noise}


def definitions(schema, beginning, version):
    """What a schema refers to by names that begin so, for a schema of another's own."""
    todo = []
    localised(schema, todo)
    todo = [name for name in todo if name.startswith(beginning)]
    return dict(sorted(plain(embedded(known_in(folder_of(version)), todo)).items()))


def strict(node):
    """The node with unknown keys refused, as the API server prunes them silently."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    is_free = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not is_free:
        made["additionalProperties"] = False
    return made


def custom(folder, out):
    for name in CUSTOM:
        definition = yaml.safe_load((folder / f"monitoring.coreos.com_{name}.yaml").read_text())
        kind = definition["spec"]["names"]["kind"].lower()
        for version in definition["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            (out / f"{kind}-monitoring-{version['name']}.json").write_text(json.dumps(schema))


def main():
    out, crds, versions = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    for version in versions:
        folder = out / f"v{version}-strict"
        folder.mkdir(parents=True)
        builtin(version, folder)
        custom(crds, folder)


if __name__ == "__main__":
    main()
