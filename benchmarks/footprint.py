"""Memory of the server with each ensemble of a repository, and the time from the start to the first answer.

``python -m benchmarks.footprint [REPOSITORY]`` starts ``resnet-serve`` once for each ensemble and once for all models,
and prints a table. The command of ``--run`` measures: it is this module with ``--model``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
from resnet_client import Client
from resnet_client.example_images import everyday

_IMAGES = 64  # enough for batches of each size
_COLUMNS = ("networks", "preprocess", "tritonserver", "resnet-serve and watchdog")


def main() -> None:
    """Print the table, or one row of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("repository", nargs="?", type=Path, default=Path("model_repository"))
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--started-s", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model:
        print(_row(args.model, args.started_s))
        return
    print("| `--models` | first answer, s | MiB | " + " | ".join(_COLUMNS) + " |")
    print("| --- " * (3 + len(_COLUMNS)) + "|", flush=True)
    ensembles = sorted(path.parent.name for path in args.repository.glob("resnet50*/config.pbtxt"))
    for model in (*ensembles, "all"):
        _measure(args.repository, model)


def _measure(repository: Path, model: str) -> None:
    """Start a server with a model; the command that it runs prints the row."""
    row = [sys.executable, "-m", "benchmarks.footprint", "--model", model, "--started-s", str(time.time())]
    command = [str(Path(sys.executable).with_name("resnet-serve")), "--repository", str(repository), "--models", model]
    command += ["--port", "0", "--run", shlex.join(row), "--exit-after"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(next(line for line in output.splitlines() if line.startswith("| `")), flush=True)


def _row(model: str, started_s: float) -> str:
    """Classify an image, then many; return the row of the server that runs this process."""
    images = [path.read_bytes() for path in everyday()]
    with Client(os.environ["RESNET_URL"], model="resnet50" if model == "all" else model) as client:
        client.classify(images[0])
        first_s = time.time() - started_s
        for outcome in client.classify_many(images * (_IMAGES // len(images))):
            assert outcome.ok, outcome.error  # noqa: S101  # a benchmark has no failures
    server = psutil.Process(os.getppid())
    memory = dict.fromkeys(_COLUMNS, 0.0)
    for process in (server, *server.children(recursive=True)):
        if process.pid != os.getpid():
            memory[_column(process)] += process.memory_full_info().pss / 2**20
    cells = [f"`{model}`", f"{first_s:.1f}", *(f"{mib:.0f}" for mib in (sum(memory.values()), *memory.values()))]
    return "| " + " | ".join(cells) + " |"


def _column(process: psutil.Process) -> str:
    command = process.cmdline()
    if command[0].endswith("triton_python_backend_stub"):
        return "preprocess" if "/preprocess/" in command[1] else "networks"
    return "tritonserver" if command[0].endswith("tritonserver") else "resnet-serve and watchdog"


if __name__ == "__main__":
    main()
