"""Reading samples and comparing models."""

import pytest
from resnet_client import Client, ConfigurationError, _evaluation

NAMES = {"crane": [134, 517], "tench": [0]}


def test_labels_come_from_a_file(tmp_path):
    """The columns `file` and `class_index` count, others do not."""
    (tmp_path / "labels.csv").write_text("file,class_index,name\na.jpg,3,x\n")
    samples = _evaluation.read_samples(tmp_path, tmp_path / "labels.csv", {})
    assert samples == [_evaluation.Sample(tmp_path / "a.jpg", 3)]


def test_labels_come_from_folders(tmp_path):
    """A folder is named by class index or by label."""
    for name in ("7", "tench"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    samples = _evaluation.read_samples(tmp_path, None, NAMES)
    assert [sample.class_index for sample in samples] == [7, 0]


@pytest.mark.parametrize(
    ("name", "sentence"), [("crane", "name the folder 134 or 517"), ("unicorn", "neither a class index nor")]
)
def test_unclear_folders_are_refused(tmp_path, name, sentence):
    """An ambiguous or unknown label says what to do."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.jpg").touch()
    with pytest.raises(ConfigurationError, match=sentence):
        _evaluation.read_samples(tmp_path, None, NAMES)


@pytest.mark.parametrize("content", ["file\na.jpg\n", "file,class_index\na.jpg,tench\n", "file,class_index\na.jpg\n"])
def test_unreadable_label_files_are_refused(tmp_path, content):
    """A missing column or a class that is no number is said."""
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ConfigurationError, match="columns file and class_index"):
        _evaluation.read_samples(tmp_path, tmp_path / "labels.csv", {})


def test_figures_are_right(transport, tmp_path):
    """Three photos, one hit, one miss, one failure: a third."""
    samples = []
    for content, truth in ((1, 1), (2, 9)):
        (tmp_path / f"{content}.png").write_bytes(bytes([content]))
        samples.append(_evaluation.Sample(tmp_path / f"{content}.png", truth))
    samples.append(_evaluation.Sample(tmp_path / "missing.png", 1))
    with Client() as client:
        evaluation = _evaluation.evaluate(client, samples, ["a", "b"], max_in_flight=2)
    assert evaluation.reports[0].top1 == pytest.approx(1 / 3)
    assert list(evaluation.reports[0].failures) == [str(tmp_path / "missing.png")]
    assert evaluation.agreement == {"a = b": 1.0}
