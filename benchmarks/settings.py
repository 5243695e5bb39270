"""The settings that `python -m benchmarks sweep` found best, kept in settings.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("settings.json")


def best(contender: str, network: str) -> dict[str, Any]:
    """What was best for a peer, or for the ceiling; for a network that was not tried, what was best for INT8.

    Raises:
        SystemExit: it was never looked for.
    """
    try:
        found: dict[str, Any] = _read()[contender].get(network) or _read()[contender]["INT8"]
    except KeyError:
        raise SystemExit(f"no settings are known for {contender}, {network}: python -m benchmarks sweep") from None
    return found


def keep(contender: str, network: str, settings: dict[str, Any]) -> None:
    """Write down what was found."""
    everything = _read()
    everything.setdefault(contender, {})[network] = settings
    _FILE.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.exists() else {}
    return content
