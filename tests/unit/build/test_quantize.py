"""The variants' steps, on a network small enough to compute by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from resnet_build import accuracy, configs, quantize, variants
from resnet_build.accuracy import Bounds, compare, predict
from resnet_build.engines import open_network
from resnet_build.errors import BuildError
from resnet_build.options import OPENVINO_VARIANTS, VARIANTS, ServingOptions
from resnet_build.quantize import calibration, fp16
from resnet_build.quantize.activations import measure
from resnet_build.quantize.graph import Graph
from resnet_build.quantize.weights import equalise, fold_normalisation, scales_of
from resnet_build.tensors import FEATURES, PIXELS, PROBABILITIES
from resnet_client.preprocessing import Recipe
from tritonclient.grpc import model_config_pb2 as pb

RECIPE = Recipe(resize=232, crop=224)
SIZE, CHANNELS, CLASSES = 12, 8, 5
NO_PIXELS = np.zeros((0, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def pixels() -> np.ndarray:
    """Sixteen small pictures."""
    return np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Two convolutions with the steps around them that the export has; the first one's channels differ in loudness."""
    rng = np.random.default_rng(1)
    loud = np.geomspace(0.05, 20, CHANNELS)[:, None, None, None]
    constants = {
        "mean": np.array([123.7, 116.3, 103.5]).reshape(1, 3, 1, 1),
        "std": np.array([58.4, 57.1, 57.4]).reshape(1, 3, 1, 1),
        "w1": rng.normal(size=(CHANNELS, 3, 3, 3)) * loud,
        "b1": rng.normal(size=CHANNELS),
        "w2": rng.normal(size=(CHANNELS, CHANNELS, 3, 3)) / loud.reshape(1, -1, 1, 1),
        "b2": rng.normal(size=CHANNELS),
        "w3": rng.normal(size=(CLASSES, CHANNELS)) / 10,
        "b3": rng.normal(size=CLASSES),
    }
    nodes = [
        helper.make_node("Transpose", [PIXELS], ["chw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["cast", "mean"], ["sub"], "sub"),
        helper.make_node("Div", ["sub", "std"], ["div"], "div"),
        helper.make_node("Conv", ["div", "w1", "b1"], ["conv1"], "conv1"),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "w2", "b2"], ["conv2"], "conv2"),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("ReduceMean", ["relu2", "axes"], [FEATURES], "pool", keepdims=0),
        helper.make_node("Gemm", [FEATURES, "w3", "b3"], ["logits"], "linear", transB=1),
        helper.make_node("Softmax", ["logits"], [PROBABILITIES], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", CLASSES]),
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", CHANNELS]),
        ],
        [
            *(numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def run(model: onnx.ModelProto | Path, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and features."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return tuple(session.run([PROBABILITIES, FEATURES], {PIXELS: pixels}))


def test_shared_and_missing_biases_become_each_nodes_own(network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """What exporters save on constants must not change two layers where one is meant."""
    model = onnx.load(network)
    first, second = Graph(model).of_type("Conv")
    second.input[2] = first.input[2]
    for missing in (False, True):
        if missing:
            del first.input[2]
        before = run(model, pixels)
        graph = Graph(onnx.ModelProto.FromString(model.SerializeToString()))
        graph.own_constants("Conv")
        names = [name for node in graph.of_type("Conv") for name in node.input[1:]]
        assert len(names) == len(set(names)) == 4
        np.testing.assert_array_equal(run(graph.model, pixels)[1], before[1])
        onnx.save(model, tmp_path / "sparing.onnx")
        quantize.convert(tmp_path / "sparing.onnx", tmp_path / "int8.onnx", pixels)


def test_pixels_without_normalisation_give_the_same_answers(network: Path, pixels: np.ndarray) -> None:
    """Mean and deviation move into the first convolution; without padding nothing else changes."""
    graph = Graph(onnx.load(network))
    fold_normalisation(graph)
    assert not graph.of_type("Div")
    for got, expected in zip(run(graph.model, pixels), run(network, pixels), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_equalising_changes_ranges_and_no_answers(network: Path, pixels: np.ndarray) -> None:
    """The loudest and the quietest channel come closer, the network computes what it did."""
    graph = Graph(onnx.load(network))
    fold_normalisation(graph)
    before = measure(graph, pixels)
    after = equalise(graph, before)
    spread = [float(np.ptp(np.log(found["relu1"].highest))) for found in (before, after)]
    assert spread[1] < 0.8 * spread[0]
    # The ranges after it are foretold, not measured again.
    np.testing.assert_allclose(after["relu1"].highest, measure(graph, pixels)["relu1"].highest, rtol=1e-4)
    for got, expected in zip(run(graph.model, pixels), run(network, pixels), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_the_integer_network_keeps_the_contract(network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """Same tensors, no neighbours that overflow, pixels unscaled into the first convolution, similar answers."""
    quantize.convert(network, tmp_path / "int8.onnx", pixels)
    model, original = onnx.load(tmp_path / "int8.onnx"), onnx.load(network)
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)
    assert model.ir_version <= 10
    graph = Graph(model)
    assert not graph.of_type("Div", "Relu")
    quantise = next(node for node in graph.of_type("QuantizeLinear") if node.input[0] == graph.only("Sub").output[0])
    assert (graph.constant(quantise.input[1]), graph.constant(quantise.input[2])) == (1, 0)
    weights = [values for values in graph.constants().values() if values.dtype == np.int8 and values.ndim == 4]
    assert len(weights) == 2
    for values in weights:
        rows = np.abs(values.astype(int))
        rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, 0), (0, 0)))
        assert (rows[:, 0::2] + rows[:, 1::2]).max() <= 128
        assert rows.max() > 64
    probabilities, features = run(tmp_path / "int8.onnx", pixels)
    true_probabilities, true_features = run(network, pixels)
    assert np.abs(probabilities - true_probabilities).max() < 0.05
    assert np.abs(features - true_features).mean() < 0.05 * np.abs(true_features).mean()


def test_a_channel_without_weights_has_a_scale() -> None:
    """Pruned channels are all zero, and a scale of zero would make them NaN."""
    assert [float(scale) for scale in scales_of(np.zeros((2, 3, 1, 1), dtype=np.float32))] == [1, 1]


def test_biases_make_up_for_rounded_weights(
    network: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On average over the photos the features are nearer to the float network's than without the correction."""
    errors = []
    for correction in (quantize.weights.correct_biases, lambda *_: None):
        monkeypatch.setattr(quantize.weights, "correct_biases", correction)
        quantize.convert(network, tmp_path / "int8.onnx", pixels)
        error = run(tmp_path / "int8.onnx", pixels)[1].mean(0) - run(network, pixels)[1].mean(0)
        errors.append(float(np.abs(error).mean()))
    assert errors[0] < errors[1]


def test_the_half_network_keeps_the_contract(network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """Inside are 16 bits only, outside the same tensors and answers."""
    fp16.convert(network, tmp_path / "half.onnx", NO_PIXELS)
    model, original = onnx.load(tmp_path / "half.onnx"), onnx.load(network)
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)
    assert np.dtype(np.float32) not in {values.dtype for values in Graph(model).constants().values()}
    for got, expected in zip(run(tmp_path / "half.onnx", pixels), run(network, pixels), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-2, atol=2e-3)


def test_what_16_bits_cannot_hold_is_refused(network: Path, tmp_path: Path) -> None:
    """A weight that would become infinite ends the build with its name."""
    model = onnx.load(network)
    Graph(model).set_constant("b2", np.full(CHANNELS, 1e6, dtype=np.float32))
    onnx.save(model, network)
    with pytest.raises(BuildError, match="b2 holds values beyond 65504"):
        fp16.convert(network, tmp_path / "half.onnx", NO_PIXELS)


def test_check_refuses_a_network_that_answers_otherwise(network: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """The same network passes; one with another last layer is refused, with figures."""
    model = onnx.load(network)
    clear = 8 * np.eye(CLASSES, dtype=np.float32)
    for bias, path in ((clear[0], network), (clear[1], tmp_path / "other.onnx")):
        Graph(model).set_constant("b3", bias)
        onnx.save(model, path)
    bounds = Bounds(agreement=0.97, similarity=0.99)
    expected = predict(open_network("onnx", network), pixels)
    found = accuracy.check("int8", predict(open_network("int8", network), pixels), expected, bounds)
    assert (found.photos, found.agreement, found.clear_agreement) == (16, 1, 1)
    with pytest.raises(BuildError, match=r"variant int8 differs too much .*the same top-1 on .* it was not written"):
        accuracy.check("int8", predict(open_network("int8", tmp_path / "other.onnx"), pixels), expected, bounds)


def test_photos_that_could_be_either_do_not_count_as_clear() -> None:
    """Of two photos that tip over only the one whose first class led counts; NaN never passes."""
    true = np.array([[0.9, 0.1], [0.52, 0.48], [0.1, 0.9]], dtype=np.float32)
    got = np.array([[0.9, 0.1], [0.48, 0.52], [0.1, 0.9]], dtype=np.float32)
    features = np.ones((3, 4), dtype=np.float32)
    found = compare((got, features), (true, features))
    assert (found.clear_photos, found.clear_agreement) == (2, 1)
    assert found.agreement == pytest.approx(2 / 3)
    assert not compare((got, features * np.nan), (true, features)).similarity >= 0


def test_a_single_class_is_always_clear() -> None:
    """It leads by all there is; any number of classes can be built."""
    answer = np.ones((2, 1), dtype=np.float32), np.ones((2, 4), dtype=np.float32)
    found = compare(answer, answer)
    assert (found.clear_photos, found.clear_agreement, found.agreement) == (2, 1, 1)


def test_crops_are_the_same_every_time() -> None:
    """A build can be repeated; calibration and evaluation have no crop in common."""
    first, second = calibration.load(None, RECIPE), calibration.load(None, RECIPE)
    assert first.sha256 == second.sha256
    assert first.calibration.shape == (calibration.CALIBRATION_COUNT, 224, 224, 3)
    assert first.calibration.dtype == np.uint8
    crops = {row.tobytes() for row in (*first.calibration, *first.evaluation)}
    assert len(crops) == len(first.calibration) + len(first.evaluation)


def test_a_folder_is_spread_out_and_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many photos, in order of their classes, some of every part are taken."""
    monkeypatch.setattr(calibration, "CALIBRATION_COUNT", 4)
    monkeypatch.setattr(calibration, "EVALUATION_COUNT", 4)
    (tmp_path / "class").mkdir()
    for value in range(20):
        Image.new("RGB", (30, 30), (10 * value, 0, 0)).save(tmp_path / "class" / f"{value:02}.png")
    found = calibration.load(tmp_path, RECIPE)
    assert found.calibration[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    assert found.evaluation[:, 0, 0, 0].tolist() == [20, 70, 120, 170]
    assert found.source == f"8 images of {tmp_path.resolve()}"


def test_bad_folders_are_told(tmp_path: Path) -> None:
    """No folder, too few photos, a file that is none."""
    with pytest.raises(BuildError, match="there is no folder"):
        calibration.load(tmp_path / "missing", RECIPE)
    for number in range(8):
        with pytest.raises(BuildError, match=f"holds {number} images"):
            calibration.load(tmp_path, RECIPE)
        (tmp_path / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(BuildError, match=r"the calibration image .*0\.jpg cannot be used"):
        calibration.load(tmp_path, RECIPE)


def test_variants_are_configured_like_the_others() -> None:
    """Each has a network and an ensemble; the default files do not change."""
    texts = configs.render_all(ServingOptions(), RECIPE, 1000, VARIANTS)
    default = configs.render_all(ServingOptions(), RECIPE, 1000)
    assert texts.keys() - default.keys() == {f"{kind}_{name}" for kind in ("network", "resnet50") for name in VARIANTS}
    assert {name: texts[name] for name in default} == default
    assert configs.parse(texts["resnet50_int8"]).ensemble_scheduling.step[1].model_name == "network_int8"


def test_engines_are_told_what_they_need() -> None:
    """OpenVINO's networks stay on the CPU, may pad in NVIDIA's container, and take threads by its own key."""
    texts = configs.render_all(ServingOptions(threads=3), RECIPE, 1000, VARIANTS)
    found = {name: configs.parse(texts[f"network_{name}"]) for name in VARIANTS}
    assert found["fp16"].backend == "onnxruntime"
    assert found["fp16"].instance_group[0].kind == pb.ModelInstanceGroup.KIND_AUTO
    for name in OPENVINO_VARIANTS:
        config = found[name]
        assert (config.backend, config.default_model_filename) == ("openvino", "model.onnx")
        assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
        assert config.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"
        assert config.parameters["INFERENCE_NUM_THREADS"].string_value == "3"
    assert found["bf16"].parameters["HINT_BF16"].string_value == "YES"
    assert all("HINT_BF16" not in found[name].parameters for name in ("int8", "fp32"))


@pytest.mark.parametrize("door", OPENVINO_VARIANTS)
def test_the_default_door_can_end_in_a_variant(door: str) -> None:
    """Only its ensemble changes, and the float network gets a door of its own."""
    texts = configs.render_all(ServingOptions(), RECIPE, 1000, (door,), door)
    plain = configs.render_all(ServingOptions(), RECIPE, 1000, (door,))
    assert texts.keys() - plain.keys() == {"resnet50_onnx"}
    assert {name for name in plain if texts[name] != plain[name]} == {"resnet50"}
    for name, network in {"resnet50": f"network_{door}", "resnet50_onnx": "network_onnx"}.items():
        assert configs.parse(texts[name]).ensemble_scheduling.step[1].model_name == network


@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 2e-2), ("fp32", 1e-4)])
def test_some_variants_are_the_float_network(
    network: Path, pixels: np.ndarray, tmp_path: Path, name: str, tolerance: float
) -> None:
    """Their precision is the engine's business: answers near the float network's, the file the same."""
    copy = tmp_path / "model.onnx"
    variants.copy(network, copy, NO_PIXELS)
    assert copy.read_bytes() == network.read_bytes()
    for values, true in zip(open_network(name, copy)(pixels), run(network, pixels), strict=True):
        np.testing.assert_allclose(values, true, rtol=2.5 * tolerance, atol=tolerance)
