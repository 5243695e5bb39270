"""``TritonServer``, the Python API, and the Python backends behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from resnet_build import configs
from resnet_serve import ModelStatus, ServerConfig, ServerError, TritonServer
from resnet_serve.backends.shared_cores import SharedCores
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException


def test_models_are_listed(server: TritonServer) -> None:
    """Every model with version, backend, batch and device; ensembles last."""
    models = {model.name: model for model in server.models()}
    assert list(models)[-2:] == ["resnet50", "resnet50_torchscript"]
    assert models["network_onnx"] == ModelStatus("network_onnx", (1,), "onnxruntime", 32, "CPU")
    assert models["network_torchscript"].backend == "pytorch"
    assert models["resnet50"].backend == "ensemble"


def test_two_servers_side_by_side(server: TritonServer, plain_repository: Path, tmp_path: Path) -> None:
    """Free ports and own shared memory keep servers apart; a stopped one can be started again."""
    shutil.copytree(plain_repository / "preprocess", tmp_path / "preprocess")
    second = TritonServer(ServerConfig(tmp_path, port=0))
    for _ in range(2):
        with second:
            assert second.grpc_url != server.grpc_url
            assert [model.name for model in second.models()] == ["preprocess"]
    with pytest.raises(ServerError, match="not running"):
        second.wait()


def test_a_stop_returns_the_exit_code(plain_repository: Path, tmp_path: Path) -> None:
    """0 after a clean end."""
    shutil.copytree(plain_repository / "preprocess", tmp_path / "preprocess")
    running = TritonServer(ServerConfig(tmp_path, port=0))
    running.start()
    assert running.wait(timeout_s=0.01) is None
    assert running.stop() == 0
    assert running.stop() is None


def pixels(count: int) -> np.ndarray:
    """Noise in the shape of prepared photos."""
    return np.random.default_rng(count).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def infer(url: str, model: str, batch: np.ndarray, outputs: list[str]) -> triton.InferResult:
    """Ask Triton directly."""
    with triton.InferenceServerClient(url.removeprefix("grpc://")) as client:
        tensor = triton.InferInput("PIXELS__0", batch.shape, "UINT8")
        tensor.set_data_from_numpy(batch)
        return client.infer(model, [tensor], outputs=[triton.InferRequestedOutput(name) for name in outputs])


@pytest.mark.parametrize("model", ["network_onnx", "network_torchscript"])
def test_only_requested_outputs_are_answered(server: TritonServer, model: str) -> None:
    """Features alone, probabilities alone, or both."""
    for outputs in (["FEATURES__1"], ["PROBABILITIES__0"], ["PROBABILITIES__0", "FEATURES__1"]):
        answer = infer(server.grpc_url, model, pixels(2), outputs).get_response()
        assert sorted(output.name for output in answer.outputs) == sorted(outputs)


def test_both_networks_compute_the_same(server: TritonServer) -> None:
    """ONNX Runtime and TorchScript differ by less than the parity gate allows."""
    names = ["PROBABILITIES__0", "FEATURES__1"]
    onnx, script = (
        infer(server.grpc_url, model, pixels(3), names) for model in ("network_onnx", "network_torchscript")
    )
    assert np.abs(onnx.as_numpy(names[0]) - script.as_numpy(names[0])).max() < 1e-4
    assert onnx.as_numpy(names[1]).shape == (3, 2048)
    assert np.allclose(onnx.as_numpy(names[0]).sum(axis=1), 1, atol=1e-4)


def test_a_wrong_shape_is_refused_by_triton(server: TritonServer) -> None:
    """Shapes are the configuration's."""
    with pytest.raises(InferenceServerException, match="unexpected shape"):
        infer(server.grpc_url, "network_onnx", pixels(1)[:, :100], ["FEATURES__1"])


def edited(plain_repository: Path, target: Path, model: str, **parameters: str) -> Path:
    """Copy one model of the repository with other ``parameters``."""
    shutil.copytree(plain_repository / model, target / model)
    path = target / model / "config.pbtxt"
    config: pb.ModelConfig = configs.parse(path.read_text())
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    del config.model_warmup[:]
    path.write_text(str(config))
    return target


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("network_onnx", "intra_op_thread_count", "many"),
        ("network_onnx", "enable_mem_arena", "perhaps"),
        ("network_torchscript", "INTRA_OP_THREAD_COUNT", "many"),
        ("network_torchscript", "DISABLE_OPTIMIZED_EXECUTION", "perhaps"),
    ],
)
def test_backends_read_their_keys(plain_repository: Path, tmp_path: Path, model: str, key: str, value: str) -> None:
    """A value that makes no sense stops the start and is named, so the key is read."""
    with (
        pytest.raises(ServerError, match=f"{key} is '{value}'"),
        TritonServer(ServerConfig(edited(plain_repository, tmp_path, model, **{key: value}), port=0)),
    ):
        pass


def on_openvino(plain_repository: Path, target: Path, *, instances: int = 1, **parameters: str) -> Path:
    """Copy the float network and have OpenVINO serve it."""
    path = edited(plain_repository, target, "network_onnx", **parameters) / "network_onnx/config.pbtxt"
    config: pb.ModelConfig = configs.parse(path.read_text())
    config.backend, config.platform, config.default_model_filename = "openvino", "", "model.onnx"
    config.instance_group[0].kind = pb.ModelInstanceGroup.KIND_CPU
    config.instance_group[0].count = instances
    path.write_text(str(config))
    return target


