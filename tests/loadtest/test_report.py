"""The page, JUnit XML and the terminal summary."""

import io
import re

import numpy as np
import pytest
from resnet_loadtest.__main__ import main
from resnet_loadtest.options import Options
from resnet_loadtest.report import charts, page, summary, write
from resnet_loadtest.samples import Status
from resnet_loadtest.search import Bracket, Result, Trial
from rich.console import Console

from .conftest import run_of, samples_of, step_of

BACKGROUND = "getComputedStyle(document.querySelector('.chart .main-svg')).backgroundColor"
HOSTILE = '</script><script>document.title="run"</script><img src=x onerror=alert(1)>{{ verdict }}'


@pytest.fixture
def run():
    """A steps run with some failures, some unsent requests, and an objective that is not met."""
    statuses = [Status.OVERLOADED] * 5 + [Status.OK] * 990 + [Status.CAPPED] * 5
    samples = samples_of(np.linspace(0.01, 0.5, 1000), statuses=statuses)
    samples["sent_s"][-5:] = samples["done_s"][-5:] = np.nan
    options = Options(rate=100.0, duration_s=10.0, slo="p99<=100ms,error_rate<=2%", profile="steps")
    return run_of(samples, options=options)


def test_write_leaves_three_files(run, tmp_path):
    """JSON, HTML and XML, in which an objective that is not met is a failure; a search has no XML."""
    written = write(run, tmp_path / "new", "night")
    assert [path.name for path in written] == ["night.json", "night.html", "night.xml"]
    assert 'tests="3" failures="1" errors="0"' in written[2].read_text()
    trials = [Trial(1, 105.0, run), Trial(1, 95.0, run)]
    written += write(Result(run.options, trials, [Bracket(95.0, 105.0)]), tmp_path / "new", "search")
    assert [path.name for path in written[3:]] == ["search.json", "search.html"]
    assert all(path.stat().st_size for path in written)


def test_reports_of_a_hostile_and_invalid_run(tmp_path):
    """Names are escaped in text, attributes and charts; JUnit has an error; the address shown is that of the mix."""
    names = {"model": HOSTILE, "name": HOSTILE, "mix": "EmbedHttp", "url": "grpc://far:8001"}
    options = Options(rate=100.0, duration_s=10.0, **names)
    run = run_of(samples_of([0.01] * 500, late_s=1.0), options=options, steps={HOSTILE: step_of(HOSTILE, 500)})
    console = Console(record=True, width=400, file=io.StringIO())
    summary.print_summary(run, console)
    assert "at http://far:8000" in console.export_text()
    _, html, junit = write(run, tmp_path, "run")
    text = html.read_text()
    assert text.count("</script>") == 3
    assert "<img" not in text
    assert "&lt;script&gt;document.title=&#34;run&#34;&lt;/script&gt;" in text
    assert r"\u003c/script\u003e\u003cscript\u003edocument.title" in text
    assert "http://far:8000" in text.partition("</header>")[0]
    assert 'tests="1" failures="0" errors="1"' in junit.read_text()


def test_charts_have_failures_by_reason_and_batches_by_stage(run):
    """Each reason is a series; each stage of each model a bar, whose parts add up to all batches."""
    made = {chart["title"]: chart["traces"] for chart in charts.of_run(run)}
    images = {trace["name"]: sum(trace["y"]) for trace in made["Throughput and failures"]}
    assert images[Status.OVERLOADED.description] == images[Status.CAPPED.description] == 5
    assert images["offered"] == 1000
    batches = made["Executed batches"]
    assert batches[0]["y"] == [["resnet50"] * 5, [f"step {percent} %" for percent in (20, 40, 60, 80, 100)]]
    assert [sum(shares) for shares in zip(*(trace["x"] for trace in batches), strict=True)] == [100] * 5


def test_comparison_has_a_verdict_for_each_metric(run, tmp_path):
    """`compare` writes the page next to the second file."""
    write(run, tmp_path, "before")
    slow = run_of(samples_of(np.linspace(0.1, 5, 1000)), options=run.options)
    write(slow, tmp_path, "after")
    assert main(["compare", str(tmp_path / "before.json"), str(tmp_path / "after.json")]) == 1
    text = (tmp_path / "before-after.html").read_text()
    rows = re.findall(r"<tr><td>(\w+)</td>.*?<td[^>]*>([^<]*)</td></tr>", text)
    assert [name for name, _ in rows] == ["p50", "p95", "p99", "throughput", "failed"]
    assert dict(rows)["p50"] == "worse"
    assert "REGRESSION" in text


def test_page_in_a_browser(run, tmp_path, browser):
    """Every chart is drawn within the width of a telephone, light and then dark."""
    page.write_run(run, tmp_path / "run.html")
    tab = browser.new_page(color_scheme="light", viewport={"width": 390, "height": 844})
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto((tmp_path / "run.html").as_uri())
    assert tab.locator(".chart .main-svg .cartesianlayer").count() == 7
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.wait_for_function(f"{BACKGROUND} == 'rgb(255, 255, 255)'")
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function(f"{BACKGROUND} == 'rgb(30, 33, 37)'")
    assert problems == []
