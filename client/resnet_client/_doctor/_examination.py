"""Runs every check over one snapshot; what could not be seen is said as such, and is no finding."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING

from resnet_client._doctor import _access, _batching, _contract, _service

if TYPE_CHECKING:
    from collections.abc import Collection

    from resnet_client._doctor._check import Check
    from resnet_client._doctor._snapshot import Snapshot

CHECKS: tuple[Check, ...] = (*_service.CHECKS, *_contract.CHECKS, *_batching.CHECKS, *_access.CHECKS)

_LONGEST = 400


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: name of the check that found it.
        kind: ``wrong``, ``slow`` or ``exposed``.
        subject: the model, or the server's URL.
        what: what was seen.
        cause: why that is bad.
        remedy: what to do.
    """

    check: str
    kind: str
    subject: str
    what: str
    cause: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Examination:
    """All that the checks found.

    Attributes:
        findings: in the order of the checks.
        clean: checks that found nothing.
        unchecked: check → why it could not look.
    """

    findings: tuple[Finding, ...]
    clean: tuple[str, ...]
    unchecked: dict[str, str]


def examine(seen: Snapshot, *, ignored: Collection[str] = ()) -> Examination:
    """Run all checks.

    Args:
        seen: what they may look at.
        ignored: names of checks that are left out.
    """
    findings: list[Finding] = []
    clean: list[str] = []
    unchecked: dict[str, str] = {}
    for check in CHECKS:
        missing = [name for name in check.looks_at if getattr(seen, name) is None]
        if check.name in ignored:
            unchecked[check.name] = "ignored, as asked"
        elif missing:
            unchecked[check.name] = seen.unseen.get(missing[0], "not seen")
        elif found := [_finding(check, *hit) for hit in check.find(seen)]:
            findings += found
        else:
            clean.append(check.name)
    return Examination(tuple(findings), tuple(clean), unchecked)


def _finding(check: Check, subject: str, what: str) -> Finding:
    # Servers answer with stack traces, too.
    return Finding(
        check.name, check.kind, subject, textwrap.shorten(what, _LONGEST, placeholder=" …"), check.cause, check.remedy
    )
