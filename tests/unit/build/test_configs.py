"""Triton's configurations: what the build renders, and what is committed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from resnet_build import configs, gpu, manifest, pipeline, weights
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_client.preprocessing import Limits, Recipe
from tritonclient.grpc import model_config_pb2 as pb

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_RECIPE = Recipe(resize=232, crop=224)
DEFAULT_MODELS = {"preprocess", "network_onnx", "network_torchscript", "resnet50", "resnet50_torchscript"}


def rendered(variants: Sequence[str] = (), **options: int) -> dict[str, pb.ModelConfig]:
    """Render and parse."""
    texts = configs.render_all(ServingOptions(**options), DEFAULT_RECIPE, 1000, variants)
    return {name: configs.parse(text) for name, text in texts.items()}


def files(recipe: Recipe = DEFAULT_RECIPE, serving: ServingOptions | None = None, **gpu_options: str) -> dict[str, str]:
    """The configs of a whole repository, as the build writes them."""
    found = weights.Weights("w", "test", "v1.5", {}, ("label",) * 1000, recipe)
    options = pipeline.BuildOptions("w", weights.FileOptions(), serving or ServingOptions(), ROOT, ROOT)
    record = {
        "versions": {"1": {"inputs": {"variants": ["int8"], "backbone": None}}},
        "gpu": dataclasses.asdict(gpu.GpuOptions(**gpu_options)),
    }
    return pipeline.config_files(options, found, record)


def named(texts: dict[str, str], name: str) -> set[str]:
    """The models that have a config of this name."""
    return {path.partition("/")[0] for path in texts if path.endswith(f"/configs/{name}.pbtxt")}


def test_committed_configs_are_what_the_build_renders() -> None:
    """Default weights and options need no named config."""
    texts = files()
    assert not named(texts, "local")
    assert not named(texts, "gpu")
    for name in DEFAULT_MODELS:
        assert texts[f"{name}/config.pbtxt"] == (ROOT / f"model_repository/{name}/config.pbtxt").read_text(), name


@pytest.mark.parametrize("other", [{"recipe": Recipe(resize=256, crop=224)}, {"serving": ServingOptions(threads=2)}])
def test_other_weights_and_options_go_into_named_configs(other: dict[str, Any]) -> None:
    """The committed files stay as they are; the config for GPU hosts has the same options."""
    texts = files(**other)
    changed = DEFAULT_MODELS if "recipe" in other else {"network_onnx", "network_torchscript"}
    assert named(texts, "local") == named(texts, "gpu") == changed
    for name in DEFAULT_MODELS:
        assert texts[f"{name}/config.pbtxt"] == files()[f"{name}/config.pbtxt"]
    for name in changed:
        assert texts[f"{name}/configs/local.pbtxt"] == texts[f"{name}/configs/gpu.pbtxt"]
    assert texts["network_int8/config.pbtxt"] != files()["network_int8/config.pbtxt"]


def test_what_is_for_gpus_only_has_a_name_of_its_own() -> None:
    """A server on a CPU does not see it."""
    texts = files(accelerator="tensorrt")
    assert named(texts, "gpu") == {"network_onnx"}
    assert not named(texts, "local")
    assert "tensorrt" in texts["network_onnx/configs/gpu.pbtxt"]
    both = files(serving=ServingOptions(threads=2), accelerator="tensorrt")
    assert named(both, "gpu") == named(both, "local") == {"network_onnx", "network_torchscript"}


def test_every_model_carries_the_recipe() -> None:
    """Server and client read it there, so they cannot drift apart."""
    for config in rendered().values():
        assert config.parameters["recipe"].string_value == DEFAULT_RECIPE.to_json()
        assert config.parameters["recipe_sha256"].string_value == DEFAULT_RECIPE.sha256


def test_every_model_carries_the_limits_on_photos() -> None:
    """The client, whichever model it asks, refuses what the server would."""
    options = {"max_photo_bytes": 1_000_000, "max_photo_pixels": 2_000_000, "max_photo_frames": 3}
    models = [(config, Limits(1_000_000, 2_000_000, 3)) for config in rendered(**options).values()]
    for config, limits in [*models, (rendered()["preprocess"], Limits())]:
        written = {name: config.parameters[name].string_value for name in limits.to_parameters()}
        assert written == limits.to_parameters()


def test_the_door_refuses_what_is_too_much_and_no_queue_does() -> None:
    """With a queue policy, Triton leaves requests lying that arrive while an instance computes."""
    models = rendered(queue_size=7, queue_timeout_ms=50)
    door = models["preprocess"].parameters
    assert (door["max_backlog"].string_value, door["max_wait_ms"].string_value) == ("7", "50")
    for name, config in models.items():
        assert not config.dynamic_batching.HasField("default_queue_policy"), name


def test_more_may_wait_where_more_are_decoded_at_once() -> None:
    """Unless a number is said, which is that of the server."""
    limits = {
        (size, doors): rendered(queue_size=size, preprocess_instances=doors)["preprocess"].parameters["max_backlog"]
        for size in (0, 9)
        for doors in (1, 14)
    }
    assert {key: int(value.string_value) for key, value in limits.items()} == {
        (0, 1): 64, (0, 14): 896, (9, 1): 9, (9, 14): 9,
    }  # fmt: skip


def test_requests_of_photos_are_decoded_one_by_one() -> None:
    """In a batch, Triton 2.51 would fail all of them for one that lies about its length."""
    assert list(rendered()["preprocess"].dynamic_batching.preferred_batch_size) == [1]
    assert rendered()["preprocess"].dynamic_batching.max_queue_delay_microseconds == 0


def test_options_reach_the_networks() -> None:
    """Each option changes what it says."""
    config = rendered(max_batch_size=12, max_queue_delay_us=77, instances=2, threads=3)["network_onnx"]
    assert config.max_batch_size == 12
    assert config.dynamic_batching.max_queue_delay_microseconds == 77
    assert config.instance_group[0].count == 2
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("warmup_batch", "max_batch_size", "expected"), [(1, 32, [1]), (12, 32, [1, 2, 4, 8, 12]), (32, 3, [1, 2, 3])]
)
def test_networks_are_warmed_up(warmup_batch: int, max_batch_size: int, expected: list[int]) -> None:
    """The powers of two and the largest, never beyond what is executed."""
    config = rendered(warmup_batch=warmup_batch, max_batch_size=max_batch_size)["network_onnx"]
    assert [warmup.batch_size for warmup in config.model_warmup] == expected


def test_openvino_has_two_instances_unless_told_otherwise() -> None:
    """And the others one; how many cores each has is left to the machine that serves."""
    counts = {
        name: config.instance_group[0].count
        for name, config in rendered(variants=["int8", "fp16"]).items()
        if name.startswith("network_")
    }
    assert counts == {"network_onnx": 1, "network_torchscript": 1, "network_int8": 2, "network_fp16": 1}
    told = rendered(variants=["int8"], instances=1)["network_int8"]
    assert told.instance_group[0].count == 1
    assert "INFERENCE_NUM_THREADS" not in rendered(variants=["int8"])["network_int8"].parameters


def test_openvino_leaves_photos_to_its_other_instance_unless_told_otherwise() -> None:
    """An instance takes four at once, or what is told; the others all that wait, which Triton enters itself."""

    def preferred(network: str, **options: int) -> list[int]:
        return list(rendered(variants=["int8"], **options)[network].dynamic_batching.preferred_batch_size)

    assert preferred("network_int8") == [4]
    assert preferred("network_onnx") == preferred("network_torchscript") == []
    assert preferred("network_int8", max_batch_size=2) == []
    assert preferred("network_int8", instances=1) == []
    assert preferred("network_int8", preferred_batch_size=32) == []
    assert preferred("network_onnx", preferred_batch_size=8) == [8]


def test_threads_are_those_of_an_instance() -> None:
    """Under each backend's own key."""
    models = rendered(instances=2, threads=4)
    assert models["network_onnx"].parameters["intra_op_thread_count"].string_value == "4"
    assert models["network_torchscript"].parameters["INTRA_OP_THREAD_COUNT"].string_value == "4"
    assert "intra_op_thread_count" not in rendered()["network_onnx"].parameters


