"""The real ``tritonserver`` on this machine, without Docker.

:mod:`config` is what to run, :mod:`installation` finds the binary of the PyPI wheel ``nvidia-pytriton`` and
composes a backend directory for it, :mod:`flags` is its command line, :mod:`access` decides who may do what.
:mod:`server` starts a :mod:`watchdog`, which runs ``tritonserver`` and replaces workers that die; :mod:`leftovers`
removes what killed processes left, :mod:`diagnosis` reads the cause of a failed start from the log,
:mod:`host_checks` warns of limits of the machine. :mod:`session` and :mod:`options` are the command,
:mod:`rollout` brings in new versions of a model, :mod:`gateway` serves people and browsers.

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
