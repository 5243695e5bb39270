"""Client and server must have counted the same; otherwise one of them missed something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resnet_loadtest.samples import UNANSWERED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_loadtest.samples import Samples
    from resnet_loadtest.server_statistics import Step


def photos_answered(samples: Samples) -> int:
    """How many photos the client got an answer for, after the run's end included."""
    return int(samples["answered"].sum())


def photos_unanswered(samples: Samples) -> int:
    """How many photos were sent and never answered; the server may have counted them either way."""
    return int(samples["failed"][np.isin(samples["fate"], UNANSWERED)].sum())


def asked_of(steps: Mapping[str, Step], entries: Mapping[str, str]) -> int:
    """How many requests the models that clients call have answered.

    Args:
        steps: what each model did.
        entries: the models that clients call → the ensemble each is a step of; empty for none. A step's
            count holds its ensemble's, which are taken off again.
    """
    total = 0
    for model, ensemble in entries.items():
        total += steps[model].succeeded if model in steps else 0
        total -= steps[ensemble].succeeded if ensemble in steps else 0
    return total


def disagreement(
    samples: Samples, steps: Mapping[str, Step], entries: Mapping[str, str], *, is_shared: bool = False
) -> str | None:
    """What does not add up; None if all does.

    Args:
        samples: all that the clients recorded.
        steps: what each model did.
        entries: as for :func:`asked_of`.
        is_shared: others may have called the server too, so it may have counted more.
    """
    answered, unanswered = photos_answered(samples), photos_unanswered(samples)
    counted = asked_of(steps, entries)
    if counted < answered:
        return f"the clients got {answered} answers, but the server counted only {counted}"
    if counted > answered + unanswered and not is_shared:
        who = "somebody else calls it (allow that with --shared-server), or answers were lost"
        return f"the server counted {counted} answers, but the clients got {answered}: {who}"
    return None
