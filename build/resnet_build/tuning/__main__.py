"""Beside a server that ``resnet-build tune`` has started; its address and token are in the environment."""

from __future__ import annotations

import sys

from resnet_build.tuning.command import measure

if __name__ == "__main__":
    sys.exit(measure(sys.argv[1:]))
