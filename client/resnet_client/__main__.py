"""The command ``resnet-client``."""

from __future__ import annotations

import resnet_command

from resnet_client.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    resnet_command.client()
