"""Runs that end before their time: what was measured is reported, and the exit code gives the reason."""

import json
import re
import signal
import time

import psutil
import pytest

from .conftest import loadtest_process, small, stub_server

pytestmark = pytest.mark.load


@pytest.fixture
def long_run(image, tmp_path, free_port):
    """Start a run of a minute and wait until samples are on the disk; gives its process."""
    processes = []

    def start(url, *arguments):
        where = ["--url", url, "--out", tmp_path, "--name", "run", "--master-port", str(free_port), "-t", "60s"]
        process = loadtest_process("run", *small(image), *where, *arguments)
        processes.append(process)
        partial, deadline_s = tmp_path / "run.partial", time.monotonic() + 40
        while not (partial.exists() and partial.read_bytes().count(b"\n") > 1):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def report(tmp_path):
    """Read the JSON report."""
    return lambda: json.loads((tmp_path / "run.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_with_its_report(stub, long_run, report, tmp_path, number):
    """Ctrl-C and SIGTERM; in open and closed loop, with workers; no response is lost."""
    load = "--rate 50" if number == signal.SIGTERM else "--users 4 --processes 2"
    process = long_run(stub(), *load.split(), "--slo", "p50<=10s")
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    document = report()
    assert process.returncode == 130, output
    assert f"INTERRUPTED: the run was interrupted; the results are those until then ({number.name} after" in output
    assert "met: whole run: p50<=10s" in output
    assert document["verdict"] == "INTERRUPTED"
    assert document["whole"]["duration_s"] < 30
    assert document["raw"]["server"]["steps"]["resnet50"]["succeeded"] == document["raw"]["samples"]["rows"]
    assert not (tmp_path / "run.partial").exists()
    assert (tmp_path / "run.html").read_text().count("INTERRUPTED") == 1


def test_killed_run_is_reported_from_its_partial_file(stub, stub_test, long_run, report, tmp_path):
    """SIGKILL leaves what was measured; no later run overwrites it; `report` reads it."""
    url, partial = stub(), tmp_path / "run.partial"
    process = long_run(url, "--rate", "50")
    process.kill()
    process.wait()
    code, output, _ = stub_test("--url", url, "--users", "1")
    assert (code, f"report {partial}" in output) == (64, True), output
    with loadtest_process("report", partial) as again:
        output = again.communicate(timeout=60)[0]
    assert again.returncode == 130, output
    assert "the load test was killed, or is still running, after" in output
    whole = report()["whole"]
    assert whole["requests"] / whole["duration_s"] == pytest.approx(50, rel=0.4)


def test_dead_server_ends_the_run_with_its_report(long_run, report):
    """After --timeout-s without a response; the requests after the server's death are failures."""
    with stub_server() as (url, server):
        process = long_run(url, "--users", "2", "--timeout-s", "2")
        server.kill()
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 3, output
    assert re.search(r"UNREACHABLE: the server is unreachable; .* \(no response from the server after \d+ s\)", output)
    assert "Traceback" not in output
    whole = report()["whole"]
    assert 0 < whole["failures"]["unavailable"] < whole["requests"]
    assert 2 < whole["duration_s"] < 20


def test_dead_worker_ends_the_run_with_the_report_of_the_others(stub, long_run, report):
    """One of two workers is killed."""
    process = long_run(stub(), "--rate", "40", "--processes", "2")
    psutil.Process(process.pid).children()[0].kill()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert "WORKER LOST: a worker was lost" in output
    assert "a worker process ended with exit code -9" in output
    assert {each["worker"] for each in report()["raw"]["generator"]} == {0, 1}


def test_full_disk_moves_the_report_to_the_temporary_folder(stub, stub_test, tmp_path, monkeypatch):
    """The page goes to a full device, so all files go elsewhere; before that, the run waits for its server."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    (tmp_path / "run.html").symlink_to("/dev/full")
    code, output, _ = stub_test("--url", stub("--loads-s", "4"), "--wait-s", "30", "--users", "1", "-t", "1s")
    assert code == 0, output
    assert "No space left on device; writing to" in output
    assert {path.suffix for path in tmp_path.glob("elsewhere/*/run.*")} == {".html", ".json", ".xml"}


def test_run_that_cannot_start_prints_one_message(stub, image, tmp_path, free_port):
    """It names the cause and the remedy, and leaves no file."""
    nothing, url = f"http://127.0.0.1:{free_port}", stub()
    cases = [
        (["--out", image], 64, ["no report can be written to --out"]),
        (["--name", "a/b"], 64, ["invalid --name 'a/b': expected the name of a file"]),
        (["--url", nothing], 3, ["cannot be reached", "if the server is starting, set --wait-s"]),
        (["--url", "grpc://127.0.0.1:2"], 3, ["was derived from grpc://127.0.0.1:2, set --http-url"]),
        (["--url", url, "--images", tmp_path / "none"], 3, ["image of --images", "none: there is no such file"]),
    ]
    options = [*small(image), "--rate", "50"]
    processes = [
        loadtest_process("run", *options, "--out", tmp_path / f"out{number}", *arguments)
        for number, (arguments, _, _) in enumerate(cases)
    ]
    for process, (arguments, code, messages) in zip(processes, cases, strict=True):
        output = process.communicate(timeout=120)[0]
        assert (process.returncode, output.count("\n")) == (code, 1), (arguments, output)
        assert [message for message in messages if message not in output] == [], (arguments, output)
    assert list(tmp_path.glob("out*/*")) == []
