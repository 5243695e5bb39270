"""Problems of Kubernetes manifests, as messages: by the schemas, by policy, and between each other.

Kubernetes' own kinds are held to its schemas. Those of operators (ServiceMonitor, PrometheusRule, KServe's two) have
none in that package; of them only the pods, the names and the ports are looked at.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
VERSIONS = ("1.33", "1.37")
OPERATORS = {"ServiceMonitor", "PrometheusRule", "ServingRuntime", "InferenceService"}

Manifest = dict[str, Any]
# What the Pod Security Standard `restricted` allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def render(folder: Path) -> list[Manifest]:
    """Return the manifests that ``kubectl apply -k`` would send."""
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert kubectl, "kubectl comes with the extra dev"
    result = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def problems(manifests: list[Manifest]) -> list[str]:
    """Everything that is wrong."""
    found = [problem for manifest in manifests for problem in (*by_schema(json.dumps(manifest)), *by_policy(manifest))]
    return [*found, *between(manifests)]


@functools.cache  # each validation parses megabytes of schemas, and most manifests are the same in all tests
def by_schema(text: str) -> list[str]:
    """What the API server of each version would refuse or, without strict validation, drop; for a manifest in JSON."""
    manifest, found = json.loads(text), []
    if manifest["kind"] in OPERATORS:
        return found
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as exc:
            found.append(f"{manifest['kind']} in {version}: {exc.message}")
        except kubernetes_validate.SchemaNotFoundError as exc:
            found.append(str(exc.message))
    return found


def pod_of(manifest: Manifest) -> Manifest | None:
    """The pod that a manifest describes, if it does."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Deployment":
        pod: Manifest = spec["template"]["spec"]
        return pod
    return spec if manifest["kind"] == "ServingRuntime" else None


def containers(pod: Manifest) -> list[Manifest]:
    """All of them, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def by_policy(manifest: Manifest) -> Iterator[str]:
    """The Pod Security Standard ``restricted``, and what every pod of ours has in addition."""
    pod = pod_of(manifest)
    if pod is None:
        return
    yield from (f"the pod has {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", []):
        if not VOLUMES.issuperset(volume.keys() - {"name"}):
            yield f"the volume {volume['name']} is of a kind that reaches the node"
    # KServe's account is named by the service that uses the runtime.
    if manifest["kind"] == "Deployment" and pod.get("automountServiceAccountToken") is not False:
        yield "the pod is given a token of the cluster"
    for container in containers(pod):
        found = (*_rights(container, pod.get("securityContext", {})), *_limits(container))
        yield from (f"{container['name']}: {problem}" for problem in found)
    for container in pod["containers"]:
        missing = {"startupProbe", "readinessProbe", "livenessProbe"} - container.keys()
        yield from (f"{container['name']}: there is no {probe}" for probe in sorted(missing))


def _rights(container: Manifest, of_pod: Manifest) -> Iterator[str]:
    own = container.get("securityContext", {})
    context = {**of_pod, **own}
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield "it may run as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "system calls are not filtered"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "it may gain privileges"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "it has capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written"


def _limits(container: Manifest) -> Iterator[str]:
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}) or "cpu" not in resources.get("requests", {}):
        yield "what it may take is not bounded"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "it takes a port of the node"
    if not re.search(r":[\w.-]*\d[\w.-]*$|@sha256:", container["image"]):
        yield f"its image {container['image']} has no version"
    for variable in container.get("env", []):
        if re.search(r"TOKEN|PASSWORD|SECRET", variable["name"]) and "value" in variable:
            yield f"{variable['name']} is written down"


def between(manifests: list[Manifest]) -> Iterator[str]:
    """Names, labels and ports that one manifest uses and another must define."""
    by_kind: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    accounts = {account["metadata"]["name"] for account in by_kind.get("ServiceAccount", [])}
    for deployment in by_kind.get("Deployment", []):
        template = deployment["spec"]["template"]
        labels = template["metadata"]["labels"]
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        yield from _selecting(by_kind, labels, ports)
        if template["spec"]["serviceAccountName"] not in accounts:
            yield "the pod's service account is not there"
        mounts = [container.get("volumeMounts", []) for container in containers(template["spec"])]
        mounted = {mount["name"] for mounts_of_one in mounts for mount in mounts_of_one}
        if mounted != {volume["name"] for volume in template["spec"]["volumes"]}:
            yield "volumes and mounts do not go together"
    targets = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in targets:
            yield f"there is no {target['name']} to scale"
    for service in by_kind.get("InferenceService", []):
        if ("ServingRuntime", service["spec"]["predictor"]["model"]["runtime"]) not in targets:
            yield "there is no such runtime"


def _selecting(by_kind: dict[str, list[Manifest]], labels: Manifest, ports: set[str]) -> Iterator[str]:
    selectors = {
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
    }
    for kind, selector_of in selectors.items():
        for manifest in by_kind.get(kind, []):
            if not selector_of(manifest["spec"]).items() <= labels.items():
                yield f"{kind} {manifest['metadata']['name']} selects no pod"
    named = {port["targetPort"] for service in by_kind.get("Service", []) for port in service["spec"]["ports"]}
    rules = [rule for policy in by_kind.get("NetworkPolicy", []) for rule in policy["spec"]["ingress"]]
    named |= {port["port"] for rule in rules for port in rule["ports"]}
    if not named <= ports:
        yield f"no container has the ports {sorted(named - ports)}"
    services = by_kind.get("Service", [])
    for monitor in by_kind.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        scraped = [service for service in services if wanted <= service["metadata"]["labels"].items()]
        offered = [{port["name"] for port in service["spec"]["ports"]} for service in scraped]
        if len(offered) != 1 or not {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= offered[0]:
            yield "the monitor does not find its one service"
