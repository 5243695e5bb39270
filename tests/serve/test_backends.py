"""The Python backends: what they read of a config, how they compute, and how instances share the cores."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil
import pytest
import tritonclient.grpc as triton
from google.protobuf import json_format, text_format
from resnet_client.instance_groups import set_instance_count
from resnet_serve import ServerConfig, ServerError, TritonServer
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from .conftest import TritonModelException, add_network
from .small_network import config as network_config
from .small_network import network

NAMES = ["PROBABILITIES__0", "FEATURES__1"]


def pixels(count: int) -> np.ndarray:
    """Noise in the shape of preprocessed images."""
    return np.random.default_rng(count).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def infer(url: str, model: str, batch: np.ndarray, outputs: list[str]) -> triton.InferResult:
    """Request outputs of Triton directly."""
    with triton.InferenceServerClient(url.removeprefix("grpc://")) as client:
        tensor = triton.InferInput("PIXELS__0", batch.shape, "UINT8")
        tensor.set_data_from_numpy(batch)
        return client.infer(model, [tensor], outputs=[triton.InferRequestedOutput(name) for name in outputs])


@pytest.mark.parametrize("model", ["network_onnx", "network_torchscript"])
def test_execute_returns_the_requested_outputs(all_models: TritonServer, model: str) -> None:
    """Features alone, probabilities alone, or both."""
    for outputs in (["FEATURES__1"], ["PROBABILITIES__0"], NAMES):
        answer = infer(all_models.grpc_url, model, pixels(2), outputs).get_response()
        assert sorted(output.name for output in answer.outputs) == sorted(outputs)


def test_both_networks_compute_the_same(all_models: TritonServer) -> None:
    """ONNX Runtime and TorchScript differ by less than the parity gate allows; Triton itself refuses other shapes."""
    scores, script = (
        infer(all_models.grpc_url, model, pixels(3), NAMES) for model in ("network_onnx", "network_torchscript")
    )
    assert np.abs(scores.as_numpy(NAMES[0]) - script.as_numpy(NAMES[0])).max() < 1e-4
    assert scores.as_numpy(NAMES[1]).shape == (3, 2048)
    assert np.allclose(scores.as_numpy(NAMES[0]).sum(axis=1), 1, atol=1e-4)
    with pytest.raises(InferenceServerException, match="unexpected shape"):
        infer(all_models.grpc_url, "network_onnx", pixels(1)[:, :100], NAMES)


BAD_PARAMETERS = {
    "onnx_threads": ("onnxruntime", "intra_op_thread_count", "many"),
    "onnx_arena": ("onnxruntime", "enable_mem_arena", "perhaps"),
    "torch_threads": ("pytorch", "INTRA_OP_THREAD_COUNT", "many"),
    "torch_optimized": ("pytorch", "DISABLE_OPTIMIZED_EXECUTION", "perhaps"),
    "openvino_threads": ("openvino", "INFERENCE_NUM_THREADS", "many"),
    "openvino_streams": ("openvino", "NUM_STREAMS", "several"),
    "openvino_hint": ("openvino", "PERFORMANCE_HINT", "haste"),
    "openvino_bf16": ("openvino", "HINT_BF16", "maybe"),
}


def initialize(
    import_backend: Callable[[str], Any],
    folder: Path,
    backend: str,
    instances: int = 1,
    group: int = 0,
    **parameters: str,
) -> Any:
    """Load a network as Triton has a worker do it: the first of a group of instances."""
    text = network_config("any", backend=backend, instances=instances, **parameters)
    made = text_format.Parse(text, pb.ModelConfig())
    for number, named in enumerate(made.instance_group):
        named.name = f"any_{number}"  # as Triton does
    config = json_format.MessageToJson(made, preserving_proto_field_name=True)
    arguments = {"model_config": config, "model_repository": str(folder), "model_version": "1"}
    arguments |= {"model_instance_kind": "CPU", "model_instance_name": f"any_{group}_0"}
    model = import_backend(backend).TritonPythonModel()
    model.initialize(arguments)
    return model


@pytest.mark.parametrize("case", BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_load_refuses_parameters_that_make_no_sense(
    import_backend: Callable[[str], Any], tmp_path: Path, case: tuple[str, str, str]
) -> None:
    """Each is named, so the key is read."""
    backend, key, value = case
    add_network(tmp_path, "any")
    with pytest.raises(TritonModelException, match=f"(?i){value}"):
        initialize(import_backend, tmp_path / "any", backend, **{key: value})


def test_load_refuses_damaged_torchscript(import_backend: Callable[[str], Any], tmp_path: Path) -> None:
    """With its path and the reason of torch; it is ONNX."""
    add_network(tmp_path, "any")
    with pytest.raises(TritonModelException, match=r"any/1/model.onnx cannot be loaded: \S"):
        initialize(import_backend, tmp_path / "any", "pytorch")


def test_start_is_refused_with_a_damaged_artifact(tmp_path: Path) -> None:
    """With its path, the engine's reason, and what helps."""
    add_network(tmp_path, "any")
    (tmp_path / "any/1/model.onnx").write_bytes(network()[:1000])
    message = r"(?s)^an artifact is damaged.*run resnet-build.*any/1/model.onnx cannot be loaded: \S"
    with pytest.raises(ServerError, match=message):
        TritonServer(ServerConfig(tmp_path, port=0)).start()


