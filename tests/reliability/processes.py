"""The processes of a server under test: the server itself, its workers, and the memory they take."""

from pathlib import Path

from resnet_serve import TritonServer


def of_server(server: TritonServer) -> int:
    """Process id of ``tritonserver``, found by its port."""
    port = server.http_url.rsplit(":", 1)[1]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_text().split("\0")
        except OSError:  # it has ended
            continue
        if arguments[0].endswith("/tritonserver") and f"--http-port={port}" in arguments:
            return int(process.name)
    raise AssertionError(f"no tritonserver listens on port {port}")


def resident_mib(server: int) -> float:
    """Memory of a server and of its workers in MiB: what is theirs alone, without shared libraries."""
    folders = [Path(f"/proc/{pid}") for pid in (server, *_children(server))]
    pages = sum(int((folder / "statm").read_text().split()[1]) for folder in folders)
    shared = sum(int((folder / "statm").read_text().split()[2]) for folder in folders)
    return (pages - shared) * 4096 / 2**20


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
