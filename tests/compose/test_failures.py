"""The last lines of `docker compose up` show why a build of the repository failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import project

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

LAST_LINES = 6


def last_lines_of_up(*overrides: Path, **variables: str) -> str:
    """The last lines of `docker compose up build triton-wheel`."""
    with project.project("broken", *overrides, **variables) as made:
        made.run("build", "build", "triton-wheel")
        done = made.run("up", "--no-build", "build", "triton-wheel", check=False)
        assert done.returncode != 0
    return "\n".join(done.stdout.rstrip().splitlines()[-LAST_LINES:])


@pytest.fixture
def override(tmp_path: Path) -> Path:
    """Where a test may write another compose file."""
    return tmp_path / "override.yml"


def test_compose_shows_why_a_build_failed(override: Path) -> None:
    """Wrong usage, which the message shows."""
    override.write_text('services:\n  build:\n    command: ["--weights", "nonsense"]\n')
    seen = last_lines_of_up(override)
    assert "nonsense" in seen
    assert "didn't complete successfully" in seen


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    """A damaged file in the folder of one's own weights."""
    (tmp_path / "flowers.pth").write_bytes(b"no weights")
    tmp_path.chmod(0o755)
    seen = last_lines_of_up(WEIGHTS="/weights/flowers.pth", WEIGHTS_FOLDER=str(tmp_path))
    assert "/weights/flowers.pth" in seen
    assert "didn't complete successfully" in seen


def test_compose_reports_a_full_disk(override: Path) -> None:
    """The volume of the repository has room for half of it."""
    override.write_text(
        "volumes:\n  models:\n    driver_opts: { type: tmpfs, device: tmpfs, o: 'size=60m,uid=10001' }\n"
    )
    seen = last_lines_of_up(override, WEIGHTS="random:1")
    assert "No space left on device" in seen or "disk is full" in seen
    assert "didn't complete successfully" in seen
