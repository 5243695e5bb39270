"""The real ``tritonserver`` on this machine, without Docker.

:mod:`config` is what to run, :mod:`installation` finds the binary of the PyPI wheel ``nvidia-pytriton`` and
composes a backend directory for it, :mod:`flags` is its command line, :mod:`access` decides who may do what,
:mod:`server` starts it, waits and stops it, :mod:`diagnosis` reads a cause out of its log. Two small processes
stand between: :mod:`guard` never leaves anything behind, :mod:`supervisor` replaces workers that die.
:mod:`session` and :mod:`options` are the command, :mod:`rollout` brings in new versions of a model.

>>> from resnet_serve import ServerConfig, TritonServer
>>> with TritonServer(ServerConfig("model_repository", port=0)) as server:  # doctest: +SKIP
...     print(server.grpc_url)
grpc://127.0.0.1:40123
"""

from resnet_serve.config import ServerConfig
from resnet_serve.errors import ServerError
from resnet_serve.models import ModelStatus
from resnet_serve.server import TritonServer

__all__ = ["ModelStatus", "ServerConfig", "ServerError", "TritonServer"]
