"""Prints what `pip install` needs for some extras of the project, before its sources are copied into an image.

    python requirements.py build images > requirements.txt

Dependencies change seldom and are most of an image: installed from the metadata alone, they are a layer that stays.
"""

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


def main(extras: list[str]) -> None:
    """Print one requirement a line; extras that extras name are followed."""
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
