"""Accuracy during the build: what is measured, and what is below the bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_build import BuildError, UsageError, labelled_accuracy
from resnet_build.network import ServedNetwork, load_network, runner
from resnet_build.weights import FileOptions, default_cache, load
from resnet_client.evaluate import Sample
from resnet_client.preprocessing import PreprocessConfig

COLOURS = ["red", "green", "blue"]
SMALL = PreprocessConfig(resize=16, crop=16)


def reddest(pixels: np.ndarray) -> list[np.ndarray]:
    """A network that knows the colours."""
    return [pixels.mean(axis=(1, 2)).astype(np.float32)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, of one colour each."""
    for number in range(12):
        Image.new("RGB", (20, 30), COLOURS[number % 3]).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{number % 3}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class_index", *rows]))
    return tmp_path


def test_measure_finds_the_images_that_a_network_classifies_correctly(folder: Path) -> None:
    """By the class that comes first; the labels have the client's format."""
    samples = labelled_accuracy.Request(folder, folder / "labels.csv").samples(COLOURS)
    samples = [*samples[:9], *(Sample(sample.path, (sample.class_index + 1) % 3) for sample in samples[9:])]
    found = labelled_accuracy.measure(reddest, samples, SMALL)
    assert found.tolist() == [True] * 9 + [False] * 3


def test_check_refuses_a_lower_top1() -> None:
    """The message has both numbers."""
    right = np.arange(12) < 9
    assert labelled_accuracy.check(right, least=0.75) == 0.75
    with pytest.raises(BuildError, match=r"top-1 on 12 images is 75.0%, below --min-accuracy 0.8; nothing was written"):
        labelled_accuracy.check(right, least=0.8)


def test_samples_reads_one_folder_per_class_without_a_file(folder: Path) -> None:
    """As the client's evaluation does."""
    for number, colour in enumerate(COLOURS):
        (folder / colour).mkdir()
        (folder / f"{number}.png").rename(folder / colour / "a.png")
    assert [sample.class_index for sample in labelled_accuracy.Request(folder).samples(COLOURS)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("labels", "message"), [(COLOURS[:2], "the model has no class 2"), (["yes"], "the negative class first")]
)
def test_samples_refuses_labels_that_do_not_fit(folder: Path, labels: list[str], message: str) -> None:
    """A class that the network does not have, or a network whose only class is always first."""
    with pytest.raises(UsageError, match=f"--accuracy-images.*{message}"):
        labelled_accuracy.Request(folder, folder / "labels.csv").samples(labels)


def test_check_finds_a_network_that_has_the_same_tensors(imagenet_sample) -> None:
    """With the other strides, real weights lose so much that the bound shows it."""
    found = load("keras-v1", cache=default_cache(), file_options=FileOptions(), report=lambda _: None)
    samples = [Sample(image.path, image.class_index) for image in imagenet_sample[::16]]
    networks = {arch: runner(ServedNetwork(load_network(arch, found.state_dict))) for arch in ("v1", "v1.5")}
    right = {
        arch: labelled_accuracy.measure(network, samples, found.preprocess_config) for arch, network in networks.items()
    }
    assert labelled_accuracy.check(right["v1"], least=0.86) > 0.86
    with pytest.raises(BuildError, match="dilation, anti-aliasing or another pooling"):
        labelled_accuracy.check(right["v1.5"], least=0.86)
