"""The served ``preprocess`` and its worker process, asked without the library, whose rules are to be compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as protocol
from resnet_client.error_mapping import IMAGE_PREFIX
from resnet_client.preprocessing import InvalidImageError
from resnet_serve import TritonServer
from resnet_serve.watchdog import workers_of
from tritonclient.utils import InferenceServerException


class Preprocess:
    """Asks a server's ``preprocess``; safe to share between threads."""

    def __init__(self, server: TritonServer) -> None:
        self._client = protocol.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def pixels(self, image: bytes) -> np.ndarray:
        """The pixels that the network would see.

        Raises:
            InvalidImageError: with the server's message, if it says that the image is invalid.
        """
        tensor = protocol.InferInput("IMAGE", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[image]], dtype=np.object_))
        try:
            answer: Any = self._client.infer("preprocess", [tensor], client_timeout=60)
        except InferenceServerException as exc:
            if exc.status() != "StatusCode.INVALID_ARGUMENT" or not exc.message().startswith(IMAGE_PREFIX):
                raise
            raise InvalidImageError(exc.message().removeprefix(IMAGE_PREFIX)) from exc
        return answer.as_numpy("PIXELS__0")[0]


def send_raw(server: TritonServer, raw: bytes) -> str:
    """Send these bytes as the one element of IMAGE, its length included; return the status."""
    tensor = protocol.InferInput("IMAGE", [1, 1], "BYTES")
    tensor._raw_content = raw
    client = protocol.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))
    try:
        client.infer("preprocess", [tensor], client_timeout=60)
    except InferenceServerException as exc:
        return str(exc.status())
    finally:
        client.close()
    return "answered"


def worker(server: TritonServer, model: str = "preprocess") -> int:
    """Process id of the model's only worker."""
    watchdog = server._watchdog.pid
    triton = int(Path(f"/proc/{watchdog}/task/{watchdog}/children").read_text(encoding="ascii"))
    (pid,) = (pid for pid, (name, _) in workers_of(triton).items() if name == model)
    return pid


def forget_peak(pid: int) -> None:
    """Let the peak of a process's memory begin again."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Resident memory of a process in MiB: its peak, or with ``VmRSS`` what it has now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no {field}")
