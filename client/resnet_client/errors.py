"""The exceptions of the client.

::

    ResnetClientError
    ├── ConfigurationError (ValueError)      an option, a URL or an argument is invalid
    ├── ClosedError                          the client was used after ``close()``
    ├── ImageError (ValueError)              the client cannot read this image
    │   └── InvalidImageError                the content is not a valid image (found by the server or by the client)
    └── ServerError                          the server, or the connection to it, failed
        ├── UnavailableError                 the server does not answer, or the connection was lost
        ├── OverloadedError                  the server refuses the request because its queue is full
        ├── DeadlineExceededError (TimeoutError)   no answer within ``timeout_s``
        ├── ModelNotFoundError               the server does not serve this model or version
        ├── RequestError                     the server refuses this request
        └── ResponseError                    the server failed, or its response cannot be read

Catch :class:`ResnetClientError` to catch all of them. Exceptions of gRPC, aiohttp, Pillow and sockets are mapped to
these (``error_mapping.py``, ``images.py``); the original is the ``__cause__``.
"""

from __future__ import annotations

import functools


class ResnetClientError(Exception):
    """Base of every error this library raises."""

    def _render_traceback_(self) -> list[str]:
        """Shown by IPython and Jupyter instead of the traceback, most of which lies inside of this package."""
        return [f"{type(self).__name__}: {self}"]


class ConfigurationError(ResnetClientError, ValueError):
    """An option, URL or argument is invalid; the message names valid values."""


class ClosedError(ResnetClientError):
    """The client was closed; make a new one, or keep the calls inside its ``with`` block."""


class ImageError(ResnetClientError, ValueError):
    """The client cannot read the image; correct the path or pass a supported kind of image.

    Attributes:
        source: short description of the image: its path, or its kind and size.
    """

    def __init__(self, message: str, *, source: str) -> None:
        super().__init__(message)
        self.source = source

    def __reduce__(self) -> tuple[object, ...]:
        """Keep ``source`` when the error travels between processes."""
        return functools.partial(type(self), str(self), source=self.source), ()


class InvalidImageError(ImageError):
    """The bytes are not an image, or it is damaged or too large; replace the file."""


class ServerError(ResnetClientError):
    """The server, or the connection to it, failed; the subclasses name the reason.

    Attributes:
        status: the server's own status, such as ``"NOT_FOUND"``; None where no server answered.
    """

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnavailableError(ServerError):
    """The server does not answer, or the connection was lost; start the server, check the URL, retry."""


class OverloadedError(ServerError):
    """The server's queue is full, or the request waited there too long; retry later, or send fewer requests."""


class DeadlineExceededError(ServerError, TimeoutError):
    """No answer within ``timeout_s``, all attempts together; increase ``timeout_s``, or check the server's load."""


class ModelNotFoundError(ServerError):
    """The server has no such model or version ready; ``resnet-client load`` loads a model of the repository."""


class RequestError(ServerError):
    """The server refuses the request; the message holds the server's reason."""


class ResponseError(ServerError):
    """The server failed, or its response cannot be read; see the server's log."""
