"""The command ``resnet-client``."""

from __future__ import annotations

import sys

from resnet_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
