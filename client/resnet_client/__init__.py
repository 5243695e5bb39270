"""Client for ResNet-50 on NVIDIA Triton: photos in, classes or features out.

>>> from resnet_client import Client
>>> with Client("grpc://localhost:8001") as client:
...     print(client.classify("cat.jpg").top)

Everything public is listed in ``__all__``; all modules are private.
"""

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
from resnet_client.async_client import AsyncClient
from resnet_client.client import Client

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
