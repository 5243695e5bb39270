"""JSON, JUnit XML and the page."""

import io
import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from resnet_loadtest.options import Options
from resnet_loadtest.report import document, junit, page, run_page, terminal
from resnet_loadtest.samples import Fate, decode, encode
from resnet_loadtest.verdict import Verdict
from rich.console import Console

from .conftest import samples_of


@pytest.fixture
def run(make_run):
    """A steps run with some failures, some unsent, and a missed objective."""
    fates = [Fate.OVERLOADED] * 5 + [Fate.OK] * 990 + [Fate.CAPPED] * 5
    samples = samples_of(np.linspace(0.01, 0.5, 1000), fates=fates)
    samples["sent_s"][-5:] = samples["done_s"][-5:] = np.nan
    options = Options(rate=100.0, duration_s=10.0, slo="p99<=100ms,error_rate<=2%", profile="steps")
    return make_run(samples, options=options)


def test_the_full_sample_travels_exactly(run):
    """Through JSON and back, bit by bit."""
    again = decode(json.loads(json.dumps(encode(run.samples))))
    assert again.tobytes() == run.samples.tobytes()


def test_a_report_is_read_back_as_the_same_run(run, tmp_path):
    """Figures and verdict are computed anew from the sample, and agree."""
    document.write(run, tmp_path / "run.json")
    again = document.read(tmp_path / "run.json")
    assert again.verdict is run.verdict is Verdict.MISSED
    assert document.document(again).keys() == document.document(run).keys()
    written = (tmp_path / "run.json").read_text()
    document.write(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == written
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_something_else_is_refused(tmp_path):
    """With a sentence, not a traceback."""
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="no report of resnet-loadtest"):
        document.read(tmp_path / "other.json")


def test_a_search_is_not_blamed_on_another_version(tmp_path):
    """What find-slo wrote is told by its name; a run is needed."""
    (tmp_path / "search.json").write_text(json.dumps({"schema": document.SEARCH_SCHEMA, "trials": []}))
    with pytest.raises(ValueError, match=r"search\.json is the report of a search \(find-slo\); only"):
        document.read(tmp_path / "search.json")


def test_junit_tells_missed_from_invalid(run, make_run):
    """A missed objective is a failure, a doubtful run an error."""
    suite = junit.suite(run)
    assert (suite.get("failures"), suite.get("errors"), suite.get("tests")) == ("1", "0", "3")
    doubtful = junit.suite(make_run(samples_of([0.01] * 10, late_s=1.0)))
    assert (doubtful.get("failures"), doubtful.get("errors")) == ("0", "1")
    assert ET.tostring(suite)


def test_the_page_needs_nothing_from_elsewhere(run):
    """Offline: no element loads anything; Plotly is in it once."""
    text = page.render(run_page.page(run))
    outside_scripts = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=|url\(|@import", outside_scripts)
    assert text.count("plotly.js v") == 1
    assert "MISSED" in outside_scripts
    assert "step 100 %" in outside_scripts


def test_summary_and_page_tell_the_address_that_was_used(make_run):
    """A mix over HTTP is not said to have gone to the gRPC port."""
    options = Options(rate=100.0, duration_s=10.0, mix="BatchHttp", url="grpc://far:8001")
    run = make_run(samples_of([0.01] * 500), options=options)
    console = Console(record=True, width=140, file=io.StringIO())
    terminal.summarise(run, console)
    for text in (console.export_text(), run_page.page(run).subtitle):
        assert "http://far:8000" in text
        assert "grpc://far" not in text


def test_the_page_survives_hostile_names(make_run):
    """Text from outside is text, also inside the script."""
    options = Options(rate=100.0, duration_s=10.0, model="<script>alert(1)</script>")
    text = page.render(run_page.page(make_run(samples_of([0.01] * 500), options=options)))
    assert "<script>alert(1)" not in text


def test_a_closed_loop_run_can_be_read_again(stub, loadtest, tmp_path):
    """Its users are there before the run begins, and send nothing until then."""
    _, output, plain = loadtest("--url", stub(), "--users", "3", "--duration", "1s")
    assert document.read(tmp_path / "run.json").whole.requests == plain["whole"]["requests"] > 0, output
