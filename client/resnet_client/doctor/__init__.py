"""``resnet-client doctor``: find common faults of a running server.

``snapshot.py`` reads the server, ``checks.py`` contains the checks, each with its fix.
"""

from resnet_client.doctor.checks import CHECKS, Check, Finding, Report, examine
from resnet_client.doctor.snapshot import Probe, Snapshot, take

__all__ = ["CHECKS", "Check", "Finding", "Probe", "Report", "Snapshot", "examine", "take"]
