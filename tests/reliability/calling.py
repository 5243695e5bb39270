"""A program that classifies one image again and again until its standard input ends, then prints the results.

    python calling.py URL IMAGE [THREADS]

A process of its own, because it may live where names lead elsewhere.
"""

from __future__ import annotations

import collections
import json
import logging
import sys
import threading
import time
from pathlib import Path

from resnet_client import Client, ResnetClientError


def main(url: str, image: str, threads: str = "4") -> None:
    """Call, count, print."""
    content = Path(image).read_bytes()
    durations_s: list[float] = []
    failures: collections.Counter[str] = collections.Counter()
    stop = threading.Event()

    def call_again_and_again(client: Client) -> None:
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                client.classify(content, top_k=1)
            except ResnetClientError as exc:
                failures[f"{type(exc).__name__}: {exc}"] += 1
            durations_s.append(time.monotonic() - began_s)

    with Client(url) as client:
        client.wait_until_ready()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        callers = [threading.Thread(target=call_again_and_again, args=(client,)) for _ in range(int(threads))]
        for caller in callers:
            caller.start()
        sys.stdin.read()
        stop.set()
        for caller in callers:
            caller.join()
    sys.stdout.write(json.dumps({"durations_s": durations_s, "failures": failures}) + "\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main(*sys.argv[1:])