def on_openvino(instances: int = 1, **parameters: str) -> Callable[[pb.ModelConfig], None]:
    """Have OpenVINO serve the FP32 network."""

    def change(config: pb.ModelConfig) -> None:
        config.backend, config.platform, config.default_model_filename = "openvino", "", "model.onnx"
        config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_CPU
        set_instance_count(config, instances)
        for name, value in parameters.items():
            config.parameters[name].string_value = value

    return change


KEYS = {"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1", "PERFORMANCE_HINT": "latency", "ENABLE_BATCH_PADDING": "YES"}


@pytest.fixture(scope="module")
def openvino(repository_copy: Any) -> Iterator[TritonServer]:
    """The real network on OpenVINO, with all keys and with two instances."""
    repository_copy.add("network_onnx", "openvino_keys", on_openvino(**KEYS))
    repository_copy.add("network_onnx", "openvino_instances", on_openvino(instances=2))
    with TritonServer(ServerConfig(repository_copy.folder, port=0)) as running:
        yield running


@pytest.mark.parametrize("model", ["openvino_keys", "openvino_instances"])
def test_openvino_computes_the_same(server: TritonServer, openvino: TritonServer, model: str) -> None:
    """At any batch size, with all of its keys, and with several instances."""

    def difference(batch: np.ndarray) -> float:
        got, expected = (
            infer(openvino.grpc_url, model, batch, NAMES),
            infer(server.grpc_url, "network_onnx", batch, NAMES),
        )
        return max(float(np.abs(got.as_numpy(name) - expected.as_numpy(name)).max()) for name in NAMES)

    with ThreadPoolExecutor(4) as callers:
        assert max(callers.map(difference, [pixels(count) for count in (1, 3, 2, 1)])) < 1e-3


