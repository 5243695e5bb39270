"""The blocking client: ``requests.py`` builds requests, ``responses.py`` reads responses, any thread sends."""

from __future__ import annotations

import contextlib
import threading
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from resnet_client import forks, tracing
from resnet_client.base import (
    CHECK_INTERVAL_S,
    CHECK_TIMEOUT_S,
    NAME_POLL_S,
    BaseClient,
    check_images,
    check_positive,
    failed,
    log_retry,
    logged_probe,
    naming_image,
)
from resnet_client.endpoints import resolve
from resnet_client.error_mapping import mapped
from resnet_client.errors import ClosedError, ResnetClientError, ServerError
from resnet_client.images import encoded, golden, pixels
from resnet_client.in_order import in_order
from resnet_client.progress import bar
from resnet_client.requests import (
    BACKBONE,
    FEATURES,
    MAPS,
    PROBABILITIES,
    Call,
    Target,
    probe,
)
from resnet_client.responses import (
    check_ready,
    read_classification,
    read_features,
    read_maps,
    read_metadata,
    read_pixel_target,
    read_statistics,
)
from resnet_client.results import Health, Outcome, added_up
from resnet_client.retry import Attempts, Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Self

    import numpy as np
    import numpy.typing as npt

    from resnet_client.config import ClientConfig, Preprocessing
    from resnet_client.endpoints import Endpoint
    from resnet_client.grpc import GrpcTransport
    from resnet_client.http import HttpTransport
    from resnet_client.images import ImageSource
    from resnet_client.pool import Server
    from resnet_client.requests import Request
    from resnet_client.responses import Answer, PixelTarget
    from resnet_client.results import Classification, ModelStatistics

    Transport: TypeAlias = GrpcTransport | HttpTransport

T = TypeVar("T")

_JOIN_TIMEOUT_S = 1.0


