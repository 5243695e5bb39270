"""Runs NVIDIA's ``tritonserver`` on this machine, without Docker.

:mod:`config` holds the configuration, and :mod:`models` finds the models that can be served. :mod:`installation` finds
the binary in the PyPI wheel ``nvidia-pytriton`` and creates its temporary folder, :mod:`flags` makes its command line,
:mod:`access` reads the admin token and checks the TLS files. :mod:`server` starts a :mod:`watchdog`, which runs
``tritonserver`` and replaces workers that die. :mod:`diagnosis` reads the cause of a failed start from the log and
warns about limits of the host. :mod:`cli` and :mod:`supervisor` are the command, :mod:`rollout` switches to new
versions of a model, :mod:`gateway` serves HTTP and JSON for curl and browsers.

>>> from resnet_serve import ServerConfig, TritonServer
>>> with TritonServer(ServerConfig("model_repository", port=0)) as server:  # doctest: +SKIP
...     print(server.grpc_url)
grpc://127.0.0.1:40123
"""

from resnet_serve.config import ALL_MODELS, ServerConfig, ServerError
from resnet_serve.models import ModelStatus
from resnet_serve.server import TritonServer

__all__ = ["ALL_MODELS", "ModelStatus", "ServerConfig", "ServerError", "TritonServer"]