@pytest.mark.parametrize(
    "case",  # cores, quota, instances, number in the config; threads
    [
        (64, 64, 1, 0, 0),  # all
        (64, 4, 1, 0, 4),
        (64, 4, 2, 0, 2),
        (64, 1, 2, 0, 1),
        (8, 8, 2, 0, 4),
        (1, 1, 2, 0, 0),
        (64, 4, 2, 8, 8),
    ],
)
def test_instances_share_the_quota_of_the_container(
    import_backend: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[int, ...]
) -> None:
    """A number in the config takes precedence; 0 lets the library use all cores."""
    cores, quota, instances, given, threads = case
    backend = import_backend("network_backend")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(backend, "available_cpus", lambda: quota)
    (tmp_path / "1").mkdir()
    (tmp_path / "1/model.onnx").touch()
    config = {
        "input": [],
        "output": [],
        "max_batch_size": 1,
        "instance_group": [{"count": instances}],
        "parameters": {"intra_op_thread_count": {"string_value": str(given)}},
    }
    arguments = {"model_config": json.dumps(config), "model_repository": str(tmp_path), "model_version": "1"}
    found = backend.ModelConfig(arguments | {"model_instance_kind": "CPU"}, default_filename="model.onnx")
    assert found.threads("intra_op_thread_count") == threads


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_first_instance_can_use_all_threads(
    import_backend: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str
) -> None:
    """It computes the same with its share, while another instance computes."""
    monkeypatch.setattr(import_backend("network_backend"), "available_cpus", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    add_network(tmp_path, "any")
    cases = ((1, 0), (2, 0), (2, 1))  # instances, group
    single, first, second = (initialize(import_backend, tmp_path / "any", backend, *case) for case in cases)

    def threads(model: Any) -> int:
        run = model.with_threads(lambda threads: lambda *_: threads, "threads")
        return int(run({}, []))

    def answer(model: Any) -> np.ndarray:
        return model.run({"PIXELS__0": pixels(2)}, NAMES[:1])[NAMES[0]].copy()

    assert [threads(model) for model in (single, first, second)] == [4, 4, 2]
    expected = answer(single)
    assert np.allclose([answer(first), answer(second)], expected, atol=1e-5)
    second.run.__self__.begin()
    assert threads(first) == 2
    assert np.allclose(answer(first), expected, atol=1e-5)


def test_first_instance_takes_a_single_callers_batches(serving: Callable[..., Any], tmp_path: Path) -> None:
    """The others, whose weights would be gone from the cache, wait until it is busy; then they compute, too."""
    add_network(tmp_path / "repository", "any", instances=2)
    with serving(tmp_path / "repository") as running:
        workers = {worker.cmdline()[-2]: worker for worker in map(psutil.Process, running.workers)}

        def woken(callers: int) -> tuple[int, int]:
            """How often each instance waited for its next batch, during 200 calls."""
            before = {name: worker.num_ctx_switches().voluntary for name, worker in workers.items()}
            with ThreadPoolExecutor(callers) as pool:
                list(pool.map(lambda _: infer(running.url("gRPC"), "any", pixels(1), NAMES[:1]), range(200)))
            first, second = (workers[f"any_{n}_0"].num_ctx_switches().voluntary - before[f"any_{n}_0"] for n in (0, 1))
            return first, second

        first, second = woken(callers=1)
        assert first > 10 * second
        assert woken(callers=8)[1] > 20


def test_shared_threads_are_all_taken_while_no_other_instance_computes(
    import_backend: Callable[[str], Any], tmp_path: Path
) -> None:
    """The lock ends with the batch, also with one that fails."""
    artifact = tmp_path / "model.onnx"
    artifact.touch()
    module = import_backend("shared_threads")

    def instance(during: Callable[[], Any] = lambda: None) -> Callable[[], dict[str, Any]]:
        shared = module.SharedThreads(
            artifact, *(lambda *_, name=name: {"threads": name, "meanwhile": during()} for name in ("share", "all"))
        )
        return lambda: shared.run({}, [])

    second = instance()
    first = instance(during=lambda: [second()["threads"] for _ in range(2)])
    assert first() == {"threads": "all", "meanwhile": ["share", "share"]}
    assert instance(during=first)()["meanwhile"]["threads"] == "share"
    failing = instance(during={}.popitem)
    with pytest.raises(KeyError):
        failing()
    assert second()["threads"] == "all"


def test_session_per_size_answers_as_the_batch_itself(import_backend: Callable[[str], Any]) -> None:
    """Rows that fill a batch up reach no caller, and no session sees two sizes: there are six up to batches of 32."""
    sizes: list[set[int]] = []

    class Session(ort.InferenceSession):
        """Notes the sizes of the batches that it runs."""

        def __init__(self) -> None:
            super().__init__(network(), providers=["CPUExecutionProvider"])
            sizes.append(set())
            self.sizes = sizes[-1]

        def run(self, output_names: list[str], input_feed: dict[str, np.ndarray]) -> Any:
            self.sizes.add(len(input_feed["PIXELS__0"]))
            return super().run(output_names, input_feed)

    sessions = import_backend("onnxruntime").SessionPerSize(Session)
    rows = pixels(32)
    (expected,) = sessions.run(NAMES[:1], {"PIXELS__0": rows})
    assert len(np.unique(expected[:, 0])) == 32
    for count in (*range(1, 33), 3, 17):
        (found,) = sessions.run(NAMES[:1], {"PIXELS__0": rows[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-6)
    assert sorted(map(sorted, sizes)) == [[1], [2], [4], [8], [16], [32]]
