"""The real ``tritonserver`` on this machine, without Docker.

:mod:`config` is what to run, :mod:`models` which models of it. :mod:`installation` finds the binary of the PyPI wheel
``nvidia-pytriton`` and makes the temporary folder it runs with, :mod:`flags` is its command line, :mod:`access` decides
who may do what. :mod:`server` starts a :mod:`watchdog`, which runs ``tritonserver`` and replaces workers that die;
:mod:`diagnosis` reads the cause of a failed start from the log and warns of limits of the host. :mod:`cli` and
:mod:`session` are the command, :mod:`rollout` brings in new versions of a model, :mod:`gateway`
serves people and browsers.

>>> from resnet_serve import ServerConfig, TritonServer
>>> with TritonServer(ServerConfig("model_repository", port=0)) as server:  # doctest: +SKIP
...     print(server.grpc_url)
grpc://127.0.0.1:40123
"""

from resnet_serve.config import ServerConfig, ServerError
from resnet_serve.models import ModelStatus
from resnet_serve.server import TritonServer

__all__ = ["ModelStatus", "ServerConfig", "ServerError", "TritonServer"]
