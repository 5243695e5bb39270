"""Reading samples and comparing models."""

import pytest
from resnet_client import Client, ConfigurationError, ImageError, evaluate

NAMES = {"crane": [134, 517], "tench": [0], "tiger shark": [3], "cock": [7]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_read_samples_takes_classes_from_a_file(tmp_path, encoding):
    """The columns `file` and `class_index` count, others do not."""
    (tmp_path / "labels.csv").write_text("file,class_index,name\na.jpg,3,x\n", encoding=encoding)
    samples = evaluate.read_samples(tmp_path, tmp_path / "labels.csv", NAMES)
    assert samples == [evaluate.Sample(tmp_path / "a.jpg", 3)]


def folder_of(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_read_samples_takes_classes_from_folders(tmp_path):
    """A folder is named by class index or by label."""
    samples = evaluate.read_samples(folder_of(tmp_path, ["7/a.jpg", "tench/a.jpg"]), None, NAMES)
    assert [sample.class_index for sample in samples] == [7, 0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["crane/a.jpg"], "name the folder 134 or 517"),
        (["unicorn/a.jpg"], "neither a class index nor"),
        (["7/notes.txt"], "names no image; expected one folder per class, named by its index"),
        (["7/x", "a.jpg"], "names no image; .* or --labels FILE"),
    ],
)
def test_read_samples_refuses_folders_without_classes(tmp_path, names, message):
    with pytest.raises(ConfigurationError, match=message):
        evaluate.read_samples(folder_of(tmp_path, names), None, NAMES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,class_index\n", "labels.csv names no image"),
        ("file;class_index\na.jpg;3\n", "needs the columns file and class_index, .* with commas between"),
        ("file,class_index\na.jpg,3\nb.jpg,tench\n", "line 3: class_index must be an integer, not 'tench'"),
        ("file,class_index\na.jpg\n", "line 2: class_index must be an integer, not None"),
        ("file,class_index\na.jpg,-1\n", "no class -1, only 0 to 517"),
        ("file,class_index\na.jpg,1000\n", "no class 1000, only 0 to 517"),
        (f"file,class_index\n{'a' * 200_000},3\n", "field larger than field limit"),
    ],
)
def test_read_samples_refuses_invalid_label_files(tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        evaluate.read_samples(tmp_path, tmp_path / "labels.csv", NAMES)


def test_evaluate_counts_failures_apart_from_misses(stub, tmp_path):
    """A failed image is neither right nor wrong."""
    samples = []
    for content, truth in ((1, 1), (2, 9)):
        (tmp_path / f"{content}.png").write_bytes(bytes([content]))
        samples.append(evaluate.Sample(tmp_path / f"{content}.png", truth))
    samples.append(evaluate.Sample(tmp_path / "missing.png", 1))
    with Client() as client:
        evaluation = evaluate.evaluate(client, samples, ["a", "b"], max_in_flight=2)
    assert evaluation.reports[0].top1 == 0.5
    assert list(evaluation.reports[0].failures) == [str(tmp_path / "missing.png")]
    assert [(each.first, each.second, each.agreement) for each in evaluation.comparisons] == [("a", "b", 1.0)]


def test_evaluate_raises_the_reason_if_all_images_fail(stub, tmp_path):
    """There is nothing to report."""
    with Client() as client, pytest.raises(ImageError, match="no such file"):
        evaluate.evaluate(client, [evaluate.Sample(tmp_path / "missing.png", 1)], ["a"], max_in_flight=1)
