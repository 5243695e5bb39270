"""Finds the cause of a failed start in Triton's log, and warns about limits of this host."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnet_client.named_configs import THREADS
from resnet_client.preprocessing import available_cpus

from resnet_serve.config import PortTakenError, ServerError, UnservableError
from resnet_serve.models import ModelStatus

_TAIL_LINES = 20
# Error → lines of the log with their remedy. The first entry that matches anywhere in the log is used.
_CAUSES: dict[type[ServerError], dict[str, str]] = {
    PortTakenError: {"Address already in use": "a port is taken: choose another --port, or --port 0 for free ones"},
    UnservableError: {
        r"the artifact \S+ is missing": "an artifact is missing: run resnet-build",
        r"No module named '[\w.]+'": "a package is missing: pip install '.[serve]' in the project's folder",
        r"error while loading shared libraries: \S+": "a shared library is missing: install its package",
        r"unrecognized option '[^']*'": "tritonserver does not know one of the flags passed through to it",
        r"restricted api '[^']*' can not be specified in multiple config groups": "resnet-serve and your own flags "
        "both restrict an API: add --open-apis all, so that only your flags apply",
    },
    ServerError: {  # can disappear by itself, when another process frees memory
        "No space left on device": "a file system is full, perhaps /dev/shm: free some space",
        r"the artifact \S+ cannot be loaded: [^\n]{0,300}": "an artifact is damaged, or its config is wrong: "
        "run resnet-build, or undo your change",
    },
}
# Triton's error lines, and the last line before it gives up.
_ERROR_LINE = re.compile(r"E\d{4} |error: ", re.MULTILINE)
# Logged on every machine without a GPU.
_HARMLESS = ("CudaDriverHelper", "NVML")

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Triton and its workers exchange tensors
_ENOUGH_SHARED_MEMORY_MB = 256


def cause(log: Path, since: int = 0) -> ServerError | None:
    """Return the cause of a failure that the log shows from byte ``since`` on; None if it is unknown."""
    text = _read(log, since)
    for kind, remedies in _CAUSES.items():
        for pattern, remedy in remedies.items():
            if match := re.search(pattern, text):
                return kind(f"{remedy} ({match.group(0)})")
    return None


def error_lines(log: Path, since: int = 0) -> str:
    """Return the log's error lines, or its end if it has none."""
    return "\n".join(_errors(log, since)[-_TAIL_LINES:]) or tail(log, since)


def first_error(log: Path, model: str, since: int = 0) -> str:
    """Return the message of the first error line that names the model; empty if there is none."""
    name = re.compile(rf"(?<![\w./-]){re.escape(model)}(?![\w./-])")
    messages = (line.partition("] ")[2].strip('"') for line in _errors(log, since))
    return next((message.partition(r"\n")[0] for message in messages if name.search(message)), "")


def _errors(log: Path, since: int) -> list[str]:
    return [
        line
        for line in _read(log, since).splitlines()
        if _ERROR_LINE.match(line) and not any(word in line for word in _HARMLESS)
    ]


def tail(log: Path, since: int = 0) -> str:
    """Return the last lines of the log."""
    return "\n".join(_read(log, since).splitlines()[-_TAIL_LINES:])


def _read(log: Path, since: int) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(since)
            return stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def warnings(models: Iterable[ModelStatus]) -> list[str]:
    """Return one message for each limit of this host that affects these models."""
    found: list[str] = []
    with contextlib.suppress(OSError, ValueError):  # no warning on a host without these files
        found += _shared_memory()
        for model in models:
            found += _threads(model)
    return found


def _shared_memory() -> Iterator[str]:
    free_mb = shutil.disk_usage(_SHARED_MEMORY).free / 1e6
    if free_mb < _ENOUGH_SHARED_MEMORY_MB:
        yield (
            f"{_SHARED_MEMORY} has only {free_mb:.0f} MB free, so large batches may fail: increase it to 1 GB "
            f"(docker run --shm-size=1g, or mount -o remount,size=1g {_SHARED_MEMORY})"
        )


def _threads(model: ModelStatus) -> Iterator[str]:
    groups = model.config.get("instance_group", [])
    instances = sum(group["count"] for group in groups if group["kind"] == "KIND_CPU")
    if model.backend not in THREADS:
        return
    number = model.config.get("parameters", {}).get(THREADS[model.backend], {}).get("string_value", "")
    # Instances without a number of threads divide the CPUs.
    threads = instances * int(number) if number.isdecimal() else 0
    if threads > (limit := available_cpus()):
        yield (
            f"{model.name} uses {threads} threads, but this process may use only {limit} CPUs: "
            f"run resnet-build --instances 1 --threads {limit}"
        )
