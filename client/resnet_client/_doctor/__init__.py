"""``resnet-client doctor``: what is wrong or slow about a live server.

``_collect`` looks at the server once and writes down what it saw (``_snapshot``); ``_reading`` makes plain
data of Triton's configurations. The checks (``_batching``, ``_contract``, ``_access``, ``_service``) read the
snapshot and nothing else; ``_examination`` runs them all.
"""

from __future__ import annotations

from resnet_client._doctor._collect import Place, collect
from resnet_client._doctor._examination import CHECKS, Examination, Finding, examine
from resnet_client._doctor._snapshot import Snapshot

__all__ = ["CHECKS", "Examination", "Finding", "Place", "Snapshot", "collect", "examine"]
