"""The table that gives each check its kind, cause and fix, and the report that it makes of a snapshot."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Literal, TypeAlias

from resnet_client.doctor import checks
from resnet_client.doctor.snapshot import Snapshot

Kind: TypeAlias = Literal["error", "performance", "security"]

_MAX_PROBLEM_LENGTH = 400  # servers also answer with stack traces


@dataclasses.dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        find: finds the problems.
        kind: requests fail or results are wrong (``error``), the server could be faster (``performance``), or it
            is open to unauthenticated clients (``security``).
        cause: why a problem matters.
        fix: what to do.
    """

    find: Callable[..., checks.Problems]
    kind: Kind
    cause: str
    fix: str

    @property
    def name(self) -> str:
        """As in reports and for ``--ignore``."""
        return self.find.__name__.replace("_", "-")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        check: name of the check.
        kind: ``error``, ``performance`` or ``security``.
        subject: the model, or the URL.
        problem: what was seen.
        cause: why it matters.
        fix: what to do.
    """

    check: str
    kind: Kind
    subject: str
    problem: str
    cause: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of all checks.

    Attributes:
        findings: in the order of the checks.
        passed: checks that found nothing.
        not_checked: check → why it was left out.
    """

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    not_checked: Mapping[str, str]


CHECKS = (
    Check(
        checks.not_ready,
        "error",
        cause="requests fail; a Python model whose process has died still reports that it is ready",
        fix="read the server's log, then restart the server, or unload and load the model",
    ),
    Check(
        checks.old_version,
        "error",
        cause="configs and error messages differ between versions, so the client may misread them",
        fix="use a newer Triton image (TRITON_TAG)",
    ),
    Check(
        checks.version_not_loaded,
        "error",
        cause="an older version answers instead, or none",
        fix="read the server's log, then repair the version or remove it from the repository",
    ),
    Check(
        checks.labels,
        "error",
        cause="clients get the index instead of a label; a label file of another length may belong to other weights",
        fix="set label_filename in config.pbtxt to a file with one line for each class (resnet-build --labels FILE)",
    ),
    Check(
        checks.preprocessing_config,
        "error",
        cause="images may be resized and cropped otherwise than in training, which costs accuracy without an error",
        fix="build all models of the repository together with resnet-build",
    ),
    Check(
        checks.many_failures,
        "error",
        cause="clients send invalid images, time out early, or are refused under overload",
        fix="compare the reasons in the metric nv_inference_request_failure and the clients' errors",
    ),
    Check(
        checks.no_metrics,
        "error",
        cause="dashboards and alerts have no data",
        fix="open the metrics port, or name the endpoint with --metrics-url (none leaves it out)",
    ),
    Check(
        checks.token_refused,
        "error",
        cause="the admin APIs, such as statistics, cannot be used",
        fix="use the server's token: RESNET_ADMIN_TOKEN, or the file of resnet-serve --admin-token-file",
    ),
    Check(
        checks.no_dynamic_batching,
        "performance",
        cause="requests of different clients are never computed together",
        fix="set max_batch_size and dynamic_batching in config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        checks.never_batched,
        "performance",
        cause="Triton batches only requests whose inputs have the same shape",
        fix="give the inputs one shape: encoded images as TYPE_STRING [1], pixels as TYPE_UINT8 [224, 224, 3]",
    ),
    Check(
        checks.queue_limit,
        "performance",
        cause="without a limit, overload delays every request; so does a policy next to max_queue_size",
        fix="build the repository with resnet-build, which sets max_queue_size and no default_queue_policy",
    ),
    Check(
        checks.no_warmup,
        "performance",
        cause="the first requests after a start take many times as long",
        fix="add model_warmup to config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        checks.gpu_idle,
        "performance",
        cause="a GPU computes many times as many images per second",
        fix="set KIND_GPU or KIND_AUTO in instance_group",
    ),
    Check(
        checks.cuda_provider,
        "performance",
        cause="it plans all convolutions again whenever the batch size changes",
        fix="build with resnet-build --accelerator tensorrt, or serve TorchScript (resnet50_torchscript)",
    ),
    Check(
        checks.open_admin_api,
        "security",
        cause="any unauthenticated client can load models, map memory, write traces or change the log",
        fix="use resnet-serve, or Triton's --http-restricted-api and --grpc-restricted-protocol",
    ),
    Check(
        checks.plaintext,
        "security",
        cause="images, results and the admin token can be read and changed on the way",
        fix="use grpcs:// or https:// (behind a proxy with TLS); in a private network, --ignore plaintext",
    ),
)
"""In the order of reports."""


def examine(snapshot: Snapshot, *, ignored: Collection[str] = ()) -> Report:
    """Run all checks. A check whose data could not be read is listed with the reason; that is not a finding.

    Args:
        snapshot: what they look at.
        ignored: names of checks to leave out.
    """
    findings: list[Finding] = []
    passed: list[str] = []
    not_checked: dict[str, str] = {}
    for check in CHECKS:
        needed = {attribute: getattr(snapshot, attribute) for attribute in inspect.signature(check.find).parameters}
        missing = [attribute for attribute, value in needed.items() if value is None]
        if check.name in ignored:
            not_checked[check.name] = "ignored (--ignore)"
        elif missing:
            not_checked[check.name] = snapshot.unread[missing[0]]
        elif found := list(check.find(**needed)):
            for subject, problem in found:
                shown = textwrap.shorten(problem, _MAX_PROBLEM_LENGTH, placeholder=" …")
                findings.append(Finding(check.name, check.kind, subject, shown, check.cause, check.fix))
        else:
            passed.append(check.name)
    return Report(tuple(findings), tuple(passed), not_checked)
