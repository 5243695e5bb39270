"""The command line: what it refuses, prints and returns."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "x.txt"), "are for a state dict from a file"),
        (("--checkpoint-key", "ema"), "are for a state dict from a file"),
        (("--arch", "v1"), "are for a state dict from a file"),
        (("--model-version", "0"), "--model-version must be at least 1"),
        (("--threads", "-1"), "--threads must be between 0 and 1024"),
        (("--queue-size", "5000000000"), "--queue-size must be between 0 and"),
        (("--instances", "65"), "--instances must be between 0 and 64"),
        (("--max-batch-size", "0"), "--max-batch-size must be between 1 and"),
        (("--preprocess-instances", "0"), "--preprocess-instances must be between 1 and"),
        (("--preferred-batch-size", "8"), "--preferred-batch-size 8 is above --max-batch-size 2"),
        (("--weights", "imagenet-v3"), "unknown weights 'imagenet-v3'; choose imagenet-v2"),
        (("--weights", "random:x"), "invalid weights 'random:x'"),
        (("--weights", "missing.pth"), "the weights file missing.pth does not exist"),
        (("--weights", __file__, "--labels", "missing.txt"), "the label file missing.txt cannot be read"),
        (("--weights", __file__, "--resize", "0"), "--resize 0: "),
        (("--weights", __file__, "--resize", "256", "--crop-pct", "0.9"), "give one of them"),
        (("--weights", __file__, "--crop-pct", "95"), "--crop-pct 95 must be above 0 and at most 1"),
        (("--weights", __file__, "--image-size", "16"), "--image-size 16 must be at least 32"),
        (("--weights", __file__, "--mean", "124", "116", "104"), "divide values for 0 to 255 by 255"),
        (("--mean", "0.5", "0.5", "0.5"), "--mean: these are for a state dict from a file"),
        (
            ("--variant", "int8", "--calibration-images", "missing"),
            "the folder missing of --calibration-images does not exist",
        ),
        (("--variant", "int8", "--calibration-images", "."), ". contains 0 images"),
        (("--variant", "fp16", "--calibration-images", "."), "--calibration-images requires --variant int8"),
        (("--accuracy-images", "missing"), "the folder missing of --accuracy-images does not exist"),
        (("--accuracy-labels", "labels.csv"), "--accuracy-labels and --min-accuracy need --accuracy-images"),
        (("--accuracy-images", ".", "--min-accuracy", "75"), "--min-accuracy must be between 0 and 1"),
        (("describe", "--classes", "0"), "--classes must be at least 1"),
    ],
)
def test_main_refuses_senseless_options(
    build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    """An option that would be ignored, or could not be served, is wrong usage, before anything is made."""
    monkeypatch.chdir(tmp_path)
    result = build(tmp_path / "repository", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_main_reports_a_repository_that_is_a_file(build, tmp_path: Path) -> None:
    """The error is a message, not a traceback."""
    (tmp_path / "file").touch()
    result = build(tmp_path / "file")
    assert result.returncode == 1
    assert "cannot be created" in result.stderr


def test_main_describes_the_network(build, tmp_path: Path) -> None:
    """The table has parameters, blocks and the cost."""
    result = build(tmp_path, "describe")
    assert result.returncode == 0
    assert "25,557,032" in result.stdout
    assert "8.18 GFLOPs" in result.stdout
