"""Locust users of the closed loop: each sends its next request when it has its response.

Each user has its own client and closes it when it stops, because an open gRPC channel would keep the process from
exiting.
"""

from __future__ import annotations

import os
import weakref
from typing import ClassVar

import gevent
from locust import User, constant, tag
from locust.env import Environment
from locust.exception import StopUser

from resnet_loadtest.options import Options, variable
from resnet_loadtest.session import Session, connect
from resnet_loadtest.workloads import WORKLOADS, Workload

_SESSIONS: weakref.WeakKeyDictionary[Environment, Session] = weakref.WeakKeyDictionary()


def attach(environment: Environment, session: Session) -> None:
    """Set the session of the users of this environment."""
    _SESSIONS[environment] = session


class ResnetUser(User):
    """Sends the kind of request of its name; ``host`` is the URL of the server."""

    abstract = True
    host = os.environ.get(variable("url")) or Options.url
    wait_time = constant(0)
    workload: ClassVar[Workload]

    def __init_subclass__(cls) -> None:
        """Give users a task with protocol and operation as its tags; subclasses of users inherit it."""
        super().__init_subclass__()
        if cls.__name__ in WORKLOADS:
            cls.workload = WORKLOADS[cls.__name__]

            def send(user: ResnetUser) -> None:
                user.send()

            cls.tasks = [tag(cls.workload.protocol, cls.workload.operation)(send)]

    def on_start(self) -> None:
        """Open a client, and wait for the start of the run."""
        self.session = _SESSIONS[self.environment]
        self._client = connect(self.session.options.at(self.host), self.workload.protocol)
        gevent.sleep(max(0.0, -self.session.now_s()))

    def send(self) -> None:
        """Send one request."""
        if self.session.is_stopping:
            raise StopUser
        self.session.send(self.workload, self._client)

    def on_stop(self) -> None:
        """Close the client."""
        self._client.close()


class ClassifyGrpc(ResnetUser):
    """Classifies single images over gRPC."""


class ClassifyHttp(ResnetUser):
    """Classifies single images over HTTP."""


class EmbedGrpc(ResnetUser):
    """Computes features over gRPC."""


class EmbedHttp(ResnetUser):
    """Computes features over HTTP."""


class PixelsGrpc(ResnetUser):
    """Sends pixels to the network over gRPC."""


class PixelsHttp(ResnetUser):
    """Sends pixels to the network over HTTP."""


USERS = {user.__name__: user for user in ResnetUser.__subclasses__()}


def weighted(mix: dict[str, int]) -> list[type[ResnetUser]]:
    """The users of a mix, with their weights."""
    for name, weight in mix.items():
        USERS[name].weight = weight
    return [USERS[name] for name in mix]
