"""Client for ResNet-50 on NVIDIA Triton: photos in, classes or features out.

>>> from resnet_client import Client
>>> with Client("grpc://localhost:8001") as client:
...     print(client.classify("cat.jpg").top)

Everything public is listed in ``__all__``; all modules are private, except :mod:`resnet_client.admin`.
"""

from resnet_client._async_client import AsyncClient
from resnet_client._client import Client
from resnet_client._config import ClientConfig
from resnet_client._exceptions import (
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    ImageError,
    InvalidImageError,
    ModelNotFoundError,
    OverloadedError,
    RequestError,
    ResnetClientError,
    ResponseError,
    ServerError,
    UnavailableError,
)
from resnet_client._images import ImageSource
from resnet_client._results import Classification, Health, ModelStatistics, Outcome, Prediction

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "ClientConfig",
    "ClosedError",
    "ConfigurationError",
    "DeadlineExceededError",
    "Health",
    "ImageError",
    "ImageSource",
    "InvalidImageError",
    "ModelNotFoundError",
    "ModelStatistics",
    "Outcome",
    "OverloadedError",
    "Prediction",
    "RequestError",
    "ResnetClientError",
    "ResponseError",
    "ServerError",
    "UnavailableError",
]
