"""Whole runs against servers of known behaviour, to see that the numbers are true."""

import concurrent.futures
import contextlib
import statistics
import timeit

import pytest
from resnet_client import Client, ServerError
from resnet_loadtest import records

from .conftest import loadtest, small, stub_server

pytestmark = pytest.mark.load


@pytest.fixture(scope="module", params=["http", "grpc"])
def fixed(request, tmp_path_factory, image):
    """A run of a user on a server that takes 20 ms, fails 3 % and is on a busy machine; and a plain loop."""
    folder = tmp_path_factory.mktemp("fixed")
    user = f"Classify{request.param.capitalize()}"
    options = "--users", "1", "--mix", user, "--profile", "soak", "--duration", "2s", "--slo", "error_rate<=1%"
    with stub_server("--answer-s", "0.02", "--fail", "0.03", "--cpu", "0.97", protocol=request.param) as (url, _):
        metrics = f"http{url.removeprefix(request.param)}/metrics"
        code, output, document = loadtest(folder, *small(image), *options, "--url", url, "--metrics-url", metrics)
        assert code == 1, output
        with Client(url, max_attempts=1) as client:

            def classify():
                with contextlib.suppress(ServerError):  # some fail, after the same time
                    client.classify(image)

            plain_s = min(statistics.median(timeit.repeat(classify, number=1, repeat=15)) for _ in range(5))
    return document, plain_s, records.read(folder / "run.json")


def test_run_measures_the_response_time_of_a_plain_loop(fixed):
    """Which is above 20 ms; in the best part, because other work here comes in bursts."""
    document, plain_s, _ = fixed
    best_s = min(part["response_s"]["p50"]["value"] for part in document["stages"])
    assert best_s == pytest.approx(plain_s, abs=0.002)
    assert 0.020 <= best_s < 0.025


def test_run_counts_the_failures_of_a_failing_server(fixed):
    """Exactly 3 of every hundred."""
    document, _, run = fixed
    assert document["whole"]["error_rate"] == pytest.approx(0.03, abs=0.01)
    assert document["whole"]["failures"].keys() == {"server_failed"}
    assert document["verdict"] == run.verdict.name == "FAIL"
    assert document["whole"]["requests"] == run.whole.requests == document["raw"]["samples"]["rows"]


def test_run_names_the_busy_cpu_of_the_server(fixed):
    """No model is busy, but the machine is; the stub over gRPC has no metrics, which the report says."""
    document, _, run = fixed
    if run.options.mix == "ClassifyHttp":
        assert document["bottleneck"].startswith("CPU: the server's machine is 97% busy, although resnet50 is busy ")
    else:
        assert "returned no metrics" in run.server.note


def test_run_shows_a_stall_in_open_loop_and_hides_it_in_closed(stub, image, tmp_path):
    """1 s without a response, once: 50 callers meet it, but a single user meets it once."""
    runs = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for load in ("--rate 50 -t 3s", "--users 1 -t 2s"):
            url = stub("--stall-at", "40", "--stall-s", "1")
            runs.append(pool.submit(loadtest, tmp_path / load, *small(image), *load.split(), "--url", url))
    (_, output, open_loop), (_, _, closed_loop) = (run.result() for run in runs)
    assert 0.7 < open_loop["whole"]["response_s"]["p99"]["value"] < 1.5, output
    assert closed_loop["whole"]["service_s"]["p95"]["value"] < 0.3
    assert closed_loop["whole"]["max_s"] > 0.9


def test_run_above_capacity_fails_and_is_valid(stub, stub_test):
    """60/s on a server for 40/s: the queue grows to the end, and that is the server's fault."""
    code, output, document = stub_test(
        "--url", stub("--capacity", "40"), "--rate", "60", "--duration", "3s", "--profile", "soak",
        "--slo", "p95<=100ms",
    )  # fmt: skip
    medians = [part["response_s"]["p50"]["value"] for part in document["stages"]]
    assert medians == sorted(medians), output
    assert medians[-1] > 0.8
    assert document["whole"]["throughput_per_s"] == pytest.approx(40, rel=0.05)
    assert (code, document["verdict"]) == (1, "FAIL"), output


def test_run_with_a_starved_generator_is_invalid(stub, stub_test):
    """No Python process sends 20,000 per second; a pass would be a lie."""
    code, output, document = stub_test("--url", stub(), "--rate", "20000", "--duration", "1s", "--slo", "p50<=10s")
    assert (code, document["verdict"]) == (2, "INVALID"), output
    assert "The load generator" in document["bottleneck"]


def test_find_slo_finds_the_capacity(stub, stub_test):
    """A server for 50/s."""
    code, output, document = stub_test(
        "--url", stub("--capacity", "50"), "--slo", "p80<=250ms", "--trial-s", "2", "--repeats", "1",
        "--precision", "40", "--first-rate", "40", "--target-rate", "1000", command="find-slo",
    )  # fmt: skip
    assert document["found"]["lower_per_s"] <= 65
    assert document["found"]["upper_per_s"] >= 35
    # On a busy machine the search warns and claims nothing about higher rates.
    assert code == (2 if document["warning"] else 0), output
    assert ("servers for 1000 requests/s: " in output) == (code == 0), output
