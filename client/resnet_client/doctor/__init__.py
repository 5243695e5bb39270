"""``resnet-client doctor``: find common faults of a running server.

``snapshot.py`` reads the server, ``checks.py`` contains the checks, ``report.py`` lists them with cause and fix.
"""

from resnet_client.doctor.report import CHECKS, Check, Finding, Report, examine
from resnet_client.doctor.snapshot import Probe, Snapshot, take

__all__ = ["CHECKS", "Check", "Finding", "Probe", "Report", "Snapshot", "examine", "take"]
