"""What a roll-out decides without a server: bounds, answers, pictures, folders, configurations, options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from resnet_client import (
    Classification,
    DeadlineExceededError,
    Outcome,
    Prediction,
    ResnetClientError,
    ResponseError,
    UnavailableError,
)
from resnet_serve.rollout import comparison, control, golden, main
from resnet_serve.rollout.comparison import Bounds, Likeness, Target, Times
from resnet_serve.rollout.errors import RefusedError, RolloutError
from resnet_serve.rollout.folders import Folders, read_artifact
from resnet_serve.rollout.plan import Plan
from resnet_serve.rollout.procedure import Rollout

ROOT = Path(__file__).resolve().parents[3]
BOUNDS = Bounds(min_agreement=0.75, max_p99_ratio=1.3)


class Answering:
    """A client that gives prepared probabilities, or an error."""

    def __init__(self, *answers: Sequence[float] | ResnetClientError) -> None:
        self._answers = answers

    def classify_many(self, pictures: Sequence[object], **_: object) -> Iterator[Outcome[Classification]]:
        """One prepared answer for each picture."""
        for picture, answer in zip(pictures, self._answers, strict=True):
            if isinstance(answer, ResnetClientError):
                yield Outcome(picture, error=answer)
            else:
                found = [Prediction(index, str(index), value) for index, value in enumerate(answer)]
                yield Outcome(picture, result=Classification(tuple(found), "network", "1"))


def ask(*answers: Sequence[float] | ResnetClientError) -> np.ndarray:
    """Ask for three classes."""
    return comparison.answers(Answering(*answers), Target("network", 2), [None] * len(answers), 3)


def test_answers_become_rows() -> None:
    """One row for each picture, one column for each class."""
    assert ask([0.7, 0.2, 0.1], [0.1, 0.2, 0.7]).tolist() == [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([0.5, 0.5], "2 classes instead of 3"),
        ([0.2, 0.2, 0.2, 0.4], "4 classes instead of 3"),
        ([3.0, 1.0, -2.0], "add up to 2.000 instead of 1"),
        ([float("nan")] * 3, "add up to nan instead of 1"),
        (ResponseError("the network could not run"), "the network could not run"),
        (DeadlineExceededError("no answer"), "does not answer"),
    ],
)
def test_what_is_no_classifier_of_these_classes_is_refused(
    answer: Sequence[float] | ResnetClientError, reason: str
) -> None:
    """Wrong classes, logits, not-a-number, errors, silence."""
    with pytest.raises(RefusedError, match=reason):
        ask(answer)


def test_a_lost_server_is_no_fault_of_the_version() -> None:
    """The roll-out ends without a verdict."""
    with pytest.raises(RolloutError, match="broke off"):
        ask(UnavailableError("nobody there"))


def test_likeness_is_held_to_its_bound() -> None:
    """Three of four agree: enough for 0.75, too little for more."""
    ours = np.eye(4)
    theirs = ours[[0, 1, 2, 2]]
    likeness = Likeness.of(ours, theirs)
    assert likeness == Likeness(agreement=0.75, largest_difference=1.0, pictures=4)
    likeness.check(BOUNDS)
    with pytest.raises(RefusedError, match=r"agrees on 75\.0 % of the pictures, and 99 % are asked for"):
        likeness.check(Bounds(0.99, 1.3))


def test_times_are_held_to_their_bound() -> None:
    """Only the 99th percentile decides."""
    Times(old_p50_s=0.1, new_p50_s=0.9, old_p99_s=1.0, new_p99_s=1.3).check(BOUNDS)
    with pytest.raises(RefusedError, match=r"take 1\.40 times as long, and 1\.3 times are allowed"):
        Times(old_p50_s=0.1, new_p50_s=0.1, old_p99_s=1.0, new_p99_s=1.4).check(BOUNDS)


def test_the_table_aligns() -> None:
    """What a person reads before the verdict."""
    rows = [
        comparison.row("", "version 1", "version 2"),
        Likeness(0.99, 0.0125, 100).table(BOUNDS),
        Times(0.0451, 0.046, 0.0603, 0.061).table(BOUNDS),
    ]
    assert "\n".join(rows) == (
        "                         version 1   version 2\n"
        "  same top-1                            99.0 %   of 100 pictures, at least 75 %\n"
        "  largest difference                  0.012500   of a probability\n"
        "  p50                      45.1 ms     46.0 ms\n"
        "  p99                      60.3 ms     61.0 ms   1.01 times, at most 1.3"
    )


def test_shipped_pictures_are_always_the_same() -> None:
    """As many as asked for, all different, the short side as the recipe wants it before its crop."""
    found = golden.pictures(None, side=64, count=40)
    golden.pictures.cache_clear()
    again = golden.pictures(None, side=64, count=40)
    assert all(np.array_equal(one, two) for one, two in zip(found, again, strict=True))
    assert {min(picture.shape[:2]) for picture in found} == {64}
    assert len({picture.tobytes() for picture in found}) == 40


def test_a_folder_is_sampled_evenly(tmp_path: Path) -> None:
    """Folders of classes come in turn; fewer photos than asked for are all taken; none is an error."""
    for number in range(10):
        folder = tmp_path / f"class_{number}"
        folder.mkdir()
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "photo.png")
    reds = [int(picture[0, 0, 0]) for picture in golden.pictures(tmp_path, side=16, count=5)]
    assert reds == [0, 2, 4, 6, 8]
    assert len(golden.pictures(tmp_path, side=16, count=100)) == 10
    (tmp_path / "class_0/photo.png").write_bytes(b"no photo")
    with pytest.raises(RolloutError, match=r"photo\.png cannot be read"):
        golden.pictures(tmp_path, side=16, count=3)
    with pytest.raises(RolloutError, match="no photo in"):
        golden.pictures(tmp_path / "nowhere", side=16, count=3)


def test_a_version_is_set_aside_under_a_name_without_a_number_in_front(tmp_path: Path) -> None:
    """Triton reads ``2.refused`` as version 2; what was set aside before stays."""
    folders = Folders(tmp_path, "network")
    for name in ("refused-2", "refused-2-2"):
        folder = tmp_path / "network/2"
        folder.mkdir(parents=True)
        assert f"is now {name}," in folders.set_aside(2)
        assert not folder.exists()
        assert (tmp_path / "network" / name).is_dir()
    assert folders.versions() == []


def test_a_version_is_published_whole(tmp_path: Path) -> None:
    """A file becomes a version's folder; nothing else is left."""
    (tmp_path / "network").mkdir()
    (tmp_path / "new.onnx").write_bytes(b"network")
    folders = Folders(tmp_path, "network")
    folders.publish(read_artifact(tmp_path / "new.onnx", "model.onnx", 2), 2)
    assert folders.versions() == [2]
    assert folders.files(2) == {"2/model.onnx": b"network"}
    assert folders.files(3) is None
    assert [path.name for path in (tmp_path / "network").iterdir()] == ["2"]


