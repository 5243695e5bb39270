"""The Kubernetes manifests as they are sent: valid, with few rights, and fitting together; mistakes are found."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .manifests import KUBERNETES, Manifest, pod_of, problems, render
from .test_monitoring import needs_promtool

OVERLAYS = ("cpu", "gpu", "kserve")
RULE = "resnet50:queue_seconds_per_request:rate2m"
GUIDE = (KUBERNETES.parents[1] / "docs/kubernetes.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Manifest]]:
    """Overlay → its manifests."""
    return {overlay: render(KUBERNETES / "overlays" / overlay) for overlay in OVERLAYS}


def only(manifests: list[Manifest], kind: str) -> Manifest:
    """The one of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_has_no_problems(rendered: dict[str, list[Manifest]], overlay: str) -> None:
    """Schemas of two versions of Kubernetes, the standard `restricted`, and every name that another one has to have."""
    assert problems(rendered[overlay]) == []


def pod(manifests: list[Manifest]) -> Manifest:
    """The pod of the deployment."""
    return only(manifests, "Deployment")["spec"]["template"]["spec"]


MISTAKES: dict[str, Callable[[list[Manifest]], object]] = {
    "Additional properties are not allowed ('replica'": lambda m: only(m, "Deployment")["spec"].update(replica=2),
    "'ten' is not of type": lambda m: only(m, "Deployment")["spec"].update(minReadySeconds="ten"),
    "Couldn't find schema for kind HorizontalPodAutoscaler": lambda m: only(m, "HorizontalPodAutoscaler").update(
        apiVersion="autoscaling/v2beta2"
    ),
    "may run as root": lambda m: pod(m)["securityContext"].pop("runAsNonRoot"),
    "system calls": lambda m: pod(m)["securityContext"].pop("seccompProfile"),
    "gain privileges": lambda m: pod(m)["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
    "has capabilities": lambda m: pod(m)["initContainers"][0]["securityContext"].pop("capabilities"),
    "can be written": lambda m: pod(m)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
    "reaches the node": lambda m: pod(m)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "hostNetwork": lambda m: pod(m).update(hostNetwork=True),
    "not bounded": lambda m: pod(m)["containers"][0]["resources"].pop("limits"),
    "has no version": lambda m: pod(m)["containers"][0].update(image="registry.example.org/server:latest"),
    "written down": lambda m: pod(m)["containers"][0]["env"].append({"name": "RESNET_ADMIN_TOKEN", "value": "x"}),
    "no livenessProbe": lambda m: pod(m)["containers"][0].pop("livenessProbe"),
    "token of the cluster": lambda m: pod(m).pop("automountServiceAccountToken"),
    "service account is not there": lambda m: pod(m).update(serviceAccountName="other"),
    "do not go together": lambda m: pod(m)["volumes"].pop(),
    "selects no pod": lambda m: only(m, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].update(a="b"),
    "no container has the ports ['metrics']": lambda m: pod(m)["containers"][0]["ports"].pop(),
    "to scale": lambda m: only(m, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"].update(name="other"),
    "its one service": lambda m: only(m, "ServiceMonitor")["spec"]["endpoints"][0].update(port="metric"),
}


@pytest.mark.parametrize("problem", MISTAKES)
def test_problems_find_a_mistake(rendered: dict[str, list[Manifest]], problem: str) -> None:
    """Each check finds the mistake that it is there for."""
    manifests = copy.deepcopy(rendered["cpu"])
    MISTAKES[problem](manifests)
    assert any(problem in found for found in problems(manifests))


def test_probes_request_the_right_urls(rendered: dict[str, list[Manifest]]) -> None:
    """Liveness is whether the process lives, readiness an answer; nothing that overload can fail restarts a pod."""
    for overlay in OVERLAYS:
        (server,) = (pod_of(manifest)["containers"][0] for manifest in rendered[overlay] if pod_of(manifest))
        assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
        assert server["startupProbe"]["httpGet"]["path"] == "/v2/models/resnet50/ready"
        assert server["readinessProbe"]["exec"]["command"][-1] == "/opt/resnet50/healthcheck.py"


def test_gateway_calls_the_server_of_its_own_pod(rendered: dict[str, list[Manifest]]) -> None:
    """Its probes use an allowed host and do not call the server, and its keys come from a secret."""
    for overlay in ("cpu", "gpu"):
        _server, gateway = pod(rendered[overlay])["containers"]
        assert "--url=grpc://127.0.0.1:8001" in gateway["args"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert gateway[probe]["httpGet"]["path"] == "/healthz"
            assert gateway[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]
        (variable,) = gateway["env"]
        assert "secretKeyRef" in variable["valueFrom"]
        assert "volumeMounts" not in gateway


def test_pod_has_time_to_drain(rendered: dict[str, list[Manifest]]) -> None:
    """preStop, running requests and unloading fit into the grace period, and callers hear of it before the end."""
    for overlay in ("cpu", "gpu"):
        spec = pod(rendered[overlay])
        pause_s = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
        assert pause_s >= 2 * 5  # clients resolve names every five seconds
        assert spec["terminationGracePeriodSeconds"] >= pause_s + 30 + 15


def test_models_for_cpus_are_built_for_the_pods_cpus(rendered: dict[str, list[Manifest]]) -> None:
    """A network takes all cores of the node unless it is built with a number; the guide's command has it."""
    resources = pod(rendered["cpu"])["containers"][0]["resources"]
    (cpus,) = re.findall(r"models\.Dockerfile .*--server-cpus (\d+)", GUIDE)
    assert cpus == resources["limits"]["cpu"] == resources["requests"]["cpu"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_policy_lets_nothing_out(rendered: dict[str, list[Manifest]], overlay: str) -> None:
    """A server needs no other; one that is taken over reaches nothing. Only labelled clients get in."""
    policy = only(rendered[overlay], "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert {"namespaceSelector": {}, "podSelector": {"matchLabels": {"resnet50/client": "true"}}} in [
        source for rule in policy["ingress"] for source in rule["from"]
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_server_is_nvidias(rendered: dict[str, list[Manifest]], overlay: str) -> None:
    """On networks, not the wheel's older release: the watchdog starts the image's own tritonserver."""
    (server,) = (pod_of(manifest)["containers"][0] for manifest in rendered[overlay] if pod_of(manifest))
    assert server["args"][:3] == ["--default-model=resnet50", "--", "tritonserver"]
    assert "--exit-on-error=false" in server["args"]  # another model that fails does not end the server
    assert f"--model-config-name={'gpu' if overlay == 'gpu' else 'local'}" in server["args"]


def render_with(folder: Path, overlay: str, added: str) -> list[Manifest]:
    """Return the manifests of an overlay to which a user has added a key, in a copy below a folder."""
    shutil.copytree(KUBERNETES, folder / "kubernetes")
    path = folder / f"kubernetes/overlays/{overlay}/kustomization.yaml"
    settings = yaml.safe_load(path.read_text())
    for key, values in yaml.safe_load(added).items():
        settings[key] = [*settings.get(key, []), *values]
    path.write_text(yaml.safe_dump(settings))
    manifests = render(path.parent)
    assert problems(manifests) == []
    return manifests


def test_models_from_claim_replaces_the_models_image(tmp_path: Path) -> None:
    """The component replaces the image with the models by a volume, and changes nothing else."""
    manifests = render_with(tmp_path, "cpu", "components: [../../components/models-from-claim]")
    assert not pod(manifests).get("initContainers")
    claimed = next(volume for volume in pod(manifests)["volumes"] if volume["name"] == "models")
    assert claimed["persistentVolumeClaim"] == {"claimName": "resnet50-models", "readOnly": True}


def test_models_from_bucket_lets_the_storage_initializer_run(tmp_path: Path) -> None:
    """It has no security context, which `restricted` refuses, and needs the bucket and every kind of DNS."""
    manifests = render_with(tmp_path, "kserve", "components: [../../components/models-from-bucket]")
    assert only(manifests, "InferenceService")["spec"]["predictor"]["model"]["storageUri"].startswith("s3://")
    levels = only(manifests, "Namespace")["metadata"]["labels"]
    assert levels["pod-security.kubernetes.io/enforce"] == "baseline"
    bucket, dns = only(manifests, "NetworkPolicy")["spec"]["egress"]
    assert bucket == {"ports": [{"port": 443}]}
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns["to"]  # NodeLocal DNSCache
    assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}


@pytest.mark.parametrize(("overlay", "most"), [("cpu", (0, 1)), ("gpu", (1, 0))])
def test_rollout_needs_no_spare_gpu(rendered: dict[str, list[Manifest]], overlay: str, most: tuple[int, int]) -> None:
    """Where no GPU is free, a new pod would wait for ever for the end of an old one."""
    rolling = only(rendered[overlay], "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (rolling["maxUnavailable"], rolling["maxSurge"]) == most


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_autoscaler_alone_sets_the_number_of_pods(rendered: dict[str, list[Manifest]], overlay: str) -> None:
    """A number in the deployment would undo the autoscaler's at every `kubectl apply`."""
    assert only(rendered[overlay], "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
    assert "replicas" not in only(rendered[overlay], "Deployment")["spec"]


def test_inference_service_is_scaled_by_kserve(rendered: dict[str, list[Manifest]]) -> None:
    """KServe reads metric and target in the predictor only, and names the mode `Standard`."""
    service = only(rendered["kserve"], "InferenceService")
    assert service["metadata"]["annotations"] == {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "hpa",
    }
    assert (service["spec"]["predictor"]["scaleMetric"], service["spec"]["predictor"]["scaleTarget"]) == ("cpu", 70)


def test_monitors_have_the_label_of_the_helm_release(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    """kube-prometheus-stack selects by it; the patch in the guide changes it in both."""
    (patch,) = re.findall(r"```yaml\n(patches:.*?)```", GUIDE, re.DOTALL)
    patched = render_with(tmp_path, "cpu", patch)
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert only(rendered["cpu"], kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        assert only(patched, kind)["metadata"]["labels"]["release"] == "prometheus"


def test_adapter_reads_from_the_service_of_the_operator() -> None:
    """Its own default is a Prometheus in another namespace; the guide has the same address."""
    url = yaml.safe_load((KUBERNETES / "components/monitoring/adapter-values.yaml").read_text())["prometheus"]
    assert f"{url['url']}:{url['port']}" == "http://prometheus-operated.monitoring.svc:9090"
    assert f"`{url['url']}:{url['port']}`" in GUIDE


def test_rule_counts_every_preprocessing_model(rendered: dict[str, list[Manifest]]) -> None:
    """With DALI, images wait in `preprocess_check` and `preprocess_dali`."""
    (rule,) = only(rendered["cpu"], "PrometheusRule")["spec"]["groups"][0]["rules"]
    (models,) = re.findall(r'queue_duration_us\{model=~"([^"]+)"', rule["expr"])
    counted = [
        model
        for model in ("preprocess", "preprocess_check", "preprocess_dali", "network_onnx", "resnet50")
        if re.fullmatch(models, model)
    ]
    assert counted == ["preprocess", "preprocess_check", "preprocess_dali", "network_onnx"]


def test_rule_adapter_and_autoscaler_name_the_same_metric(rendered: dict[str, list[Manifest]]) -> None:
    """The rule's name is what the adapter looks for, and its name for it is what the autoscaler asks for."""
    rule = only(rendered["cpu"], "PrometheusRule")["spec"]["groups"][0]["rules"][0]
    values = yaml.safe_load((KUBERNETES / "components/monitoring/adapter-values.yaml").read_text())
    (adapted,) = values["rules"]["custom"]
    (metric,) = only(rendered["cpu"], "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert rule["record"] == RULE
    assert f'__name__="{RULE}"' in adapted["seriesQuery"]
    assert adapted["name"]["as"] == metric["pods"]["metric"]["name"]


@needs_promtool
def test_rule_measures_the_time_in_queues(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    """A pod with 10 requests a second that wait 30 ms each has 0.03; an idle one has 0, not nothing."""
    rules = only(rendered["cpu"], "PrometheusRule")["spec"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    series = {
        'nv_inference_request_success{model="resnet50",%s}': 150,
        'nv_inference_queue_duration_us{model="preprocess",%s}': 1_500_000,
        'nv_inference_queue_duration_us{model="network_onnx",%s}': 3_000_000,
    }
    labels = {pod_name: f'namespace="resnet50",pod="{pod_name}"' for pod_name in ("busy", "idle")}
    inputs = [
        {"series": name % labels[pod_name], "values": f"0+{each * (pod_name == 'busy')}x40"}
        for pod_name in labels
        for name, each in series.items()
    ]
    expected = [
        {"labels": f"{RULE}{{{labels[pod_name]}}}", "value": value} for pod_name, value in (("busy", 0.03), ("idle", 0))
    ]
    case = {"interval": "15s", "input_series": inputs}
    case["promql_expr_test"] = [{"expr": RULE, "eval_time": "5m", "exp_samples": expected}]
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [case]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    command = ["promtool", "test", "rules", "test.yml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
