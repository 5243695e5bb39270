"""Prints the requirements of the project and some of its extras.

    python requirements.py build > requirements.txt

An image installs them before it copies the sources, so that they are a layer that seldom changes.
"""

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


def main(extras: list[str]) -> None:
    """Print one requirement per line, also those of extras that the given extras include."""
    wanted, seen = ["", *extras], set()
    while wanted:
        extra = wanted.pop()
        for requirement in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
            if requirement.startswith(PROJECT["name"]):
                named = requirement.partition("[")[2].rstrip("]").split(",")
                wanted += [name for name in named if name not in seen]
                seen.update(named)
            else:
                sys.stdout.write(f"{requirement}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