class Client(BaseClient):
    """A connection to a Triton server that serves ResNet-50; any number of threads may share it.

    >>> with Client("grpc://localhost:8001") as client:
    ...     client.classify("cat.jpg").top.label

    The client connects at the first call. Over HTTP each call in flight has its own connection.
    """

    def _open(self) -> None:
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._transports: dict[Endpoint, Transport] = {}
        self._checks: threading.Thread | None = None
        forks.on_fork(self, Client._after_fork)

    @property
    def _is_closed(self) -> bool:
        return self._closed.is_set()

    def classify(
        self,
        image: ImageSource,
        *,
        top_k: int = 5,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Classification:
        """Classify an image.

        Args:
            image: path, encoded bytes, binary file, ``PIL.Image``, or uint8 array: (height, width, 3), RGB,
                (height, width, 4), whose alpha is ignored, or (height, width), grey.
            top_k: how many classes to return, at least 1.
            model: served model instead of the client's.
            model_version: its version instead of the client's, such as ``"1"``.
            timeout_s: longest wall time in seconds, all attempts together, instead of the client's.
            preprocessing: ``"server"`` or ``"client"``, instead of the client's.

        Raises:
            ImageError: the image cannot be read; ``InvalidImageError``: it is not an image, or is damaged or too large.
            ServerError: there is no valid response; the subclasses name the reason.
            ConfigurationError: an argument is invalid.
        """
        target = self._target(model, model_version, preprocessing, timeout_s)
        return self._classify(image, target, check_positive("top_k", top_k))

    def embed(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> npt.NDArray[np.float32]:
        """Compute an image's feature vector, for search, clustering or another classifier.

        The arguments and errors are those of :meth:`classify`.

        Returns:
            float32 array, shape (2048,), values of 0 and above: the network's global average pool.
        """
        target = self._target(model, model_version, preprocessing, timeout_s)
        return self._embed(image, target)

    def feature_maps(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> dict[str, npt.NDArray[np.floating[Any]]]:
        """Compute an image's feature maps, for detection and segmentation.

        The server needs a model repository built with ``resnet-build --backbone``. The arguments and errors are
        those of :meth:`classify`, but ``model`` is ``resnet50_backbone`` if not given.

        Returns:
            The outputs of the four stages, for 224 pixels arrays ``C2`` (256, 56, 56), ``C3`` (512, 28, 28), ``C4``
            (1024, 14, 14) and ``C5`` (2048, 7, 7), values of 0 and above; float32, or float16 if the server was built
            with it.

        Raises:
            ModelNotFoundError: the server has no such model.
        """
        target = self._target(BACKBONE if model is None else model, model_version, preprocessing, timeout_s)
        return read_maps(self._infer("feature_maps", image, target, MAPS))

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        max_in_flight: int = 16,
        top_k: int = 5,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
        progress: bool = False,
    ) -> Iterator[Outcome[Classification]]:
        """Classify any number of images, several at a time.

        There is one outcome for each image, in order; an image that fails is an outcome with an error and does not
        end the run. ``images`` is any iterable, read lazily: memory does not grow with its length. At most
        ``max_in_flight`` images are in flight at once. ``progress`` shows a bar on standard error. The other arguments
        are those of :meth:`classify`.

        Raises:
            ConfigurationError: an argument is invalid; raised at once, before the first image.
            ClosedError: the client is closed before the last image.
        """
        check_positive("top_k", top_k)
        target = self._target(model, model_version, preprocessing, timeout_s)
        return self._many(
            check_images(images),
            lambda source: self._classify(source, target, top_k),
            max_in_flight=check_positive("max_in_flight", max_in_flight),
            progress=progress,
        )

    def embed_many(
        self,
        images: Iterable[ImageSource],
        *,
        max_in_flight: int = 16,
        model: str | None = None,
        model_version: str | None = None,
        timeout_s: float | None = None,
        preprocessing: Preprocessing | None = None,
        progress: bool = False,
    ) -> Iterator[Outcome[npt.NDArray[np.float32]]]:
        """Embed any number of images, several at a time.

        There is one outcome for each image, in order; an image that fails is an outcome with an error and does not
        end the run. ``images`` is any iterable, read lazily: memory does not grow with its length. At most
        ``max_in_flight`` images are in flight at once. ``progress`` shows a bar on standard error. The other arguments
        are those of :meth:`classify`.

        Raises:
            ConfigurationError: an argument is invalid; raised at once, before the first image.
            ClosedError: the client is closed before the last image.
        """
        target = self._target(model, model_version, preprocessing, timeout_s)
        return self._many(
            check_images(images),
            lambda source: self._embed(source, target),
            max_in_flight=check_positive("max_in_flight", max_in_flight),
            progress=progress,
        )

    def wait_until_ready(self, timeout_s: float = 60.0, *, model: str | None = None) -> None:
        """Wait until the model has classified a small test image; the server's ready flags alone do not count.

        Args:
            timeout_s: how long to wait, in seconds.
            model: which model instead of the client's.

        Raises:
            DeadlineExceededError: it was not ready in time; the message has the last failure.
        """
        target = self._target(model, timeout_s=timeout_s)
        deadline = Deadline(timeout_s)
        while not (health := self._health(target, deadline)).ok:
            self._check_ready_by(deadline, health)
            self._sleep(CHECK_INTERVAL_S)

    def is_ready(self, *, model: str | None = None, timeout_s: float | None = None) -> bool:
        """Whether the model classifies a small test image now.

        Args:
            model: which model instead of the client's.
            timeout_s: longest wall time in seconds, instead of the client's.
        """
        return (self.health(model=model, timeout_s=timeout_s)).ok

    def health(self, *, model: str | None = None, timeout_s: float | None = None) -> Health:
        """The health of server and model; an unreachable server is part of the result and raises no error.

        Args:
            model: which model instead of the client's.
            timeout_s: longest wall time in seconds, instead of the client's.
        """
        target = self._target(model, timeout_s=timeout_s)
        return self._health(target, Deadline(target.timeout_s))

    def metadata(self, *, model: str | None = None, model_version: str | None = None) -> dict[str, Any]:
        """Metadata of the server and the model, ready for JSON.

        Args:
            model: which model instead of the client's.
            model_version: which version of it.

        Returns:
            Dictionaries ``server`` (name, version, extensions) and ``model`` (name, versions, platform, max_batch_size,
            inputs, outputs, parameters); shapes are lists of integers, -1 for the batch.

        Raises:
            ServerError: there is no valid response; the subclasses name the reason.
        """
        target = self._target(model, model_version)
        deadline = Deadline(target.timeout_s)
        server = self._send(Call("get_server_metadata"), deadline)
        described = self._send(target.call("get_model_metadata"), deadline)
        config = self._send(target.call("get_model_config"), deadline)
        return read_metadata(server, described, config)

    def statistics(self, *, model: str | None = None) -> tuple[ModelStatistics, ...]:
        """Triton's counts and times, summed over all servers.

        Args:
            model: one model's; None for all that are served, each step of an ensemble included.

        Returns:
            One entry per model and version, in that order.

        Raises:
            ServerError: there is no valid response; the subclasses name the reason.
        """
        target = self._target(model or None)
        deadline = Deadline(target.timeout_s)
        request = Call("get_inference_statistics", {"model_name": model or ""})
        self._pick(deadline)
        counts: list[ModelStatistics] = []
        for server in self._pool.servers:
            counts += read_statistics(self._send(request, deadline, server))
        return added_up(counts)

    def close(self) -> None:
        """Close the connections; calling it again does nothing."""
        with self._lock:
            self._closed.set()
        if self._checks is not None:
            self._checks.join(_JOIN_TIMEOUT_S)  # it may wait for name resolution; it is a daemon
        for transport in self._transports.values():
            transport.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _classify(self, image: ImageSource, target: Target, top_k: int) -> Classification:
        return read_classification(self._infer("classify", image, target, PROBABILITIES, top_k), top_k)

    def _embed(self, image: ImageSource, target: Target) -> npt.NDArray[np.float32]:
        return read_features(self._infer("embed", image, target, FEATURES))

    def _many(
        self, images: Iterable[ImageSource], call: Callable[[ImageSource], T], *, max_in_flight: int, progress: bool
    ) -> Iterator[Outcome[T]]:
        """Make one call for each image, several at a time, outcomes in order."""

        def perform(image: ImageSource) -> Outcome[T]:
            started = Deadline(0)
            try:
                result = call(image)
            except ResnetClientError as exc:
                return failed(image, exc, started)
            return Outcome(image, result, duration_s=-started.left_s)

        with bar(length_hint(images) or None, shown=progress) as advance:
            outcomes = in_order(images, perform, max_in_flight=max_in_flight)
            with contextlib.closing(outcomes):
                for outcome in outcomes:
                    advance(not outcome.ok)
                    yield outcome

    def _infer(self, method: str, image: ImageSource, target: Target, output_name: str, class_count: int = 0) -> Answer:
        deadline = Deadline(target.timeout_s)
        with tracing.call(method, target.model, self._config.url) as span, naming_image(image):
            network, content = self._prepared(image, target, deadline)
            request = network.inference(content, output_name, class_count, span)
            answer: Answer = self._send(request, deadline)
            return answer

    def _prepared(
        self, image: ImageSource, target: Target, deadline: Deadline
    ) -> tuple[Target, bytes | npt.NDArray[np.uint8]]:
        """The model that gets the image, and what it gets: the encoded image, or pixels."""
        if target.preprocessing == "server":
            return target, encoded(image)
        network = self._pixel_target(target, deadline)
        return network.target, pixels(image, network.preprocess_config, network.limits)

    def _pixel_target(self, target: Target, deadline: Deadline) -> PixelTarget:
        key = target.model, target.model_version
        if key not in self._pixel_targets:
            config = self._send(target.call("get_model_config"), deadline)
            self._pixel_targets[key] = read_pixel_target(config, target)
        return self._pixel_targets[key]

    def _health(self, target: Target, deadline: Deadline) -> Health:
        found: dict[str, Any] = {}
        try:
            server = self._pick(deadline.at_most(CHECK_TIMEOUT_S))
            for name, call in target.health_calls().items():
                found[name] = self._send_once(server, call, deadline.at_most(CHECK_TIMEOUT_S))
            check_ready(found, server, target)
            network, content = self._prepared(golden(), target, deadline)
            request = network.inference(content, PROBABILITIES, class_count=1)
            found["answer"] = read_classification(self._send_once(server, request, deadline), 1)
        except ServerError as exc:
            found["error"] = exc
        return Health(**found)

    def _send(self, request: Request, deadline: Deadline, server: Server | None = None) -> Any:
        """Send until a server answers or no attempt is left.

        Args:
            request: what to send.
            deadline: of all attempts together.
            server: the only server to try; None for any.
        """
        self._start_checks()
        attempts = Attempts(self._config, self._retry_budget, self._pool, deadline)
        while True:
            try:
                chosen = server or self._pick(deadline, attempts.tried)
                attempts.tried.add(chosen)
                return self._send_once(chosen, request, deadline)
            except ServerError as exc:
                pause_s = attempts.pause_after(exc, is_fixed=server is not None)
                if pause_s is None:
                    raise
                log_retry(exc, pause_s, request)
            self._sleep(pause_s)

    def _pick(self, deadline: Deadline, tried: Collection[Server] = ()) -> Server:
        """The server for the next attempt; waits until names have been resolved for the first time."""
        self._start_checks()
        while (server := self._pool.pick(tried)) is None:
            self._check_resolved_by(deadline)
            self._sleep(NAME_POLL_S)
        return server

    def _send_once(self, server: Server, request: Request, deadline: Deadline) -> Any:
        timeout_s = deadline.remaining_s()
        with self._pool.observe(server):
            try:
                return self._transport(server.endpoint).send(request, timeout_s)
            except ServerError as exc:
                if self._is_closed:
                    raise ClosedError("the client was closed while it waited for a response") from exc
                raise

    def _transport(self, endpoint: Endpoint) -> Transport:
        with self._lock:
            if self._is_closed:
                raise ClosedError("the client was closed while it was used")
            if (transport := self._transports.get(endpoint)) is None:
                transport = self._transports[endpoint] = connect(self._config, endpoint)
            return transport

    def _sleep(self, pause_s: float) -> None:
        if pause_s and self._closed.wait(pause_s):
            raise ClosedError("the client was closed while it waited")

    def _start_checks(self) -> None:
        """Start the thread that checks several servers while there are calls."""
        if self._pool.is_single or (self._checks is not None and self._checks.is_alive()):
            return
        with self._lock:
            if not self._is_closed and (self._checks is None or not self._checks.is_alive()):
                self._checks = threading.Thread(target=self._check_servers, name="resnet-client-checks", daemon=True)
                self._checks.start()

    def _check_servers(self) -> None:
        """Resolve names, probe ejected servers, close connections to removed ones; end when the pool is idle."""
        with contextlib.suppress(ClosedError):
            while not self._pool.is_idle():
                self._resolve_names()
                for server in self._pool.probes_due():
                    if server in self._pool.servers:
                        with logged_probe():
                            self._send_once(server, probe(self._config), Deadline(CHECK_TIMEOUT_S))
                        self._resolve_names()  # a dead server delays its probe by seconds
                for endpoint in self._pool.take_drained():
                    with self._lock:
                        transport = self._transports.pop(endpoint, None)
                    if transport is not None:
                        transport.close()
                self._sleep(CHECK_INTERVAL_S)

    def _resolve_names(self) -> None:
        for name in self._pool.names_due():
            self._pool.resolved(name, resolve(name))

    def _after_fork(self) -> None:
        """Reset in a child process: connections and locks belong to the parent."""
        is_closed = self._is_closed
        inherited = self._transports
        self._open()
        if is_closed:
            self._closed.set()
        for transport in inherited.values():
            transport.abandon()
        self._pool.after_fork()
        self._retry_budget.after_fork()


def connect(config: ClientConfig, endpoint: Endpoint) -> Transport:
    """A blocking transport to this server; it connects with its first request. Imports its protocol's library."""
    with mapped(str(endpoint), 0):
        if endpoint.is_grpc:
            from resnet_client.grpc import GrpcTransport

            return GrpcTransport(config, endpoint)
        from resnet_client.http import HttpTransport

        return HttpTransport(config, endpoint)
