"""What the figures were measured on and with."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers_setup import BIN, ROOT

_TOOLS = ("onnxruntime", "numpy", "pillow", "torch", "nvidia-pytriton")
_PEERS = ("litserve", "bentoml", "mosec", "fastapi", "nvidia-pytriton", "onnxruntime", "pillow", "torch")
# What is worth knowing of a processor here.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def described() -> dict[str, Any]:
    """Processor, cores, memory, versions, commit and date."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in information.splitlines() if ":" in line)
    entries = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "processor": entries.get("model name", platform.processor()),
        "family": f"family {entries.get('cpu family')}, model {entries.get('model')}",
        "instructions": [flag for flag in _FLAGS if flag in entries.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _TOOLS},
        "peers": _peers(),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def _peers() -> dict[str, str]:
    code = f"from importlib.metadata import version; print(*(version(n) for n in {_PEERS!r}))"
    found = _output(str(BIN / "python"), "-c", code).split()
    return dict(zip(_PEERS, found, strict=False))


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
