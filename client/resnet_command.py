"""Starts the commands, and ends them on Ctrl-C: one rule for all.

It is not in a package, because the import of one takes long enough to be interrupted. It imports everything else,
the command's package included, where Ctrl-C is handled.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from types import FrameType
    from typing import NoReturn

EXIT_INTERRUPTED = 130


def build() -> NoReturn:
    """Run ``resnet-build``."""
    _run("resnet_build")


def client() -> NoReturn:
    """Run ``resnet-client``."""
    _run("resnet_client")


def loadtest() -> NoReturn:
    """Run ``resnet-loadtest``; SIGTERM ends a run with its report, like Ctrl-C."""
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _run("resnet_loadtest")


def serve() -> NoReturn:
    """Run ``resnet-serve``."""
    _run("resnet_serve")


def with_completion(parser: ArgumentParser) -> ArgumentParser:
    """Add ``--version`` to a finished parser, and answer a shell that asks for completions."""
    from importlib.metadata import version

    import argcomplete

    parser.add_argument("--version", action="version", version=f"%(prog)s {version('resnet50-triton')}")
    argcomplete.autocomplete(parser)
    return parser


def not_installed(package: str, extra: str) -> str:
    """Return the message about a package that an extra of this project installs."""
    return f"{package} is not installed: pip install '.[{extra}]' in the project's folder"


def _run(package: str) -> NoReturn:
    """Run ``main`` of the package's ``__main__``; exit with its code, or 130 after Ctrl-C.

    The interpreter's cleanup is left out: Ctrl-C would print a traceback, and under gevent, gRPC can block forever in
    the destructor of a channel; seen after a load test whose last requests were lost.
    """
    name = package.replace("_", "-")
    try:
        _handle_interrupts(name)
        import importlib

        _use_utf8()
        _open_streams()
        code = importlib.import_module(f"{package}.__main__").main()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        sys.stderr.write(f"{name}: interrupted\n")
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        pass
    except OSError as exc:
        code = code or 1
        sys.stderr.write(f"{name}: the output cannot be written: {exc.strerror}\n")
    os._exit(code)


def _handle_interrupts(name: str) -> None:
    """Let Ctrl-C raise KeyboardInterrupt, but end the process at once while the main thread imports a module.

    Some modules lose the exception, raise another, or abort the process: torch, grpc, gevent. A command that has
    something to undo sets Python's own handler.
    """
    import signal

    def interrupt(_: int, frame: FrameType | None) -> NoReturn:
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                os.write(2, f"{name}: interrupted\n".encode())
                os._exit(EXIT_INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background command ignores it
        signal.signal(signal.SIGINT, interrupt)


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode if file names have another encoding, which many libraries ignore."""
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:  # noqa: SLF001  # documented
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  # itself


def _open_streams() -> None:
    import errno
    import io

    class Closed(io.StringIO):
        """Replaces a standard output that was closed before the start."""

        def write(self, _: str) -> int:
            raise OSError(errno.EBADF, "it is closed")

    if sys.stdout is None:
        sys.stdout = Closed()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # text may contain characters that the encoding lacks
            stream.reconfigure(errors="backslashreplace")
