"""The real ``tritonserver`` on this machine, without Docker.

:mod:`config` is what to run, :mod:`installation` finds the binary of the PyPI wheel ``nvidia-pytriton`` and
composes a backend directory for it, :mod:`server` starts it, waits and stops it, :mod:`guard` is the small
process between that never leaves anything behind, :mod:`diagnosis` reads a cause out of the server's log.

>>> from resnet_serve import ServerConfig, TritonServer
>>> with TritonServer(ServerConfig("model_repository", port=0)) as server:  # doctest: +SKIP
...     print(server.grpc_url)
grpc://127.0.0.1:40123
"""

from resnet_serve.config import ServerConfig
from resnet_serve.errors import ServerError
from resnet_serve.server import ModelStatus, TritonServer

__all__ = ["ModelStatus", "ServerConfig", "ServerError", "TritonServer"]