@pytest.mark.parametrize("instances", [1, 2])
def test_openvino_computes_the_same(
    server: TritonServer, plain_repository: Path, tmp_path: Path, instances: int
) -> None:
    """At any batch size, for callers at once as for one alone, and with all of its keys."""
    parameters = {
        "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1", "PERFORMANCE_HINT": "latency",
        "ENABLE_BATCH_PADDING": "YES",
    }  # fmt: skip
    names = ["PROBABILITIES__0", "FEATURES__1"]
    folder = on_openvino(plain_repository, tmp_path, instances=instances, **parameters)
    with TritonServer(ServerConfig(folder, port=0)) as running, ThreadPoolExecutor(4) as callers:

        def difference(batch: np.ndarray) -> float:
            got, expected = (infer(url, "network_onnx", batch, names) for url in (running.grpc_url, server.grpc_url))
            return max(float(np.abs(got.as_numpy(name) - expected.as_numpy(name)).max()) for name in names)

        assert max(callers.map(difference, [pixels(count) for count in (1, 3, 2, 1, 5, 1)])) < 1e-3


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
@pytest.mark.parametrize("threads", [0, 1])
def test_an_instance_alone_has_the_threads_of_all(plain_repository: Path, tmp_path: Path, threads: int) -> None:
    """While somebody else computes, it has its own: as many as it was given, or its part of the cores."""
    cores = len(os.sched_getaffinity(0))
    folder = on_openvino(plain_repository, tmp_path, instances=2, INFERENCE_NUM_THREADS=str(threads))
    with TritonServer(ServerConfig(folder, port=0)) as running, contextlib.closing(SharedCores(folder)) as sibling:

        def computing_threads() -> int:
            before = _cpu_ns_of_workers(folder / "network_onnx")
            for _ in range(10):
                infer(running.grpc_url, "network_onnx", pixels(2), ["FEATURES__1"])
            after = _cpu_ns_of_workers(folder / "network_onnx")
            spent = [after[thread] - before.get(thread, 0) for thread in after]
            return sum(10 * ns > max(spent) for ns in spent)

        with sibling.computing() as is_alone:
            assert is_alone
            # Callers are sent to both instances in turns.
            assert computing_threads() == 2 * (threads or cores // 2)
        assert computing_threads() == 2 * (2 * threads or cores)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INFERENCE_NUM_THREADS", "many"),
        ("NUM_STREAMS", "several"),
        ("PERFORMANCE_HINT", "haste"),
        ("HINT_BF16", "maybe"),
    ],
)
def test_openvino_reads_its_keys(plain_repository: Path, tmp_path: Path, key: str, value: str) -> None:
    """A value that makes no sense stops the start and is told."""
    with (
        pytest.raises(ServerError, match=f"(?i){value}"),
        TritonServer(ServerConfig(on_openvino(plain_repository, tmp_path, **{key: value}), port=0)),
    ):
        pass


@pytest.mark.parametrize("network", ["network_onnx", "network_torchscript"])
def test_a_damaged_artifact_is_told(plain_repository: Path, tmp_path: Path, network: str) -> None:
    """With its path, the engine's reason, and what helps."""
    folder = edited(plain_repository, tmp_path, network)
    artifact = next((folder / network / "1").iterdir())
    artifact.write_bytes(artifact.read_bytes()[:1_000_000])
    with (
        pytest.raises(ServerError, match=f"an artifact is damaged.*run resnet-build.*{artifact.name} cannot be loaded"),
        TritonServer(ServerConfig(folder, port=0)),
    ):
        pass


def test_one_thread_is_one_thread(plain_repository: Path, tmp_path: Path) -> None:
    """``intra_op_thread_count`` 1 leaves the worker without compute threads beside its own."""
    for threads in ("1", "2"):
        folder = edited(plain_repository, tmp_path, "network_onnx", intra_op_thread_count=threads)
        path = (folder / "network_onnx").rename(folder / f"threads_{threads}") / "config.pbtxt"
        path.write_text(path.read_text().replace('"network_onnx"', f'"threads_{threads}"'))
    with TritonServer(ServerConfig(tmp_path, port=0)) as running:
        counts = []
        for model in ("threads_1", "threads_2"):
            infer(running.grpc_url, model, pixels(1), ["FEATURES__1"])
            counts.append(len(_threads_of_workers(tmp_path / model)))
    assert counts[1] == counts[0] + 1


def test_instances_divide_the_cores(plain_repository: Path, tmp_path: Path) -> None:
    """Two without a number of threads have as many each as one that is told half of the cores."""
    cores = len(os.sched_getaffinity(0))
    for model, count, threads in (("one", 1, max(1, cores // 2)), ("two", 2, 0)):
        folder = edited(plain_repository, tmp_path, "network_onnx", intra_op_thread_count=str(threads))
        path = (folder / "network_onnx").rename(folder / model) / "config.pbtxt"
        config: pb.ModelConfig = configs.parse(path.read_text().replace('"network_onnx"', f'"{model}"'))
        config.instance_group[0].count = count
        path.write_text(str(config))
    with TritonServer(ServerConfig(tmp_path, port=0)):
        one, two = (len(_threads_of_workers(tmp_path / model)) for model in ("one", "two"))
    assert two == 2 * one


def _threads_of_workers(model: Path) -> list[Path]:
    """Folders of the threads of the stub processes that serve a model."""
    found: list[Path] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes()
            if b"triton_python_backend_stub" in arguments and str(model).encode() in arguments:
                found += (process / "task").iterdir()
    assert found, f"no worker serves {model}"
    return found


def _cpu_ns_of_workers(model: Path) -> dict[str, int]:
    """CPU time of each thread so far."""
    return {thread.name: int((thread / "schedstat").read_text().split()[0]) for thread in _threads_of_workers(model)}
