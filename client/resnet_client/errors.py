"""Everything that can go wrong, as exceptions of our own.

::

    ResnetClientError
    ├── ConfigurationError (ValueError)      an option, a URL or an argument makes no sense
    ├── ClosedError                          the client was used after ``close()``
    ├── ImageError (ValueError)              this image cannot be read here
    │   └── InvalidImageError                its content is no image (found by the server or by the client)
    └── ServerError                          the server, or the way to it
        ├── UnavailableError                 nobody answers, or the connection was lost
        ├── OverloadedError                  the server refuses because its queue is full
        ├── DeadlineExceededError (TimeoutError)   no answer within ``timeout_s``
        ├── ModelNotFoundError               the server does not serve this model or version
        ├── RequestError                     the server refuses this request
        └── ResponseError                    the server failed, or answered something unreadable

Whoever catches :class:`ResnetClientError` catches all of them: errors of gRPC, aiohttp, Pillow and
sockets are translated (``error_mapping.py``, ``images.py``) and stay reachable as
``__cause__``.
"""

from __future__ import annotations


class ResnetClientError(Exception):
    """Base of every error this library raises."""


class ConfigurationError(ResnetClientError, ValueError):
    """An option, URL or argument makes no sense; the message says what would."""


class ClosedError(ResnetClientError):
    """The client was closed; make a new one, or keep the calls inside its ``with`` block."""


class ImageError(ResnetClientError, ValueError):
    """The image cannot be read on this side; correct the path or pass a supported kind of image.

    Attributes:
        source: short description of the image: its path, or its kind and size.
    """

    def __init__(self, message: str, *, source: str) -> None:
        super().__init__(message)
        self.source = source

    def __reduce__(self) -> tuple[object, ...]:
        """Keep ``source`` when the error travels between processes."""
        return _rebuilt_image_error, (type(self), str(self), self.source)


class InvalidImageError(ImageError):
    """The bytes are no image, damaged, or too large; replace the file."""


class ServerError(ResnetClientError):
    """The server, or the way to it, failed; the subclasses say which.

    Attributes:
        status: the server's own status, such as ``"NOT_FOUND"``; None where no server answered.
    """

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnavailableError(ServerError):
    """Nobody answers at this URL or the connection broke; start the server, check the URL, retry."""


class OverloadedError(ServerError):
    """The server's queue is full or the request waited there too long; retry later, or send less."""


class DeadlineExceededError(ServerError, TimeoutError):
    """No answer within ``timeout_s``, all attempts together; allow more time or look at the server."""


class ModelNotFoundError(ServerError):
    """The server has no such model or version ready; ``resnet-serve`` lists its models when it starts."""


class RequestError(ServerError):
    """The server understood the request and refuses it; the message holds the server's reason."""


class ResponseError(ServerError):
    """The server failed inside or answered something unreadable; its log tells more."""


def _rebuilt_image_error(kind: type[ImageError], message: str, source: str) -> ImageError:
    return kind(message, source=source)
