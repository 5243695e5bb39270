"""The locustfile under Locust's own command, headless and with its web page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtest/locustfile.py"
HEADLESS = ("--headless", "--only-summary", "-u", "2", "-r", "10", "-t", "2s")
NOTHING = "http://127.0.0.1:9"  # no server listens on the discard port

pytestmark = pytest.mark.load


@pytest.fixture
def locust(image, tmp_path):
    """Start Locust with the given variables; gives the process, its output goes to a pipe."""
    processes = []

    def start(*arguments, locustfile=LOCUSTFILE, **variables):
        command = [sys.executable, "-m", "locust", "-f", locustfile, "--images", image.parent, *arguments]
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("RESNET_", "LOCUST_"))}
        environment |= {"PYTHONPATH": str(LOCUSTFILE.parent), **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def finished(process):
    """Wait for the end; gives exit code and output."""
    output = process.communicate(timeout=60)[0]
    return process.returncode, output


def requests_in(output):
    """Requests and failures in the line `Aggregated` of Locust's statistics."""
    return tuple(map(int, re.search(r"Aggregated\s+(\d+)\s+(\d+)\(", output).groups()))


def test_host_tags_files_and_workers_behave_as_documented(server, locust, tmp_path):
    """LOCUST_HOST leads to the server, RESNET_URL does not; users without a task do not start; over both protocols."""
    options = "--tags", "classify", "embed", "--exclude-tags", "embed", "--http-url", server.http_url
    files = "--processes", "2", "--csv", "csv", "--html", "page.html"
    variables = {"LOCUST_HOST": server.grpc_url, "RESNET_URL": "grpc://127.0.0.1:9"}
    code, output = finished(locust(*HEADLESS, *options, *files, **variables))
    assert code == 0, output
    assert '{"ClassifyGrpc": 1, "ClassifyHttp": 1}' in output
    answered, failed = requests_in(output)
    assert answered > failed == 0
    assert (tmp_path / "csv_stats.csv").exists()
    assert (tmp_path / "page.html").exists()


def test_host_of_a_class_decides_over_the_environment(stub, locust, tmp_path):
    """A locustfile of the user's own, with a subclass."""
    own = tmp_path / "own.py"
    own.write_text(f"from locustfile import ClassifyHttp\nclass Mine(ClassifyHttp):\n    host = {stub()!r}\n")
    code, output = finished(locust(*HEADLESS, "Mine", locustfile=f"{LOCUSTFILE},{own}", RESNET_URL=NOTHING))
    assert (code, "Mine" in output) == (0, True), output
    assert requests_in(output) > (0, 0)


def test_unusable_host_is_refused_before_the_first_user(stub, locust):
    """RESNET_URL would work, but the host does not."""
    cases = {
        "grpc://127.0.0.1:9": "cannot be reached",
        "nonsense": "invalid server URL 'nonsense': the scheme is missing",
    }
    users = "ClassifyHttp", "ClassifyGrpc"
    processes = [locust(*HEADLESS, "-t", "20s", "--host", host, *users, RESNET_URL=stub()) for host in cases]
    for process, message in zip(processes, cases.values(), strict=True):
        code, output = finished(process)
        assert (code, requests_in(output)) == (3, (0, 0)), output
        assert message in output
        assert "Traceback" not in output


def test_web_page_presets_and_obeys_the_host(stub, locust, free_port, browser):
    """RESNET_URL is in the field; a wrong host shows its reason, a right one starts and stops."""
    process = locust("--web-host", "127.0.0.1", "--web-port", str(free_port), "ClassifyHttp", RESNET_URL=NOTHING)
    for line in process.stdout:
        if "Starting web interface" in line:
            break
    site = f"http://127.0.0.1:{free_port}"
    tab = browser.new_page()
    tab.goto(site)
    field = tab.locator("input[name=host]")
    assert field.input_value() == NOTHING
    tab.locator("button[type=submit]").click()
    tab.get_by_text("cannot be reached").wait_for()
    field.fill(stub())
    tab.locator("button[type=submit]").click()
    tab.get_by_text("classify").first.wait_for()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_role("button", name="New").wait_for()
    total = requests.get(f"{site}/stats/requests", timeout=20).json()["stats"][-1]
    assert total["num_requests"] > total["num_failures"] == 0