def test_options_of_another_version_are_passed_over(tmp_path: Path) -> None:
    """Who goes back to an older resnet-build, or forward, keeps what both know."""
    content = {"versions": {}, "serving": {"threads": 2, "other": 1}, "gpu": {"accelerator": "tensorrt", "other": "x"}}
    (tmp_path / "manifest.json").write_text(manifest.to_json(content))
    record = manifest.read(tmp_path)
    assert ServingOptions(**record["serving"]) == ServingOptions(threads=2)
    assert gpu.chosen(record, {}) == gpu.GpuOptions("tensorrt")


@pytest.mark.parametrize("name", ["max_batch_size", "preprocess_instances"])
def test_nonsense_is_refused(name: str) -> None:
    """Zero of what must be there is told by the flag's name."""
    with pytest.raises(BuildError, match=f"--{name.replace('_', '-')} must lie between 1 and"):
        ServingOptions(**{name: 0})


def test_a_batch_that_is_never_reached_is_refused() -> None:
    """What is taken at once cannot be more than what may be executed."""
    with pytest.raises(BuildError, match="--preferred-batch-size 8 is above --max-batch-size 4"):
        ServingOptions(max_batch_size=4, preferred_batch_size=8)


def test_what_is_no_configuration_is_refused() -> None:
    """A damaged file is a sentence."""
    with pytest.raises(BuildError, match="not a Triton model configuration"):
        configs.parse("max_batch_size: many")
