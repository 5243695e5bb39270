"""Whole runs against servers of known behaviour, to see that the numbers are true."""

import statistics
import time

import pytest
from resnet_client import Client

pytestmark = pytest.mark.load


def best(document, percent):
    """The best of the run's parts, in seconds: other work on this machine comes in bursts."""
    return min(part["response_s"][f"p{percent}"]["value"] for part in document["stages"])


@pytest.mark.parametrize(("protocol", "user"), [("http", "ClassifyHttp"), ("grpc", "ClassifyGrpc")])
def test_run_measures_a_fixed_response_time_to_a_millisecond(stub, stub_test, image, protocol, user):
    """20 ms: the load test sees what a plain loop around the client sees, and a plain loop sees 20 ms."""
    url = stub("--answer-s", "0.02", protocol=protocol)
    arguments = "--users", "1", "--mix", user, "--profile", "soak", "--duration", "3s"
    _, output, document = stub_test("--url", url, *arguments)
    medians = []
    with Client(url) as client:
        for _ in range(5):
            durations = []
            for _ in range(20):
                start_s = time.perf_counter()
                client.classify(image.read_bytes())
                durations.append(time.perf_counter() - start_s)
            medians.append(statistics.median(durations))
    assert best(document, 50) == pytest.approx(min(medians), abs=0.001), output
    assert 0.020 <= best(document, 50) < 0.025


def test_run_shows_a_stall_in_open_loop_and_hides_it_in_closed(stub, stub_test):
    """2 s without a response, once: 100 callers meet it, but a single user meets it once."""
    stall = "--stall-at", "80", "--stall-s", "2"
    _, output, open_loop = stub_test("--url", stub(*stall), "--rate", "50", "--duration", "4s")
    _, _, closed_loop = stub_test("--url", stub(*stall), "--users", "1", "--duration", "3s")
    assert 1.5 < open_loop["whole"]["response_s"]["p99"]["value"] < 2.6, output
    assert closed_loop["whole"]["service_s"]["p99"]["value"] < 0.5
    assert closed_loop["whole"]["max_s"] > 1.9


def test_run_counts_the_failures_of_a_failing_server(stub, stub_test):
    """Exactly 3 of every hundred; an objective that is not met gives 1."""
    code, output, document = stub_test(
        "--url", stub("--fail", "0.03"), "--users", "2", "--duration", "2s", "--slo", "error_rate<=1%"
    )
    assert document["whole"]["error_rate"] == pytest.approx(0.03, abs=0.005), output
    assert document["whole"]["failures"].keys() == {"server_failed"}
    assert (code, document["verdict"]) == (1, "FAIL"), output


def test_run_above_capacity_fails_and_is_valid(stub, stub_test):
    """60/s on a server for 40/s: the queue grows to the end, and that is the server's fault."""
    code, output, document = stub_test(
        "--url", stub("--capacity", "40"), "--rate", "60", "--duration", "4s", "--profile", "soak",
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


@pytest.mark.parametrize(
    ("wait", "messages"),
    [((), ["cannot be reached", "set --wait-s"]), (("--wait-s", "1"), ["1 s", "cannot be reached"])],
)
def test_run_without_a_server_exits_with_3(stub_test, free_port, wait, messages):
    """It waits no longer than it is asked to; the message has the time waited and the last error."""
    code, output, _ = stub_test("--url", f"http://127.0.0.1:{free_port}", "--users", "1", *wait)
    assert code == 3
    assert all(message in output for message in messages)


def test_find_slo_finds_the_capacity(stub, stub_test):
    """A server for 50/s."""
    code, output, document = stub_test(
        "--url", stub("--capacity", "50"), "--slo", "p80<=250ms", "--trial-s", "2", "--repeats", "1",
        "--precision", "25", "--first-rate", "40", command="find-slo",
    )  # fmt: skip
    assert document["found"]["lower_per_s"] <= 65
    assert document["found"]["upper_per_s"] >= 35
    # On a busy machine the search warns and claims nothing about higher rates.
    assert code == (2 if document["warning"] else 0), output
