"""The targets of the Makefile, run with stand-ins for the real commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Prints that it runs, and ends on SIGTERM like the real commands.
WAITING = f"""#!{sys.executable}
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
print("running", flush=True)
signal.sigwait({{signal.SIGTERM}})
print("stopped", flush=True)
"""
SUCCEEDING, FAILING = "#!/bin/sh\n", "#!/bin/sh\nexit 1\n"


@contextlib.contextmanager
def make(folder: Path, target: str, *variables: str, **commands: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``make TARGET`` with these commands, by their names with underscores, and all else up to date."""
    for name, script in {"python": SUCCEEDING, **commands}.items():
        path = folder / name.replace("_", "-")
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
    command = ["make", "--silent", "-f", str(ROOT / "Makefile"), "-o", "repository", target, *variables]
    command += [f"BIN={folder}", "SOURCES="]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RESNET_", "MAKE"))}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("target", "waiting"),
    [
        ("serve", "resnet_serve"),
        ("tune", "resnet_loadtest"),
        ("loadtest", "resnet_serve"),
        ("loadtest", "resnet_loadtest"),
    ],
)
def test_make_stops_its_command_on_a_signal(tmp_path: Path, target: str, waiting: str) -> None:
    """No server or load test outlives the make that started it: it got a signal, and its output ends."""
    health = SUCCEEDING if waiting == "resnet_loadtest" else FAILING
    with make(tmp_path, target, "SLO=p99<=100ms", resnet_client=health, **{waiting: WAITING}) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    assert rest == "stopped\n"


def test_make_loadtest_uses_the_server_at_the_port(tmp_path: Path) -> None:
    """`make loadtest PORT=8100` uses the server of `make serve PORT=8100`; it needs no token."""
    (tmp_path / ".admin-token").write_text("secret", encoding="utf-8")
    health = '#!/bin/sh\ntest "$RESNET_URL" = grpc://localhost:8101\n'
    shown = '#!/bin/sh\necho "$RESNET_URL $RESNET_ADMIN_TOKEN"\n'
    with make(tmp_path, "loadtest", "PORT=8100", resnet_client=health, resnet_loadtest=shown) as process:
        output, _ = process.communicate(timeout=20)
    assert output == "grpc://localhost:8101 \n"


def test_sources_of_the_wheel_do_not_include_built_files() -> None:
    """Otherwise the next make would install the wheel again under a running server."""
    command = ["make", "--silent", "--eval", "sources: ; @printf '%s\\n' $(SOURCES)", "sources"]
    sources = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    of_the_repository = {Path(name) for name in sources if name.startswith("model_repository")}
    model = Path("model_repository/preprocess/1")
    assert of_the_repository == {path.relative_to(ROOT) for path in (ROOT / model).glob("*.py")}
