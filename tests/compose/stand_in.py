"""Writes a program `tritonserver` that starts the wheel's with a composed backend directory."""

import shlex
import sys
from pathlib import Path

from resnet_serve import installation


def main(backends: str, program: str) -> None:
    """Compose the backends and write the program."""
    found = installation.find()
    found.compose(Path(backends))
    names = ("LD_LIBRARY_PATH", "PATH", "PYTHONPATH")
    variables = [f"export {name}={shlex.quote(found.environment()[name])}" for name in names]
    Path(program).write_text(
        "\n".join(["#!/bin/sh", *variables, f'exec {found.binary} --backend-directory={backends} "$@"', ""])
    )
    Path(program).chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
