"""The command ``resnet-build tune``: starts the server that is measured, or takes the one of ``--url``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from resnet_build.errors import BuildError, UsageError
from resnet_build.tuning import options, procedure, slo

_URL_VARIABLE = "RESNET_URL"
_TOKEN_VARIABLE = "RESNET_ADMIN_TOKEN"  # noqa: S105  # a name


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code, unless the process becomes that of the server."""
    args = options.parser().parse_args(argv)
    try:
        if args.slo:
            slo.parse(args.slo)
        if args.url:
            return procedure.run(args, _target(args.url), os.environ.get(_TOKEN_VARIABLE), is_ours=False)
        procedure.check(args)
        _serve(argv, args.repository, args.model)
    except BuildError as exc:
        return _complain(exc)
    except KeyboardInterrupt:
        return _interrupted()


def measure(argv: Sequence[str]) -> int:
    """Run beside the server that :func:`main` has started; return the exit code."""
    args = options.parser().parse_args(argv)
    try:
        return procedure.run(args, _target(os.environ[_URL_VARIABLE]), os.environ[_TOKEN_VARIABLE], is_ours=True)
    except BuildError as exc:
        return _complain(exc)
    except KeyboardInterrupt:
        return _interrupted()


def _serve(argv: Sequence[str], repository: Path, model: str) -> NoReturn:
    """Become ``resnet-serve``, which runs :func:`measure` and ends with it: so neither outlives the other."""
    beside = Path(sys.executable).parent
    program = shutil.which("resnet-serve", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if program is None:
        raise BuildError(
            "tune measures the real server, and resnet-serve is not installed beside it "
            "(pip install 'resnet50-triton[serve]'); or name a server that runs, with --url"
        )
    inner = shlex.join([sys.executable, "-m", "resnet_build.tuning", *argv])
    server = [program, "--repository", str(repository), "--port", "0", "--then", inner, "--exit-after"]
    sys.stdout.flush()
    os.execv(program, [*server, "--", "--model-control-mode=explicit", f"--load-model={model}"])  # noqa: S606


def _target(url: str) -> str:
    scheme, _, target = url.rpartition("://")
    if scheme not in ("", "grpc") or not target:
        raise UsageError(f"--url must be a gRPC address such as grpc://localhost:8001, not {url}")
    return target


def _complain(exc: BuildError) -> int:
    print(f"resnet-build tune: {exc}", file=sys.stderr)  # noqa: T201  # the command's own voice
    return 2 if isinstance(exc, UsageError) else 1


def _interrupted() -> int:
    print("resnet-build tune: interrupted; nothing was written", file=sys.stderr)  # noqa: T201  # likewise
    return 1
