"""Build requests to Triton from the arguments of a call: pure functions, independent of the protocol."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from resnet_client.errors import ConfigurationError
from resnet_client.images import golden
from resnet_client.tracing import SILENT, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from resnet_client.config import ClientConfig

IMAGE = "IMAGE"
PIXELS = "PIXELS__0"
PROBABILITIES = "PROBABILITIES__0"
FEATURES = "FEATURES__1"
MAPS = "MAPS__4"

_RAW = 0  # a class count of zero requests the tensor itself


BACKBONE = "resnet50_backbone"
"""The ensemble that returns feature maps."""

LARGEST_RESPONSE = 64 << 20
"""Longest response that is read, in bytes; the feature maps of an image have 6 MB."""

CONNECT_TIMEOUT_S = 3.0
"""Longest wait for a connection, in seconds: leaves time for another attempt; a lost packet costs one second."""


def map_shapes(size: int) -> dict[str, tuple[int, int, int]]:
    """Return the feature maps that ``MAPS__4`` concatenates: name → channels, height, width.

    Args:
        size: side of the pixels that the network takes.
    """
    sides = {number: -(-size // 2**number) for number in range(2, 6)}  # rounded up
    return {f"C{number}": (64 * 2**number, side, side) for number, side in sides.items()}


@dataclasses.dataclass(frozen=True)
class Call:
    """A request other than inference.

    Attributes:
        method: tritonclient's name of the request, such as ``get_model_config``.
        arguments: its arguments, by tritonclient's names.
    """

    method: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_restricted(self) -> bool:
        """Whether a server may require the admin token for it; never for health."""
        return not self.method.startswith("is_")


@dataclasses.dataclass(frozen=True)
class Inference:
    """One image for one model.

    Attributes:
        model: name of the model.
        model_version: its version; empty for the server's choice.
        input_name: ``IMAGE`` or ``PIXELS__0``.
        tensor: object array of bytes, shape (1, 1), or uint8, shape (1, 224, 224, 3).
        output_name: ``PROBABILITIES__0``, ``FEATURES__1`` or ``MAPS__4``.
        class_count: how many classes to return; 0 returns the tensor itself.
        span: of the call that it is sent for.
    """

    model: str
    model_version: str
    input_name: str
    tensor: npt.NDArray[Any] = dataclasses.field(repr=False)  # keeps images out of logs
    output_name: str
    class_count: int = _RAW
    span: Span = dataclasses.field(default=SILENT, repr=False, compare=False)

    @property
    def datatype(self) -> str:
        """Triton's name of the tensor's type."""
        return "UINT8" if self.tensor.dtype == np.uint8 else "BYTES"


Request: TypeAlias = Call | Inference


@dataclasses.dataclass(frozen=True)
class Target:
    """Which model gets a call, which side preprocesses, and how long the call may take."""

    model: str
    model_version: str
    preprocessing: str
    timeout_s: float

    def call(self, method: str) -> Call:
        """A request about this model."""
        return Call(method, {"model_name": self.model, "model_version": self.model_version})

    def health_calls(self) -> dict[str, Call]:
        """Field of :class:`Health` → request that answers it, in the order in which they are sent."""
        return {
            "server_live": Call("is_server_live"),
            "server_ready": Call("is_server_ready"),
            "model_ready": self.call("is_model_ready"),
        }

    def inference(
        self, content: bytes | npt.NDArray[np.uint8], output_name: str, class_count: int = _RAW, span: Span = SILENT
    ) -> Inference:
        """The request for one image: ``IMAGE`` for encoded bytes, ``PIXELS__0`` for pixels."""
        if not isinstance(content, bytes):
            input_name, tensor = PIXELS, content[np.newaxis]
        elif self.model.startswith("network_"):
            raise ConfigurationError(
                f"{self.model} takes pixels, not images: use preprocessing='client', or a model that "
                "preprocesses, such as 'resnet50'"
            )
        else:
            input_name, tensor = IMAGE, np.array([[content]], dtype=np.object_)
        return Inference(self.model, self.model_version, input_name, tensor, output_name, class_count, span)


def microseconds(timeout_s: float) -> int:
    """The timeout in the server's unit; the server drops queued requests whose timeout has passed."""
    return max(1, round(timeout_s * 1_000_000))


def probe(config: ClientConfig) -> Inference:
    """The request that probes a server: a test image for the model.

    Triton's ready flags stay true when a model's worker is dead. A network that takes pixels refuses the image, which
    shows that it answers.
    """
    image = np.array([[golden()]], dtype=np.object_)
    return Inference(config.model, config.model_version or "", IMAGE, image, PROBABILITIES, class_count=1)
