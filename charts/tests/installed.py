#!/usr/bin/env python3
"""Installs the chart into a real API server, for each values file: ci/ and docs/kubernetes.md.

    installed.py --helm HELM --apiserver PROGRAM --crds FOLDER

Each gets a namespace that enforces the restricted Pod Security Standard, and is installed, upgraded to
itself, rolled back and uninstalled. The pod of each StatefulSet, which a controller would make, and that
of `helm test` must be admitted there. What docs/kubernetes.md says of an upgrade that Kubernetes refuses
is tried. Nothing runs: there is no kubelet.
"""

import argparse
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml
from kubernetes import Server
from rendered import CHART, examples

MONITORING = ("servicemonitors", "podmonitors", "prometheusrules")
RELEASE = "bridge"


def must(done, what):
    if done.returncode:
        sys.exit(f"installed.py: {what}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Cluster:
    def __init__(self, server, helm):
        self.server, self.helm = server, helm

    def run_helm(self, *words):
        environment = {**os.environ, "KUBECONFIG": str(self.server.kubeconfig)}
        command = [self.helm, *map(str, words)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )

    def get(self, namespace, kinds):
        done = self.server.kubectl("-n", namespace, "get", kinds, "-o", "json")
        return json.loads(must(done, f"get {kinds}"))["items"]

    def admitted(self, namespace, pod):
        """What the API server says of this pod, which it does not keep."""
        words = ("-n", namespace, "create", "--dry-run=server", "-f", "-")
        return self.server.kubectl(*words, given=pod)


def pod_of(stateful):
    """The first pod of a StatefulSet, with its claims, as its controller would make it."""
    spec = copy.deepcopy(stateful["spec"]["template"]["spec"])
    for claim in stateful["spec"].get("volumeClaimTemplates", []):
        name = claim["metadata"]["name"]
        claimed = {"claimName": f"{name}-{stateful['metadata']['name']}-0"}
        spec.setdefault("volumes", []).append({"name": name, "persistentVolumeClaim": claimed})
    metadata = {"name": f"{stateful['metadata']['name']}-0"}
    metadata.update(
        {
            key: value
            for key, value in stateful["spec"]["template"]["metadata"].items()
            if key in ("labels", "annotations")
        }
    )
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def tests_of(cluster, namespace):
    hooks = must(cluster.run_helm("get", "hooks", RELEASE, "-n", namespace), "helm get hooks")
    return [pod for pod in yaml.safe_load_all(hooks) if pod]


def life(cluster, namespace, values):
    """From the install to the uninstall; how many StatefulSets and pods of tests there were."""
    at = ("-n", namespace)
    must(cluster.run_helm("install", RELEASE, CHART, *at, "-f", values), f"install {values.name}")
    sets = cluster.get(namespace, "statefulsets")
    assert sets, "no StatefulSet was stored"
    tests = tests_of(cluster, namespace)
    for pod in [*map(pod_of, sets), *tests]:
        must(cluster.admitted(namespace, pod), f"the pod {pod['metadata']['name']}")
    must(cluster.run_helm("upgrade", RELEASE, CHART, *at, "-f", values), "upgrade")
    again = cluster.get(namespace, "statefulsets")
    for before, after in zip(sets, again, strict=True):
        same = before["metadata"]["generation"] == after["metadata"]["generation"]
        assert same, "an upgrade to the same values would start the bridge anew"
    must(cluster.run_helm("rollback", RELEASE, "1", *at), "rollback")
    must(cluster.run_helm("uninstall", RELEASE, *at), "uninstall")
    for kind in ("statefulsets", "services", "configmaps", "networkpolicies", "serviceaccounts"):
        left = [
            found["metadata"]["name"]
            for found in cluster.get(namespace, kind)
            if found["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == RELEASE
        ]
        assert not left, f"uninstall leaves {kind} {left}"
    return len(sets), len(tests)


def refusals(cluster, namespace, values):
    """What the API server must refuse; without these the rest could pass with a server that takes all."""
    at = ("-n", namespace)
    must(cluster.run_helm("install", RELEASE, CHART, *at, "-f", values), "install")
    stateful = cluster.get(namespace, "statefulsets")[0]
    pod = pod_of(stateful)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    said = cluster.admitted(namespace, pod)
    assert said.returncode and "violates PodSecurity" in said.stderr, said.stdout + said.stderr

    change = ("--set", "persistence.storageClass=another")
    said = cluster.run_helm("upgrade", RELEASE, CHART, *at, "-f", values, *change)
    assert said.returncode and "field is immutable" in said.stderr, said.stdout + said.stderr
    after = cluster.get(namespace, "statefulsets")[0]
    assert after["spec"] == stateful["spec"], "a refused upgrade has changed something"

    # The way that docs/kubernetes.md shows for another template of the claim.
    name = stateful["metadata"]["name"]
    orphan = ("delete", "statefulset", name, "--cascade=orphan", "--wait=false")
    must(cluster.server.kubectl(*at, *orphan), "delete --cascade=orphan")
    # What the garbage collector does once the pods are orphans, which runs here no more than they do.
    collected = ("patch", "statefulset", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    must(cluster.server.kubectl(*at, *collected), "the collector's part")
    larger = ("--set", "persistence.size=40Gi")
    must(cluster.run_helm("upgrade", RELEASE, CHART, *at, "-f", values, *larger), "a larger claim")
    claim = cluster.get(namespace, "statefulsets")[0]["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["resources"]["requests"]["storage"] == "40Gi", claim

    wrong = "extraObjects[0].apiVersion=v1,extraObjects[0].kind=Service"
    wrong += ",extraObjects[0].metadata.name=x,extraObjects[0].spec.ports[0].port=70000"
    words = (*larger, "--set", wrong)
    said = cluster.run_helm("upgrade", RELEASE, CHART, *at, "-f", values, *words)
    assert said.returncode and "70000" in said.stderr, said.stdout + said.stderr


def main():
    parser = argparse.ArgumentParser()
    for name in ("helm", "apiserver", "crds"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    with Server(options.apiserver) as server, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(server, options.helm)
        for name in MONITORING:
            path = pathlib.Path(options.crds) / f"monitoring.coreos.com_{name}.yaml"
            must(server.kubectl("create", "-f", path), f"the definition of {name}")
            wait = ("wait", "--for=condition=Established", "--timeout=60s")
            must(server.kubectl(*wait, f"crd/{name}.monitoring.coreos.com"), f"waiting for {name}")
        # What values files name.
        must(server.kubectl("create", "priorityclass", "high", "--value=1000"), "a priority class")
        must(server.kubectl("create", "namespace", "monitoring"), "a namespace")
        every = [*sorted((CHART / "ci").glob("*-values.yaml")), *examples(pathlib.Path(folder))]
        sets = tests = 0
        for number, values in enumerate([every[0], *every]):
            namespace = f"n{number}"
            label = {"pod-security.kubernetes.io/enforce": "restricted"}
            wanted = {"apiVersion": "v1", "kind": "Namespace"}
            wanted["metadata"] = {"name": namespace, "labels": label}
            must(server.kubectl("create", "-f", "-", given=wanted), "a namespace")
            if number == 0:
                refusals(cluster, namespace, values)
                continue
            try:
                found = life(cluster, namespace, values)
            except AssertionError as wrong:
                sys.exit(f"installed.py: {values.name}: {wrong}")
            sets, tests = sets + found[0], tests + found[1]
    print(
        f"installed.py: {len(every)} values files installed, upgraded, rolled back and uninstalled; "
        f"{sets} pods of bridges and {tests} of tests admitted by the restricted standard"
    )


if __name__ == "__main__":
    main()
