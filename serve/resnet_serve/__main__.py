"""``python -m resnet_serve`` and the script ``resnet-serve``."""

import sys

from resnet_serve.cli import main

if __name__ == "__main__":
    sys.exit(main())
