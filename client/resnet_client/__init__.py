"""Client for ResNet-50 on NVIDIA Triton: images in, classes or features out.

>>> from resnet_client import Client
>>> with Client("grpc://localhost:8001") as client:
...     print(client.classify("cat.jpg").top)

``__all__`` lists everything public, with :mod:`resnet_client.admin`; what only the modules contain may change.
"""

from resnet_client.async_client import AsyncClient
from resnet_client.client import Client
from resnet_client.config import ClientConfig
from resnet_client.errors import (
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
from resnet_client.images import ImageSource
from resnet_client.results import Classification, Health, ModelStatistics, Outcome, Prediction

__version__ = "0.1.0"

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
