"""``python -m resnet_serve`` and the script ``resnet-serve``."""

import resnet_command

from resnet_serve.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    resnet_command.serve()
