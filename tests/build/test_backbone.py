"""The backbone's maps against torchvision's own way to take them out of a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from resnet_build import backbone, configs
from resnet_build.network import fold_batch_norms, make_resnet50
from resnet_build.serving_options import ServingOptions
from resnet_client.preprocessing import PreprocessConfig
from resnet_client.requests import map_shapes
from tritonclient.grpc import model_config_pb2 as pb


def test_backbone_maps_are_those_of_intermediate_layer_getter() -> None:
    """The same stages, the same shapes, the same values on the same pixels, in both types."""
    torch.manual_seed(1)
    eager = make_resnet50("v1", 10)
    noise = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    expected = backbone.maps_of(eager, noise.numpy())
    folded = fold_batch_norms(eager)
    for half, bound in ((False, 1e-5), (True, 1e-3)):
        with torch.inference_mode():
            *maps, together = backbone.BackboneNetwork(folded, half=half)(noise)
        for (name, wanted), got in zip(expected.items(), maps, strict=True):
            assert tuple(got.shape) == (1, *map_shapes(224)[name[:2]])
            assert got.dtype == (torch.float16 if half else torch.float32)
            assert np.abs(got.float().numpy() - wanted).max() / np.abs(wanted).max() < bound
        assert torch.equal(together, torch.cat([m.flatten(1) for m in maps], dim=1))


@pytest.mark.parametrize(("wire", "kind"), [("fp32", pb.TYPE_FP32), ("fp16", pb.TYPE_FP16)])
@pytest.mark.parametrize(("size", "values"), [(224, 1_505_280), (180, 1_010_432)])
def test_render_takes_the_configs_of_the_default_with_other_outputs(
    wire: backbone.Wire, kind: int, size: int, values: int
) -> None:
    """Threads, preprocessing, limits and versions are what the build writes; batches stay small, as maps are large."""
    options = ServingOptions(threads=3, preferred_batch_size=16)
    rendered = configs.render_all(options, PreprocessConfig(resize=232, crop=size), 1000)
    sizes = dict(zip(backbone.MAPS, map_shapes(size).values(), strict=True))
    made = {name: configs.parse(text) for name, text in backbone.render(rendered, options, wire).items()}
    network, ensemble = made["network_backbone"], made["resnet50_backbone"]
    for config in (network, ensemble):
        shapes = {output.name: tuple(output.dims) for output in config.output}
        assert shapes == {**sizes, "MAPS__4": (values,)}
        assert {output.data_type for output in config.output} == {kind}
        assert config.max_batch_size == 8
        assert config.parameters["preprocessing"].string_value == PreprocessConfig(resize=232, crop=size).to_json()
    assert network.parameters["intra_op_thread_count"].string_value == "3"
    assert [warmup.batch_size for warmup in network.model_warmup] == [1, 2]
    assert max(network.dynamic_batching.preferred_batch_size, default=0) <= network.max_batch_size
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == ["preprocess", "network_backbone"]
    assert set(ensemble.ensemble_scheduling.step[1].output_map) == {*backbone.MAPS, "MAPS__4"}
