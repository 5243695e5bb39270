"""The table of checks with their kind, effect and fix, and the report of a snapshot."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Literal, TypeAlias

from resnet_client.doctor import checks
from resnet_client.doctor.snapshot import Snapshot

Kind: TypeAlias = Literal["error", "performance", "security"]

_MAX_PROBLEM_LENGTH = 400  # a server's message may be a stack trace


@dataclasses.dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        find: finds the problems.
        kind: requests fail or results are wrong (``error``), the server could be faster (``performance``), or it
            is open to unauthenticated clients (``security``).
        effect: why a problem matters.
        fix: what to do.
    """

    find: Callable[..., checks.Problems]
    kind: Kind
    effect: str
    fix: str

    @property
    def name(self) -> str:
        """Name in reports and for ``--ignore``."""
        return self.find.__name__.replace("_", "-")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        check: name of the check.
        kind: ``error``, ``performance`` or ``security``.
        subject: the model, or the URL.
        problem: what the check found.
        effect: why the problem matters.
        fix: what to do.
    """

    check: str
    kind: Kind
    subject: str
    problem: str
    effect: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of all checks.

    Attributes:
        findings: in the order of the checks.
        passed: checks that found nothing.
        not_checked: check → why it did not run.
    """

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    not_checked: Mapping[str, str]


CHECKS = (
    Check(
        checks.not_ready,
        "error",
        effect="requests fail; a Python model whose process has died still reports that it is ready",
        fix="read the server's log, then restart the server, or unload and load the model",
    ),
    Check(
        checks.old_version,
        "error",
        effect="configs and error messages differ between versions, so the client may misread them",
        fix="use a newer Triton image (TRITON_TAG)",
    ),
    Check(
        checks.version_not_loaded,
        "error",
        effect="requests get an older version, or fail",
        fix="read the server's log, then fix the version or remove it from the repository",
    ),
    Check(
        checks.labels,
        "error",
        effect="clients get the class index instead of a label; the label file may belong to other weights",
        fix="set label_filename in config.pbtxt to a file with one line for each class (resnet-build --labels FILE)",
    ),
    Check(
        checks.preprocessing_config,
        "error",
        effect="images may be resized and cropped differently than in training, which lowers accuracy without an error",
        fix="build all models of the repository together with resnet-build",
    ),
    Check(
        checks.many_failures,
        "error",
        effect="clients get errors, for example because of invalid images, short timeouts or overload",
        fix="read the reasons in the metric nv_inference_request_failure and the clients' errors",
    ),
    Check(
        checks.no_metrics,
        "error",
        effect="dashboards and alerts have no data",
        fix="open the metrics port, or set --metrics-url (none skips the check)",
    ),
    Check(
        checks.token_refused,
        "error",
        effect="the admin APIs, such as model control, cannot be used",
        fix="use the server's token: RESNET_ADMIN_TOKEN, or the file of resnet-serve --admin-token-file",
    ),
    Check(
        checks.no_dynamic_batching,
        "performance",
        effect="requests of different clients are not batched",
        fix="set max_batch_size and dynamic_batching in config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        checks.never_batched,
        "performance",
        effect="each request is executed alone, because Triton batches only inputs of the same shape",
        fix="give the inputs one shape: encoded images as TYPE_STRING [1], pixels as TYPE_UINT8 [224, 224, 3]",
    ),
    Check(
        checks.queue_limit,
        "performance",
        effect="without a limit, overload delays every request; a queue policy next to max_queue_size delays them, too",
        fix="build the repository with resnet-build, which sets the parameter max_queue_size only",
    ),
    Check(
        checks.no_warmup,
        "performance",
        effect="the first requests after a start are many times slower",
        fix="add model_warmup to config.pbtxt, or build the repository with resnet-build",
    ),
    Check(
        checks.gpu_idle,
        "performance",
        effect="the models run on the CPU, although a GPU has many times the throughput",
        fix="set KIND_GPU or KIND_AUTO in instance_group; NVIDIA's image supports GPUs from compute capability 7.5 on",
    ),
    Check(
        checks.cuda_provider,
        "performance",
        effect="throughput is low, because the CUDA provider selects algorithms again whenever the batch size changes",
        fix="serve with --model-config-name=gpu; for TensorRT, build with resnet-build --gpu-engine tensorrt",
    ),
    Check(
        checks.open_admin_api,
        "security",
        effect="unauthenticated clients can load models, map shared memory, write traces or change log settings",
        fix="use resnet-serve, or Triton's --http-restricted-api and --grpc-restricted-protocol",
    ),
    Check(
        checks.plaintext,
        "security",
        effect="images, results and the admin token can be read and changed in transit",
        fix="use grpcs://, or https:// through a proxy with TLS; in a private network, use --ignore plaintext",
    ),
)
"""The checks in the order of reports."""


def examine(snapshot: Snapshot, *, ignored: Collection[str] = ()) -> Report:
    """Run all checks. A check whose data could not be read is listed with the reason; that is not a finding.

    Args:
        snapshot: of the server.
        ignored: names of checks to skip.
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
                findings.append(Finding(check.name, check.kind, subject, shown, check.effect, check.fix))
        else:
            passed.append(check.name)
    return Report(tuple(findings), tuple(passed), not_checked)
