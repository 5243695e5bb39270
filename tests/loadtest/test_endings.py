"""Runs that end before their time: what was measured is reported, and the exit code gives the reason."""

import json
import resource
import signal
import time

import psutil
import pytest
from resnet_loadtest import records
from resnet_loadtest.samples import merged

from .conftest import loadtest_process, run_of, samples_of

pytestmark = pytest.mark.load


@pytest.fixture
def partial(tmp_path):
    """The file of a run that has not ended."""
    return tmp_path / "run.partial"


@pytest.fixture
def long_run(image, tmp_path, partial, free_port):
    """Start a run of a minute and wait until samples are on the disk; gives its process."""
    processes = []

    def start(url, *arguments):
        few = "--mix", "ClassifyHttp", "--warm-up-s", "0.2", "--images", image.parent, "--url", url
        few += "--out", tmp_path, "--name", "run", "--master-port", str(free_port), "-t", "60s"
        process = loadtest_process("run", *few, *arguments)
        processes.append(process)
        deadline_s = time.monotonic() + 40
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


def report_of(tmp_path):
    """The JSON report."""
    return json.loads((tmp_path / "run.json").read_text())


@pytest.mark.parametrize(
    ("number", "load"),
    [(signal.SIGINT, "--rate 50"), (signal.SIGTERM, "--users 3"), (signal.SIGINT, "--users 4 --processes 2")],
)
def test_signal_ends_the_run_with_its_report(stub, long_run, tmp_path, number, load):
    """Ctrl-C and SIGTERM; in open and closed loop, with workers; no response is lost."""
    process = long_run(stub(), *load.split(), "--slo", "p50<=10s")
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    document = report_of(tmp_path)
    assert process.returncode == 130, output
    assert f"INTERRUPTED: the run was interrupted; the results are those until then ({number.name} after" in output
    assert "met: whole run: p50<=10s" in output
    assert document["verdict"] == "INTERRUPTED"
    assert document["whole"]["duration_s"] < 30
    assert document["raw"]["server"]["steps"]["resnet50"]["succeeded"] == document["raw"]["samples"]["rows"]
    assert not (tmp_path / "run.partial").exists()
    assert (tmp_path / "run.html").read_text().count("INTERRUPTED") == 1


def test_killed_run_is_reported_from_its_partial_file(stub, stub_test, long_run, tmp_path, partial):
    """SIGKILL leaves what was measured; no later run overwrites it; `report` reads it."""
    url = stub()
    process = long_run(url, "--rate", "50")
    process.kill()
    process.communicate()
    code, output, _ = stub_test("--url", url, "--users", "1")
    assert (code, f"report {partial}" in output) == (64, True), output
    report = loadtest_process("report", partial)
    output = report.communicate(timeout=60)[0]
    assert report.returncode == 130, output
    assert "the load test was killed, or is still running, after" in output
    whole = report_of(tmp_path)["whole"]
    assert whole["requests"] / whole["duration_s"] == pytest.approx(50, rel=0.4)


def test_dead_server_is_reported(stub, long_run, tmp_path):
    """The requests after its death are failures; the report is marked."""
    process = long_run(stub(), "--rate", "20", "-t", "5s")
    stub.processes[0].kill()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert "UNREACHABLE: the server is unreachable" in output
    assert "Traceback" not in output
    whole = report_of(tmp_path)["whole"]
    assert 0 < whole["failures"]["unavailable"] < whole["requests"]


def test_dead_worker_ends_the_run_with_the_report_of_the_others(stub, long_run, tmp_path):
    """One of two workers is killed."""
    process = long_run(stub(), "--rate", "40", "--processes", "2")
    psutil.Process(process.pid).children()[0].kill()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert "WORKER LOST: a worker was lost" in output
    assert "a worker process ended with exit code -9" in output
    assert {each["worker"] for each in report_of(tmp_path)["raw"]["generator"]} == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{image}"], "no report can be written to --out"),
        (["--name", "a/b"], "invalid --name 'a/b': expected the name of a file"),
    ],
)
def test_folder_and_name_are_checked_before_the_run(stub_test, image, arguments, message):
    """No request is sent: there is not even a server."""
    code, output, _ = stub_test("--users", "1", *(text.format(image=image) for text in arguments))
    assert (code, message in output) == (64, True), output


def test_full_disk_moves_the_report_to_the_temporary_folder(stub, stub_test, tmp_path, monkeypatch):
    """The page goes to a full device, so all files go elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    (tmp_path / "run.html").symlink_to("/dev/full")
    code, output, _ = stub_test("--url", stub(), "--users", "1", "-t", "1s")
    assert code == 0, output
    assert "No space left on device; writing to" in output
    assert {path.suffix for path in tmp_path.glob("elsewhere/*/run.*")} == {".html", ".json", ".xml"}


def test_recorder_on_a_full_disk_writes_later_what_it_could_not(partial):
    """A limit on the size of files stands for the full disk; all samples are read in the end."""
    parts = [run_of(samples_of([0.01] * 100)), run_of(samples_of([0.02] * 200)), run_of(samples_of([0.03] * 50))]
    recorder = records.Recorder(partial)
    recorder.append(parts[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (partial.stat().st_size + 100, limits[1]))
    try:
        recorder.append(parts[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(records.read(partial).samples) == 100
    recorder.append(parts[2])
    expected = merged(part.samples for part in parts)
    assert records.read(partial).samples.tolist() == expected.tolist()
    recorder.delete()


def test_server_that_dies_while_connections_open_gives_one_message(stub, stub_test):
    """It has answered the first checks."""
    code, output, _ = stub_test("--url", stub("--dies-at", "10"), "--rate", "50")
    assert code == 3, output
    assert "Traceback" not in output
    assert output.count("\n") == 1, output


def test_run_waits_for_a_server_that_is_loading(stub, stub_test):
    """With --wait-s; without it, the message names the option."""
    url = stub("--loads-s", "6")
    code, output, _ = stub_test("--url", url, "--users", "1")
    assert (code, "if the server is starting, set --wait-s" in output) == (3, True), output
    code, output, _ = stub_test("--url", url, "--users", "1", "--wait-s", "30", "-t", "1s")
    assert code == 0, output


def test_derived_address_that_does_not_answer_is_named(stub, stub_test):
    """A gRPC server on a free port, without HTTP at the port before it."""
    code, output, _ = stub_test("--url", stub(protocol="grpc"), "--users", "1")
    assert code == 3, output
    assert "was derived from grpc://127.0.0.1:" in output
    assert "set --http-url" in output