def test_a_repository_elsewhere_has_no_folders() -> None:
    """Nothing is found, and who needs a path is told the option."""
    folders = Folders(None, "network")
    assert not folders.are_here
    assert folders.versions() == []
    with pytest.raises(RolloutError, match="--repository"):
        folders.path(1)


CONFIG = {
    "name": "network",
    "runtime": "model.py",
    "version_policy": {"latest": {"num_versions": 2}},
    "output": [{"name": "PROBABILITIES__0", "dims": ["3"], "label_filename": "labels.txt"}],
    "instance_group": [{"kind": "KIND_GPU", "gpus": [0]}, {"kind": "KIND_CPU"}],
    "model_warmup": [{"name": f"batch_{size}", "batch_size": size} for size in (1, 2, 4, 8)],
}


def test_a_copy_insists_on_nothing_that_is_not_sent_along() -> None:
    """No labels, no GPU that Triton chose itself, warmed for what the comparison sends; the original stays."""
    copy = control.copied(CONFIG, "network_candidate", 2)
    assert copy["name"] == "network_candidate"
    assert copy["version_policy"] == {"specific": {"versions": [2]}}
    assert copy["output"] == [{"name": "PROBABILITIES__0", "dims": ["3"]}]
    assert copy["instance_group"] == [{"kind": "KIND_AUTO", "gpus": [0]}, {"kind": "KIND_CPU"}]
    assert [warmup["batch_size"] for warmup in copy["model_warmup"]] == [1, 2, 4]
    assert CONFIG["output"][0]["label_filename"] == "labels.txt"


