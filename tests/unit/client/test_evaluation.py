"""Reading samples and comparing models."""

import pytest
from resnet_client import Client, ConfigurationError, evaluate

NAMES = {"crane": [134, 517], "tench": [0], "tiger shark": [3], "cock": [7]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_come_from_a_file(tmp_path, encoding):
    """The columns `file` and `class_index` count, others do not."""
    (tmp_path / "labels.csv").write_text("file,class_index,name\na.jpg,3,x\n", encoding=encoding)
    samples = evaluate.read_samples(tmp_path, tmp_path / "labels.csv", NAMES)
    assert samples == [evaluate.Sample(tmp_path / "a.jpg", 3)]


def test_labels_come_from_folders(tmp_path):
    """A folder is named by class index or by label."""
    for name in ("7", "tench"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    samples = evaluate.read_samples(tmp_path, None, NAMES)
    assert [sample.class_index for sample in samples] == [7, 0]


@pytest.mark.parametrize(
    ("name", "sentence"), [("crane", "name the folder 134 or 517"), ("unicorn", "neither a class index nor")]
)
def test_unclear_folders_are_refused(tmp_path, name, sentence):
    """An ambiguous or unknown label says what to do."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.jpg").touch()
    with pytest.raises(ConfigurationError, match=sentence):
        evaluate.read_samples(tmp_path, None, NAMES)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "there is no photo in .*; expected one folder per class"),
        (("a.jpg",), "has 1 photo, but no folders of classes; expected one folder per class, named by its index or"),
        (("a.jpg", "b.png", "notes.txt"), "has 2 photos, but no folders of classes; .* or --labels FILE"),
    ],
)
def test_photos_without_classes_are_no_empty_folder(tmp_path, names, sentence):
    """The sentence says what is missing."""
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "7").mkdir()
    with pytest.raises(ConfigurationError, match=sentence):
        evaluate.read_samples(tmp_path, None, NAMES)


def test_labels_of_nothing_are_refused(tmp_path):
    """A file that names no photo is not a folder's fault."""
    (tmp_path / "a.jpg").touch()
    (tmp_path / "labels.csv").write_text("file,class_index\n")
    with pytest.raises(ConfigurationError, match="labels.csv names no photo"):
        evaluate.read_samples(tmp_path, tmp_path / "labels.csv", NAMES)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "needs the columns .* lacks class_index and file"),
        ("file\na.jpg\n", "needs the columns .* lacks class_index"),
        ("file;class_index\na.jpg;3\n", "separated by commas"),
        ("file,class_index\na.jpg,3\nb.jpg,tench\n", "line 3: class_index must be an integer, not 'tench'"),
        ("file,class_index\na.jpg\n", "line 2: class_index must be an integer, not None"),
        ("file,class_index\na.jpg,-1\n", "no class -1, only 0 to 517"),
        ("file,class_index\na.jpg,1000\n", "no class 1000, only 0 to 517"),
        (f"file,class_index\n{'a' * 200_000},3\n", "field larger than field limit"),
    ],
)
def test_unreadable_label_files_are_refused(tmp_path, content, sentence):
    """A missing column, a class that is none and a field without end are said."""
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ConfigurationError, match=sentence):
        evaluate.read_samples(tmp_path, tmp_path / "labels.csv", NAMES)


def test_the_clients_version_counts_for_every_model(transport, tmp_path):
    """Class names and classifications ask for the version the client was given."""
    (tmp_path / "1.png").write_bytes(b"\x01")
    with Client(model_version="99") as client:
        evaluate.class_names(client, "a")
        evaluate.evaluate(client, [evaluate.Sample(tmp_path / "1.png", 1)], ["a", "b"], max_in_flight=1)
    assert [(request.model, request.model_version) for request, _ in transport.sent] == [
        ("a", "99"),
        ("a", "99"),
        ("b", "99"),
    ]


def test_figures_are_right(transport, tmp_path):
    """Three photos, one hit, one miss, one failure: a third."""
    samples = []
    for content, truth in ((1, 1), (2, 9)):
        (tmp_path / f"{content}.png").write_bytes(bytes([content]))
        samples.append(evaluate.Sample(tmp_path / f"{content}.png", truth))
    samples.append(evaluate.Sample(tmp_path / "missing.png", 1))
    with Client() as client:
        evaluation = evaluate.evaluate(client, samples, ["a", "b"], max_in_flight=2)
    assert evaluation.reports[0].top1 == pytest.approx(1 / 3)
    assert list(evaluation.reports[0].failures) == [str(tmp_path / "missing.png")]
    assert evaluation.agreement == {"a = b": 1.0}
