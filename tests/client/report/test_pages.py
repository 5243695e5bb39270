"""The pages of `evaluate --report` and `classify --html`, of the real server."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_client import evaluate
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.report import evaluation as evaluation_page
from resnet_client.results import Prediction

MODELS = ("resnet50", "resnet50_torchscript")
CLASSES = {"cat": 285, "coffee": 967, "rocket": 0}  # the rocket's is wrong
TILE = re.compile(r'<div class="tile"><span>(.*?)</span><strong>(.*?)</strong><small>(.*?)</small>')
ROW = re.compile(r"<tr>(<td.*?)</tr>")
CARD = re.compile(r"<figure>(.*?)</figure>", re.DOTALL)
HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=alert(1)>"


def rows(page):
    """The cells of all tables' rows."""
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in ROW.findall(page)]


@pytest.fixture(scope="module")
def evaluated(all_models, images, tmp_path_factory):
    """What the command printed as JSON, and its page."""
    folder = tmp_path_factory.mktemp("evaluated")
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file", "class_index"], *((images[name], index) for name, index in CLASSES.items())]
        )
    command = [Path(sys.executable).with_name("resnet-client"), "evaluate", folder, "--labels", folder / "labels.csv"]
    command += [word for model in MODELS for word in ("--model", model)]
    command += ["--url", all_models.grpc_url, "--json", "--report", folder / "page.html"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return json.loads(printed), folder / "page.html"


def test_evaluate_report_has_the_numbers_of_the_command(evaluated):
    """Tiles and tables show what `--json` prints."""
    printed, path = evaluated
    page = path.read_text()
    tiles = {name: (value, note) for name, value, note in TILE.findall(page)}
    for report in printed["reports"]:
        for name in ("top1", "top5"):
            low, high = report[f"{name}_interval"]
            expected = f"{report[name]:.2%}", f"95 % interval: {low:.2%} to {high:.2%}"
            assert tiles[f"top-{name[-1]}, {report['model']}"] == expected
        assert tiles[f"calibration error, {report['model']}"][0] == f"{report['calibration_error']:.4f}"
        latency = [f"{report['latency_ms'][name]:.1f}" for name in ("p50", "p95", "p99")]
        accuracy = [f"{report['top1']:.4f}", f"{report['top5']:.4f}", f"{report['images_per_s']:.1f}"]
        assert [report["model"], "3", "0", *accuracy, *latency] in rows(page)
    (compared,) = printed["comparisons"]
    assert [" and ".join(MODELS), f"{compared['agreement']:.4f}", "0", "0", "+0.00"] in [row[:5] for row in rows(page)]


def test_evaluate_report_shows_the_mistake(evaluated):
    """The rocket that is labelled as a tench, once for each model, its class, and the pair of classes."""
    page = evaluated[1].read_text()
    cards = CARD.findall(page)
    assert len(cards) == 2
    for card in cards:
        assert '<img src="data:image/webp;base64,' in card
        assert "true class: tench (0)" in card
        assert 'class="bar bad"' in card
    assert ["tench (0) → drilling platform (540)", "1", "1"] in rows(page)
    assert ["tench (0)", "0 of 1", "0 of 1"] in rows(page)
    assert ["Egyptian cat (285)", "1 of 1", "1 of 1"] in rows(page)


def evaluation_of(path, *predictions):
    """An evaluation of one image, of class 1, by the models `a`, `b`, …; each finds one class."""
    models = dict(zip("abc", ([(Prediction(*found),)] for found in predictions), strict=False))
    sample = evaluate.Sample(path, 1)
    reports = [evaluate.ModelReport(model, 1, {}, 0, (0, 1), 1, (0, 1), 0, 1, {}) for model in models]
    found = [(1, *(each[0][0].index for each in models.values()))]
    return evaluate.Evaluation([sample], models, reports, [evaluate.compare("a", "b", found)])


def test_evaluate_report_shows_where_models_differ(images, tmp_path):
    """With the class of each, marked as right or wrong."""
    evaluation = evaluation_of(images["cat"], (1, "cat", 0.9), (2, "dog", 0.5))
    evaluation_page.page(evaluation, {"cat": [1], "dog": [2]}, "here").write(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    card, _ = CARD.findall(page)  # the second is a mistake of b
    assert re.findall(r'<small>(.)</small>\s*<div class="bar (\w+)">.*?<b>(.*?)</b>', card) == [
        ("a", "good", "90.0 %"),
        ("b", "bad", "50.0 %"),
    ]
    assert ["a and b", "0.0000", "1", "0", "+100.00"] in [row[:5] for row in rows(page)]


def test_page_escapes_labels_and_names(tmp_path):
    """In text, in attributes and in the charts' JSON; a name that is not UTF-8 can be written."""
    evaluation = evaluation_of(tmp_path / f"\udcff{HOSTILE}", (1, HOSTILE, 0.9), (2, HOSTILE, 0.5))
    evaluation_page.page(evaluation, {HOSTILE: [1, 2]}, HOSTILE).write(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script>") == 3
    assert "<img" not in page


def test_evaluate_reports_real_images(server, imagenet_sample, tmp_path, capsys):
    """Every tenth image of the sample; most classes are right."""
    folder = imagenet_sample[0].path.parent
    table = tmp_path / "labels.csv"
    table.write_text(
        "\n".join(["file,class_index", *(f"{s.path.name},{s.class_index}" for s in imagenet_sample[::10])])
    )
    page = tmp_path / "page.html"
    options = ["--labels", str(table), "--report", str(page), "--json", "--url", server.grpc_url]
    assert main(["evaluate", str(folder), *options]) == ExitCode.OK
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["top1"] >= 0.85
    assert dict(tile[:2] for tile in TILE.findall(page.read_text()))["top-1, resnet50"] == f"{report['top1']:.2%}"


def test_classify_html_shows_images_with_their_classes(server, images, tmp_path, capsys):
    """Next to the usual output; a failed image has its reason, and nothing is loaded from elsewhere."""
    paths = [str(images["cat"]), str(tmp_path / "missing.jpg")]
    command = ["classify", *paths, "--top-k", "3", "--html", str(tmp_path / "page.html"), "--url", server.grpc_url]
    assert main(command) == ExitCode.SOME_FAILED
    shown = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    page = (tmp_path / "page.html").read_text()
    cat, missing = CARD.findall(page)
    bars = re.findall(r'<span title="(.*?) \((\d+)\)">.*?<b>(.*?)</b>', cat)
    assert bars == [(label, index, f"{100 * float(p):.1f} %") for _, _, index, label, p, _ in shown[:3]]
    assert 'src="data:image/webp;base64,' in cat
    assert f"{paths[1]}: there is no such file" in missing
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import', page)


@pytest.mark.parametrize("package", ["jinja2", "plotly"])
@pytest.mark.parametrize("command", [["evaluate", "--report"], ["classify", "--html"]])
def test_command_names_the_missing_extra(command, package, monkeypatch, capsys):
    """With the command that installs it, before any image is sent."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        main([*command, "page.html", "images"])
    assert ended.value.code == ExitCode.USAGE
    assert f"{package} is not installed: pip install '.[report]' in the project's folder" in capsys.readouterr().err
