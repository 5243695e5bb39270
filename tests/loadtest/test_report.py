"""The page, JUnit XML and the terminal summary."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from resnet_loadtest.__main__ import main
from resnet_loadtest.compare import compare
from resnet_loadtest.options import Options
from resnet_loadtest.report import charts, page, summary, write_all, write_search
from resnet_loadtest.samples import Status
from resnet_loadtest.search import Result, Trial
from rich.console import Console

from .conftest import run_of, samples_of, step_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
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


@pytest.fixture
def hostile_run():
    """A run in which every name from outside tries to become an element or a script."""
    options = Options(rate=100.0, duration_s=10.0, model=HOSTILE, name=HOSTILE)
    return run_of(samples_of([0.01] * 500), options=options, steps={HOSTILE: step_of(HOSTILE, 500)})


def search_of(run):
    """A search with one trial."""
    return Result(run.options, [Trial(1, 100.0, run)], (100.0, 95.0, 105.0), "")


def test_write_all_leaves_three_files(run, tmp_path):
    """JSON, HTML and XML of one name, in a folder that it creates; a search has no XML."""
    written = write_all(run, tmp_path / "new", "night")
    assert [path.name for path in written] == ["night.json", "night.html", "night.xml"]
    written += write_search(search_of(run), tmp_path / "new", "search")
    assert [path.name for path in written[3:]] == ["search.json", "search.html"]
    assert all(path.stat().st_size for path in written)


def test_junit_distinguishes_failed_from_invalid(run, tmp_path):
    """An objective that is not met is a failure, a warning an error."""
    write_all(run, tmp_path, "failed")
    assert 'tests="3" failures="1" errors="0"' in (tmp_path / "failed.xml").read_text()
    write_all(run_of(samples_of([0.01] * 10, late_s=1.0)), tmp_path, "invalid")
    assert 'tests="1" failures="0" errors="1"' in (tmp_path / "invalid.xml").read_text()


def test_page_needs_nothing_from_elsewhere(run, tmp_path):
    """No element loads anything; Plotly is in the page once."""
    page.write_run(run, tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    outside_scripts = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=|url\(|@import", outside_scripts)
    assert text.count("plotly.js v") == 1
    assert all(each in outside_scripts for each in ("FAIL", "step 100 %", "Inside the server", "Bottleneck:"))


def test_summary_and_page_show_the_address_that_was_used(tmp_path):
    """That of HTTP for a mix over HTTP, although --url names the gRPC port."""
    options = Options(rate=100.0, duration_s=10.0, mix="BatchHttp", url="grpc://far:8001")
    run = run_of(samples_of([0.01] * 500), options=options)
    console = Console(record=True, width=140, file=io.StringIO())
    summary.print_summary(run, console)
    page.write_run(run, tmp_path / "run.html")
    header = (tmp_path / "run.html").read_text().partition("</header>")[0]
    for text in (console.export_text(), header):
        assert "http://far:8000" in text
        assert "grpc://far" not in text


def test_page_escapes_names(hostile_run, tmp_path):
    """In text, in attributes and in the charts' JSON: the page has its own three scripts and no other element."""
    page.write_run(hostile_run, tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert text.count("</script>") == 3
    assert "<img" not in text
    assert "&lt;script&gt;document.title=&#34;run&#34;&lt;/script&gt;" in text
    assert r"\u003c/script\u003e\u003cscript\u003edocument.title" in text


def test_charts_have_failures_by_reason_and_batches_by_stage(run):
    """Each reason is a series; each stage of each model a bar, whose parts add up to all batches."""
    made = {chart["title"]: chart["traces"] for chart in charts.of_run(run)}
    reasons = {trace["name"]: sum(filter(None, trace["y"])) for trace in made["Failures by reason"]}
    assert reasons == {Status.OVERLOADED.description: 5, Status.CAPPED.description: 5}
    batches = made["Executed batches"]
    assert batches[0]["y"] == [["resnet50"] * 5, [f"step {percent} %" for percent in (20, 40, 60, 80, 100)]]
    assert [sum(shares) for shares in zip(*(trace["x"] for trace in batches), strict=True)] == [100] * 5


def test_comparison_has_a_verdict_for_each_metric(run, tmp_path):
    """`compare` writes the page next to the second file."""
    write_all(run, tmp_path, "before")
    slow = run_of(samples_of(np.linspace(0.1, 5, 1000)), options=run.options)
    write_all(slow, tmp_path, "after")
    assert main(["compare", str(tmp_path / "before.json"), str(tmp_path / "after.json")]) == 1
    text = (tmp_path / "before-after.html").read_text()
    rows = re.findall(r"<tr><td>(\w+)</td>.*?<td[^>]*>([^<]*)</td></tr>", text)
    assert [name for name, _ in rows] == ["p50", "p95", "p99", "throughput", "failed"]
    assert dict(rows)["p50"] == "worse"
    assert "REGRESSION" in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)")
def test_pages_in_a_browser(run, hostile_run, tmp_path):
    """Every chart is drawn, light and then dark; nothing is fetched, and no script from outside runs."""
    from playwright.sync_api import sync_playwright

    page.write_run(run, tmp_path / "run.html")
    page.write_run(hostile_run, tmp_path / "hostile.html")
    page.write_search(search_of(run), tmp_path / "search.html")
    page.write_comparison(compare(run, run), tmp_path / "comparison.html")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, charts in (("run", 9), ("hostile", 7), ("search", 2), ("comparison", 2)):
            tab = browser.new_page(color_scheme="light", viewport={"width": 390, "height": 844})
            problems, requests = [], []
            tab.on("pageerror", lambda error, problems=problems: problems.append(str(error)))
            tab.on("dialog", lambda dialog, problems=problems: problems.append(dialog.message))
            tab.on("request", lambda request, requests=requests: requests.append(request.url))
            tab.goto(Path(tmp_path, f"{name}.html").as_uri())
            assert tab.locator(".chart .main-svg .cartesianlayer").count() == charts
            assert tab.title().startswith("resnet50" if name != "hostile" else "</script>")
            assert tab.evaluate("document.documentElement.scrollWidth") == 390
            tab.wait_for_function(f"{BACKGROUND} == 'rgb(255, 255, 255)'")
            tab.emulate_media(color_scheme="dark")
            tab.wait_for_function(f"{BACKGROUND} == 'rgb(30, 33, 37)'")
            assert (problems, len(requests)) == ([], 1)
        browser.close()
