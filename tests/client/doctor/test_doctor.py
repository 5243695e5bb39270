"""The doctor on the real server: no findings on the default repository, and each fault of a changed one is found."""

import json
from pathlib import Path

import pytest
from resnet_client.__main__ import main
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer
from resnet_serve.config import APIS
from tritonclient import http as triton

RAISES = """
class TritonPythonModel:
    def execute(self, requests):
        raise RuntimeError("the worker is broken")
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command; returns exit code, standard output and standard error."""

    def run(url, *options, token=""):
        monkeypatch.setenv("RESNET_ADMIN_TOKEN", token)
        code = main(["doctor", url, *options])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def report(run):

    def report(url, *options, token=""):
        code, output, errors = run(url, "--json", *options, token=token)
        assert errors == ""
        return code, json.loads(output)

    return report


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("model", "given", "findings", "not_checked"),
    [
        ("resnet50", None, [], []),
        ("network_onnx", None, [], []),  # takes pixels
        ("resnet34", None, [("not-ready", "resnet34")], []),  # is not served
        ("resnet50", "", [], ["version-not-loaded"]),
        ("resnet50", "wrong", [("token-refused", "{url}")], ["version-not-loaded"]),
    ],
)
def test_doctor_checks_the_default_repository(server, report, protocol, model, given, findings, not_checked):  # noqa: PLR0917
    """With the server's token, without one, and with another; what needs it is not checked, and it is not shown."""
    url, token = getattr(server, f"{protocol}_url"), server.admin_token if given is None else given
    code, found = report(url, "--metrics-url", server.metrics_url, "--model", model, token=token)
    expected = [(check, subject.format(url=url)) for check, subject in findings]
    assert [(finding["check"], finding["subject"]) for finding in found["findings"]] == expected
    assert code == (1 if findings else 0)
    assert list(found["not_checked"]) == not_checked
    assert token or "--admin-token" in found["not_checked"]["version-not-loaded"]
    assert not token or token not in json.dumps(found)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_doctor_fails_on_an_unreachable_server(free_port, protocol, run):
    """Exit code 3, a message, no report."""
    code, output, errors = run(f"{protocol}://127.0.0.1:{free_port}", "--json")
    assert (code, output) == (3, "")
    assert "cannot be reached" in errors


FAULTS = {
    "server": ("open-admin-api",),
    "metrics": ("no-metrics",),
    "preprocess": ("queue-limit",),
    "network_onnx": (
        "version-not-loaded",
        "preprocessing-config",  # does not match its hash
        "no-dynamic-batching",
        "queue-limit",
        "no-warmup",
    ),
    "resnet50": ("labels", "preprocessing-config"),  # incomplete; differs from the network's
    "resnet50_broken": ("not-ready", "preprocessing-config"),
    "broken_step": ("preprocessing-config", "queue-limit"),  # missing
}


def remove_queue_limit(config):
    del config.parameters["max_queue_size"]


def edit_network(config):
    """Turn dynamic batching off and edit the preprocessing config."""
    config.ClearField("dynamic_batching")
    config.parameters["preprocessing"].string_value = config.parameters["preprocessing"].string_value.replace(
        "224", "200"
    )


def remove_parameters(config):
    for parameter in list(config.parameters):
        del config.parameters[parameter]


def call_broken_step(config):
    config.ensemble_scheduling.step[0].model_name = "broken_step"


@pytest.fixture(scope="module")
def faulty(repository_copy):
    folder: Path = repository_copy.folder
    models = [
        ("preprocess", "", remove_queue_limit),
        ("preprocess", "broken_step", remove_parameters),
        ("network_onnx", "", edit_network),
        ("resnet50", "", None),
        ("resnet50", "resnet50_broken", call_broken_step),
    ]
    for model, name, change in models:
        repository_copy.add(model, name, change)
    replace(folder / "resnet50/labels.txt", lambda labels: "\n".join(labels.splitlines()[:990]) + "\n")
    replace(folder / "broken_step/1/model.py", lambda _: RAISES)
    config = ServerConfig(folder, models=ALL_MODELS, port=0, open_apis=APIS, triton_args=("--allow-metrics=false",))
    with TritonServer(config) as server:
        load_damaged_version(server, folder)
        yield server


def replace(path, change):
    """Change a file of the copy, which is a hard link to the original."""
    text = path.read_text()
    path.unlink()
    path.write_text(change(text))


def load_damaged_version(server, folder):
    """Try to load a new version of the network; the old one stays."""
    (folder / "network_onnx/2").mkdir()
    (folder / "network_onnx/2/model.onnx").write_bytes(b"damaged")
    address = server.http_url.removeprefix("http://")
    with (
        triton.InferenceServerClient(address, network_timeout=60) as client,
        pytest.raises(triton.InferenceServerException),
    ):
        client.load_model("network_onnx")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_doctor_finds_every_fault_of_a_changed_repository(faulty, protocol, report):
    """Each fault is found where it is, with its fix, and nothing else is found."""
    url = getattr(faulty, f"{protocol}_url")
    code, found = report(url, "--metrics-url", faulty.metrics_url)
    names = {url: "server", faulty.metrics_url: "metrics"}
    findings = [(names.get(f["subject"], f["subject"]), f["check"]) for f in found["findings"]]
    assert code == 1
    assert sorted(findings) == sorted((subject, check) for subject, checks in FAULTS.items() for check in checks)
    assert all(finding["problem"] and finding["fix"] for finding in found["findings"])


def test_doctor_prints_findings_as_text(faulty, run):
    """Without --json each finding has two lines; an ignored check is listed as such."""
    code, output, _ = run(faulty.http_url, "--metrics-url", "none", "--ignore", "open-admin-api")
    assert code == 1
    assert "error\tresnet50: 10 of 1000 classes have no label  [labels]\n\tfix: " in output
    assert "a test image fails: " in output
    assert "[open-admin-api]" not in output
    assert "not checked\topen-admin-api: ignored (--ignore)\n" in output
    assert "not checked\tno-metrics, gpu-idle: skipped (--metrics-url none)\n" in output
    assert output.count("\n\tfix: ") == sum(map(len, FAULTS.values())) - 2
