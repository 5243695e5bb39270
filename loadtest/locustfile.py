"""Plain Locust: ``locust -f loadtest/locustfile.py`` with its web interface, or ``--headless``.

Select users by name: ``locust -f loadtest/locustfile.py ClassifyGrpc EmbedHttp``.
Locust runs a closed loop and keeps its percentiles in buckets; ``resnet-loadtest run`` adds open loop, exact
percentiles, the server's statistics and a verdict.
"""

from __future__ import annotations

from resnet_loadtest import enable_gevent

enable_gevent()

from typing import TYPE_CHECKING, Any  # noqa: E402  # gevent patches first

from locust import events  # noqa: E402
from resnet_loadtest import options as option_list  # noqa: E402
from resnet_loadtest.session import Session  # noqa: E402
from resnet_loadtest.users import (  # noqa: E402
    BatchGrpc,
    BatchHttp,
    ClassifyGrpc,
    ClassifyHttp,
    EmbedGrpc,
    EmbedHttp,
    Mixed,
    PixelsGrpc,
    PixelsHttp,
    attach,
)

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

__all__ = [
    "BatchGrpc",
    "BatchHttp",
    "ClassifyGrpc",
    "ClassifyHttp",
    "EmbedGrpc",
    "EmbedHttp",
    "Mixed",
    "PixelsGrpc",
    "PixelsHttp",
]

_OPTIONS = ("url", "grpc_url", "http_url", "model", "batch", "images", "seed", "timeout_s")


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    """Add the options that apply to plain Locust."""
    option_list.add_to(parser, only=_OPTIONS)


@events.test_start.add_listener
def _start(environment: Environment, **_: Any) -> None:
    """Load the images before the first user starts."""
    given = vars(environment.parsed_options) if environment.parsed_options else {}
    chosen = {name: given.get(name) for name in _OPTIONS}
    mix = ",".join(user.__name__ for user in environment.user_classes)
    attach(environment, Session(option_list.resolve({**chosen, "mix": mix}), environment))
