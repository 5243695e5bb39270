"""Triton's configurations: what the build renders."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from resnet_build import configs
from resnet_build.repository import DEFAULT_PREPROCESSING
from resnet_build.serving_options import OPENVINO_VARIANTS, VARIANTS, ServingOptions
from resnet_client.instance_groups import instance_count
from resnet_client.preprocessing import Limits
from tritonclient.grpc import model_config_pb2 as pb


def rendered(variants: Sequence[str] = (), **options: int) -> dict[str, pb.ModelConfig]:
    """Render and parse."""
    texts = configs.render_all(ServingOptions(**options), DEFAULT_PREPROCESSING, 1000, variants)
    return {name: configs.parse(text) for name, text in texts.items()}


def test_render_all_writes_preprocessing_and_limits_into_every_model() -> None:
    """The client reads both there, whichever model it calls, so it refuses what the server would."""
    limits = Limits(1_000_000, 2_000_000, 3)
    for config in rendered(max_image_bytes=1_000_000, max_image_pixels=2_000_000, max_image_frames=3).values():
        written = {name: entry.string_value for name, entry in config.parameters.items()}
        assert written.items() >= limits.to_parameters().items()
        assert written["preprocessing"] == DEFAULT_PREPROCESSING.to_json()
        assert written["preprocessing_sha256"] == DEFAULT_PREPROCESSING.sha256


def test_preprocess_refuses_overload_and_no_queue_does() -> None:
    """With a queue policy, Triton leaves requests lying that arrive while an instance computes."""
    models = rendered(queue_size=7, max_wait_ms=50)
    written = models["preprocess"].parameters
    assert (written["max_queue_size"].string_value, written["max_wait_ms"].string_value) == ("7", "50")
    for name, config in models.items():
        assert not config.dynamic_batching.HasField("default_queue_policy"), name


def test_max_queue_size_grows_with_the_processes() -> None:
    """A number that is given is that of the server."""
    pairs = ((0, 1), (0, 14), (9, 1), (9, 14))
    limits = [ServingOptions(queue_size=size, preprocess_instances=count).max_queue_size for size, count in pairs]
    assert limits == [64, 896, 9, 9]


def test_networks_get_the_options() -> None:
    """Each option has its key; that of threads depends on the backend."""
    models = rendered(max_batch_size=12, max_queue_delay_us=77, instances=2, threads=3)
    config = models["network_onnx"]
    assert config.max_batch_size == 12
    assert config.dynamic_batching.max_queue_delay_microseconds == 77
    assert instance_count(config) == 2
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert models["network_torchscript"].parameters["INTRA_OP_THREAD_COUNT"].string_value == "3"
    assert "intra_op_thread_count" not in rendered()["network_onnx"].parameters
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 2]


@pytest.mark.parametrize(
    ("warmup", "largest", "expected"), [(1, 32, [1]), (12, 32, [1, 2, 4, 8, 12]), (32, 3, [1, 2, 3])]
)
def test_warmup_batches_are_powers_of_two_and_the_largest(warmup: int, largest: int, expected: list[int]) -> None:
    """None is beyond what is executed."""
    assert ServingOptions(warmup_batch=warmup, max_batch_size=largest).warmup_batches == expected


@pytest.mark.parametrize(
    ("backend", "options", "threads"),
    [
        ("onnxruntime", {}, 0),  # the server divides its CPUs
        ("pytorch", {"server_cpus": 3}, 3),
        ("onnxruntime", {"server_cpus": 1, "instances": 2}, 1),
        ("onnxruntime", {"server_cpus": 8, "instances": 4}, 2),
        ("onnxruntime", {"server_cpus": 8, "threads": 3}, 3),
        ("openvino", {"server_cpus": 8}, 4),
    ],
)
def test_server_cpus_decide_threads(backend: str, options: dict[str, int], threads: int) -> None:
    """Those of each instance, of which there are two, or one with TorchScript; an explicit number takes precedence."""
    assert ServingOptions(**options).instance_threads_of(backend) == threads


def test_networks_with_two_instances_leave_images_to_the_other() -> None:
    """Each takes four at once, or the given number; TorchScript all that wait, which Triton enters itself."""

    def preferred(network: str, **options: int) -> list[int]:
        return list(rendered(variants=["int8"], **options)[network].dynamic_batching.preferred_batch_size)

    assert preferred("network_int8") == preferred("network_onnx") == [4]
    assert preferred("network_torchscript") == []
    assert preferred("network_int8", max_batch_size=2) == []
    assert preferred("network_int8", preferred_batch_size=32) == []
    assert preferred("network_onnx", preferred_batch_size=8) == [8]


def test_variants_are_configured_like_the_others() -> None:
    """Each has a network and an ensemble; the default files do not change."""
    texts = configs.render_all(ServingOptions(), DEFAULT_PREPROCESSING, 1000, VARIANTS)
    default = configs.render_all(ServingOptions(), DEFAULT_PREPROCESSING, 1000)
    assert texts.keys() - default.keys() == {f"{kind}_{name}" for kind in ("network", "resnet50") for name in VARIANTS}
    assert {name: texts[name] for name in default} == default
    assert configs.parse(texts["resnet50_int8"]).ensemble_scheduling.step[1].model_name == "network_int8"


def test_variants_have_the_keys_of_their_backends() -> None:
    """OpenVINO's networks stay on the CPU, may pad in NVIDIA's container, and take threads by its own key."""
    texts = configs.render_all(ServingOptions(threads=3), DEFAULT_PREPROCESSING, 1000, VARIANTS)
    found = {name: configs.parse(texts[f"network_{name}"]) for name in VARIANTS}
    assert found["fp16"].backend == "onnxruntime"
    assert found["fp16"].instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO
    for name in OPENVINO_VARIANTS:
        config = found[name]
        assert (config.backend, config.default_model_filename) == ("openvino", "model.onnx")
        assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
        assert config.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"
        assert instance_count(config) == 2
        assert config.parameters["INFERENCE_NUM_THREADS"].string_value == "3"
    assert found["bf16"].parameters["HINT_BF16"].string_value == "YES"
    assert all("HINT_BF16" not in found[name].parameters for name in ("int8", "fp32"))


@pytest.mark.parametrize("default", OPENVINO_VARIANTS)
def test_default_model_can_end_in_a_variant(default: str) -> None:
    """Only its ensemble changes, and the FP32 network gets an ensemble of its own."""
    texts = configs.render_all(ServingOptions(), DEFAULT_PREPROCESSING, 1000, (default,), default)
    plain = configs.render_all(ServingOptions(), DEFAULT_PREPROCESSING, 1000, (default,))
    assert texts.keys() - plain.keys() == {"resnet50_onnx"}
    assert {name for name in plain if texts[name] != plain[name]} == {"resnet50"}
    for name, network in {"resnet50": f"network_{default}", "resnet50_onnx": "network_onnx"}.items():
        assert configs.parse(texts[name]).ensemble_scheduling.step[1].model_name == network
