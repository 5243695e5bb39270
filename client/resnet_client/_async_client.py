"""The asyncio client; what its methods do is in ``_flows.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_client._async_runner import AsyncRunner
from resnet_client._base import BaseClient, check_images, check_max_in_flight, check_top_k
from resnet_client._flows import BACKBONE

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable
    from types import TracebackType
    from typing import Self

    import numpy as np
    import numpy.typing as npt

    from resnet_client._config import Preprocessing
    from resnet_client._images import ImageSource
    from resnet_client._results import Classification, Health, ModelStatistics, Outcome


class AsyncClient(BaseClient):
    """A connection to a Triton server that serves ResNet-50, for asyncio; any number of tasks may share it.

    >>> async with AsyncClient("grpc://localhost:8001") as client:
    ...     (await client.classify("cat.jpg")).top.label

    Nothing is connected before the first call. It belongs to the event loop of that call. Leave
    ``classify_many`` early inside ``contextlib.aclosing``, so that what is under way ends at once.
    """

    _runner_type = AsyncRunner
    _runner: AsyncRunner

    async def classify(
        self,
        image: ImageSource,
        *,
        top_k: int = 5,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Classification:
        """Name what a photo shows.

        Args:
            image: path, encoded bytes, binary file, ``PIL.Image``, or uint8 array: (height, width, 3), RGB,
                (height, width, 4), whose alpha is ignored, or (height, width), greys.
            top_k: how many classes to return, at least 1.
            model: served model instead of the client's.
            model_version: its version instead of the client's, such as ``"1"``.
            timeout_s: longest wall time in seconds, all attempts together, instead of the client's.
            preprocessing: ``"server"`` or ``"client"``, instead of the client's.

        Raises:
            ImageError: the photo cannot be read; ``InvalidImageError``: it is no photo.
            ServerError: no good answer; the subclasses say why.
            ConfigurationError: an argument makes no sense.
        """
        self._check_open()
        target = self._flows.target(model, model_version, preprocessing, timeout_s)
        return await self._runner.run(self._flows.classify(image, target, check_top_k(top_k)))

    async def embed(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> npt.NDArray[np.float32]:
        """Turn a photo into its features, for search, clustering or a classifier of one's own.

        Args:
            image: path, encoded bytes, binary file, ``PIL.Image``, or uint8 array: (height, width, 3), RGB,
                (height, width, 4), whose alpha is ignored, or (height, width), greys.
            model: served model instead of the client's.
            model_version: its version instead of the client's, such as ``"1"``.
            timeout_s: longest wall time in seconds, all attempts together, instead of the client's.
            preprocessing: ``"server"`` or ``"client"``, instead of the client's.

        Returns:
            float32 array, shape (2048,), values of 0 and above: the network's global average pool.

        Raises:
            ImageError: the photo cannot be read; ``InvalidImageError``: it is no photo.
            ServerError: no good answer; the subclasses say why.
            ConfigurationError: an argument makes no sense.
        """
        self._check_open()
        target = self._flows.target(model, model_version, preprocessing, timeout_s)
        return await self._runner.run(self._flows.embed(image, target))

    async def feature_maps(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> dict[str, npt.NDArray[np.floating[Any]]]:
        """Turn a photo into the feature maps that detection and segmentation build on.

        The server has them where ``resnet-build --backbone`` was said.

        Args:
            image: path, encoded bytes, binary file, ``PIL.Image``, or uint8 array: (height, width, 3), RGB,
                (height, width, 4), whose alpha is ignored, or (height, width), greys.
            model: served model instead of ``resnet50_backbone``.
            model_version: its version instead of the latest, such as ``"1"``.
            timeout_s: longest wall time in seconds, all attempts together, instead of the client's.
            preprocessing: ``"server"`` or ``"client"``, instead of the client's.

        Returns:
            ``{"C2": (256, 56, 56), "C3": (512, 28, 28), "C4": (1024, 14, 14), "C5": (2048, 7, 7)}``, arrays of these
            shapes, values of 0 and above: the outputs of the four stages; float32, or float16 where the server
            was built for that.

        Raises:
            ImageError: the photo cannot be read; ``InvalidImageError``: it is no photo.
            ModelNotFoundError: the server has no such maps.
            ServerError: no good answer; the subclasses say why.
            ConfigurationError: an argument makes no sense.
        """
        self._check_open()
        target = self._flows.target(BACKBONE if model is None else model, model_version, preprocessing, timeout_s)
        return await self._runner.run(self._flows.feature_maps(image, target))

    def classify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        max_in_flight: int = 16,
        top_k: int = 5,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
        progress: bool = False,
    ) -> AsyncIterator[Outcome[Classification]]:
        """Classify any number of photos, several at a time.

        Outcomes come in the order of the photos, one for each; a photo that fails is an outcome with an
        error and does not end the run. ``images`` is read lazily: memory does not grow with its length.

        Args:
            images: photos as for ``classify``; lists, generators, anything iterable.
            max_in_flight: how many photos are under way at once, at least 1.
            top_k: how many classes to return for each, at least 1.
            model: served model instead of the client's.
            model_version: its version instead of the client's, such as ``"1"``.
            timeout_s: longest wall time per photo in seconds, all attempts together, instead of the client's.
            preprocessing: ``"server"`` or ``"client"``, instead of the client's.
            progress: show a bar on standard error.

        Raises:
            ConfigurationError: an argument makes no sense; raised at once, before the first photo.
            ClosedError: the client is closed before the last photo.
        """
        self._check_open()
        check_top_k(top_k)
        target = self._flows.target(model, model_version, preprocessing, timeout_s)
        return self._runner.run_many(
            check_images(images),
            lambda source: self._flows.classify(source, target, top_k),
            max_in_flight=check_max_in_flight(max_in_flight),
            progress=progress,
        )

    def embed_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        max_in_flight: int = 16,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
        progress: bool = False,
    ) -> AsyncIterator[Outcome[npt.NDArray[np.float32]]]:
        """Embed any number of photos, several at a time.

        Outcomes come in the order of the photos, one for each; a photo that fails is an outcome with an
        error and does not end the run. ``images`` is read lazily: memory does not grow with its length.

        Args:
            images: photos as for ``embed``; lists, generators, anything iterable.
            max_in_flight: how many photos are under way at once, at least 1.
            model: served model instead of the client's.
            model_version: its version instead of the client's, such as ``"1"``.
            timeout_s: longest wall time per photo in seconds, all attempts together, instead of the client's.
            preprocessing: ``"server"`` or ``"client"``, instead of the client's.
            progress: show a bar on standard error.

        Raises:
            ConfigurationError: an argument makes no sense; raised at once, before the first photo.
            ClosedError: the client is closed before the last photo.
        """
        self._check_open()
        target = self._flows.target(model, model_version, preprocessing, timeout_s)
        return self._runner.run_many(
            check_images(images),
            lambda source: self._flows.embed(source, target),
            max_in_flight=check_max_in_flight(max_in_flight),
            progress=progress,
        )

    async def wait_until_ready(self, timeout_s: float = 60.0, *, model: str | None = None) -> None:
        """Wait until the model has classified a small test picture, whatever the server says of itself.

        Args:
            timeout_s: how long to wait, in seconds.
            model: which model instead of the client's.

        Raises:
            DeadlineExceededError: it did not get ready in time; the message holds the last failure.
        """
        self._check_open()
        await self._runner.run(self._flows.wait_until_ready(self._flows.target(model, timeout_s=timeout_s)))

    async def is_ready(self, *, model: str | None = None, timeout_s: float | None = None) -> bool:
        """Whether the model classifies a small test picture now.

        Args:
            model: which model instead of the client's.
            timeout_s: longest wall time in seconds, instead of the client's.
        """
        return (await self.health(model=model, timeout_s=timeout_s)).ok

    async def health(self, *, model: str | None = None, timeout_s: float | None = None) -> Health:
        """How server and model are; a server that is down is a finding here, not an error.

        Args:
            model: which model instead of the client's.
            timeout_s: longest wall time in seconds, instead of the client's.
        """
        self._check_open()
        return await self._runner.run(self._flows.health(self._flows.target(model, timeout_s=timeout_s)))

    async def metadata(self, *, model: str | None = None, model_version: str | None = None) -> dict[str, Any]:
        """What the server and the model say of themselves, ready for JSON.

        Args:
            model: which model instead of the client's.
            model_version: which version of it.

        Returns:
            ``{"server": {name, version, extensions}, "model": {name, versions, platform, max_batch_size,
            inputs, outputs, parameters}}``; shapes are lists of integers, -1 for the batch.

        Raises:
            ServerError: no good answer; the subclasses say why.
        """
        self._check_open()
        return await self._runner.run(self._flows.metadata(self._flows.target(model, model_version)))

    async def statistics(self, *, model: str | None = None) -> tuple[ModelStatistics, ...]:
        """The server's own counts and times.

        Args:
            model: one model's; None for all that are served, each step of an ensemble included.

        Returns:
            One entry per model and version, in that order.

        Raises:
            ServerError: no good answer; the subclasses say why.
        """
        self._check_open()
        return await self._runner.run(self._flows.statistics(model, self._config.timeout_s))

    async def close(self) -> None:
        """Close the connections; calling it again does nothing."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
