"""The locustfile under Locust's own command, headless and with its web page."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtest/locustfile.py"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NOTHING = "http://127.0.0.1:9"  # no server listens on the discard port

pytestmark = pytest.mark.load


@pytest.fixture
def locust(image, tmp_path):
    """Start Locust with the given variables; gives the process, its output goes to a pipe."""
    processes = []

    def start(*arguments, locustfile=LOCUSTFILE, **variables):
        command = [sys.executable, "-m", "locust", "-f", locustfile, "--images", image.parent, *arguments]
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("RESNET_", "LOCUST_"))}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(LOCUSTFILE.parent), **variables},
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def headless(locust):
    """Run Locust without its page; gives exit code and output."""

    def run(*arguments, **more):
        process = locust("--headless", "--only-summary", "-u", "2", "-r", "10", "-t", "2s", *arguments, **more)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    return run


def requests_in(output):
    """Requests and failures in the line `Aggregated` of Locust's statistics."""
    found = re.search(r"Aggregated\s+(\d+)\s+(\d+)\(", output)
    assert found, output
    return int(found[1]), int(found[2])


def test_host_decides_over_every_address_of_the_environment(stub, headless):
    """RESNET_URL and its other addresses lead nowhere; --host, LOCUST_HOST and the class's host lead to the stub."""
    elsewhere = {"RESNET_URL": "grpc://127.0.0.1:9", "RESNET_HTTP_URL": NOTHING}
    url = stub()
    for arguments, variables in ((["--host", url], {}), ([], {"LOCUST_HOST": url})):
        code, output = headless(*arguments, "ClassifyHttp", **elsewhere, **variables)
        assert code == 0, output
        assert requests_in(output) > (0, 0)


def test_host_of_a_class_decides_over_the_environment(stub, headless, tmp_path):
    """A locustfile of the user's own, with a subclass."""
    own = tmp_path / "own.py"
    own.write_text(f"from locustfile import ClassifyHttp\nclass Mine(ClassifyHttp):\n    host = {stub()!r}\n")
    code, output = headless("Mine", locustfile=f"{LOCUSTFILE},{own}", RESNET_URL=NOTHING)
    assert (code, "Mine" in output) == (0, True), output
    assert requests_in(output) > (0, 0)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("grpc://127.0.0.1:9", "cannot be reached"),
        ("nonsense", "invalid --url 'nonsense': expected grpc://HOST:8001"),
    ],
)
def test_unusable_host_is_refused_before_the_first_user(stub, headless, host, message):
    """RESNET_URL would work, but the host does not."""
    code, output = headless("--host", host, "ClassifyHttp", "ClassifyGrpc", RESNET_URL=stub())
    assert code == 3
    assert message in output
    assert requests_in(output) == (0, 0)
    assert "Traceback" not in output


def test_tags_choose_users(stub, headless):
    """By protocol and operation; users without a task do not start."""
    code, output = headless("--tags", "classify", "--exclude-tags", "grpc", RESNET_URL=stub())
    assert code == 0, output
    assert '{"ClassifyHttp": 2}' in output


def test_files_workers_and_ctrl_c_behave_as_documented(stub, locust, tmp_path):
    """Two processes; CSV and HTML; Ctrl-C ends with the statistics."""
    options = "--headless", "-u", "2", "-r", "10", "--processes", "2", "--csv", "csv", "--html", "page.html"
    process = locust(*options, "ClassifyHttp", RESNET_URL=stub())
    for line in process.stdout:
        if "All users spawned" in line:
            break
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    assert "Response time percentiles" in output
    assert (tmp_path / "csv_stats.csv").exists()
    assert (tmp_path / "page.html").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)")
def test_web_page_presets_and_obeys_the_host(stub, locust, free_port):
    """RESNET_URL is in the field; a wrong host shows its reason, a right one starts; stop, and start again."""
    from playwright.sync_api import sync_playwright

    url = stub()
    process = locust("--web-host", "127.0.0.1", "--web-port", str(free_port), "ClassifyHttp", RESNET_URL=NOTHING)
    for line in process.stdout:
        if "Starting web interface" in line:
            break
    site = f"http://127.0.0.1:{free_port}"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(site)
        field = tab.locator("input[name=host]")
        assert field.input_value() == NOTHING
        tab.locator("button[type=submit]").click()
        tab.get_by_text("cannot be reached").wait_for()
        field.fill(url)
        tab.locator("button[type=submit]").click()
        tab.get_by_text("classify").first.wait_for()
        browser.close()
    requests.post(f"{site}/stop", timeout=20)
    total = requests.get(f"{site}/stats/requests", timeout=20).json()["stats"][-1]
    assert total["num_requests"] > total["num_failures"] == 0
    again = {"user_count": 1, "spawn_rate": 1, "host": url}
    assert requests.post(f"{site}/swarm", again, timeout=20).json()["success"]