def test_pinned_versions_change_nothing_else() -> None:
    """Otherwise versions that are in service would be loaded again."""
    pinned = control.pinned(CONFIG, (1, 2))
    assert pinned.pop("version_policy") == {"specific": {"versions": [1, 2]}}
    assert pinned == {key: value for key, value in CONFIG.items() if key not in ("runtime", "version_policy")}


def test_only_ensembles_without_a_pin_follow_the_switch() -> None:
    """A step that names its version keeps it."""
    free = {"ensemble_scheduling": {"step": [{"model_name": "network", "model_version": "-1"}]}}
    held = {"ensemble_scheduling": {"step": [{"model_name": "network", "model_version": "1"}]}}
    assert control.takes_highest(free, "network")
    assert not control.takes_highest(free, "another")
    assert not control.takes_highest(held, "network")
    assert not control.takes_highest(CONFIG, "network")


def test_a_config_without_a_recipe_is_told() -> None:
    """Which pictures fit is written there."""
    with pytest.raises(RolloutError, match="holds no recipe"):
        control.recipe_side(CONFIG)


@pytest.mark.parametrize("url", ["http://localhost:8000", "grpc://a:8001,grpc://b:8001"])
def test_only_one_server_and_only_grpc(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage: exit code 2, and why."""
    assert main(["--model-version", "2", "--url", url]) == 2
    assert "must be the gRPC address of one server" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3."""
    assert main(["--model-version", "2", "--url", "grpc://127.0.0.1:1"]) == 3
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model-version", "0"],
        ["--model-version", "2", "--min-agreement", "99"],
        ["--model-version", "2", "--max-p99-ratio", "nan"],
        ["--model-version", "2", "--calls", "0"],
        ["--model-version", "2", "--repository", "/nowhere"],
        ["--model-version", "2", "--artifact", "/nowhere/model.onnx"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before any server is asked."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: resnet-serve rollout" in capsys.readouterr().err


def test_documented_options_are_the_real_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option is told on the page, and no other is; --weights is resnet-build's, in an example."""
    option = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    page = (ROOT / "docs/rollout.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert set(option.findall(table)) == set(option.findall(capsys.readouterr().out)) - {"--help", "--weights"}


class Stuck:
    """A server that does not take one model back."""

    url = "grpc://localhost:8001"

    def __init__(self, model: str) -> None:
        self.model, self.loaded = model, list[str]()

    def load(self, model: str, _: object) -> None:
        """Load, or time out."""
        self.loaded.append(model)
        if model == self.model:
            raise RolloutError("no answer within 300 s")


def test_one_network_that_is_stuck_keeps_no_other_from_going_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is tried, what was refused is set aside, and the sentence names the one that needs a person."""
    plans = []
    for model in "ab":
        for version in (1, 2):
            (tmp_path / model / str(version)).mkdir(parents=True)
        config = {"name": model, "version_policy": {}}
        plans.append(Plan(config, Folders(tmp_path, model), old=1, new=2, files={}))

    def switch(_: Rollout, plan: Plan, __: object) -> None:
        if plan.model == "b":
            raise RefusedError("it does not answer as version 2 did")

    monkeypatch.setattr(Rollout, "_switch", switch)
    server, said = Stuck("a"), list[str]()
    rollout = Rollout(server, None, SimpleNamespace(dry_run=False), said.append)
    with pytest.raises(RolloutError, match="version 1 of a could not be taken back into service"):
        rollout._switch_all(plans, [None, None])
    assert server.loaded == ["a", "b"]
    assert not [path for model in "ab" if (path := tmp_path / model / "2").exists()]
    assert "b: version 2 is refused: it does not answer as version 2 did" in said
    assert not [line for line in said if "stays in service" in line]


def test_what_was_published_for_a_switch_that_broke_off_is_set_aside(tmp_path: Path) -> None:
    """The next start serves the old version, and the same command may be given again."""
    (tmp_path / "a/1").mkdir(parents=True)
    plan = Plan({"name": "a"}, Folders(tmp_path, "a"), old=1, new=2, files={"2/model.onnx": b"new"})
    options = SimpleNamespace(dry_run=False, artifact=Path("new.onnx"))
    with pytest.raises(RolloutError, match="could not be taken back"):
        Rollout(Stuck("a"), None, options, list[str]().append)._switch_all([plan], [None])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["1", "refused-2"]
