"""Plain Locust: ``locust -f loadtest/locustfile.py`` with its web interface, or ``--headless``.

Select users by name (``locust -f loadtest/locustfile.py ClassifyGrpc EmbedHttp``) or by ``--tags grpc classify``.
Locust's host is the server's URL; without one it is ``RESNET_URL``.
Locust runs a closed loop and keeps its percentiles in buckets; ``resnet-loadtest run`` adds open loop, exact
percentiles, the server's statistics and a verdict.
"""

from __future__ import annotations

from resnet_loadtest import enable_gevent

enable_gevent()

import logging  # noqa: E402  # gevent patches first
from typing import TYPE_CHECKING, Any  # noqa: E402

import gevent  # noqa: E402
from flask import Response, jsonify, request  # noqa: E402
from locust import events  # noqa: E402
from locust.user.task import filter_tasks_by_tags  # noqa: E402
from resnet_loadtest import options as option_list  # noqa: E402
from resnet_loadtest.errors import LoadTestError  # noqa: E402
from resnet_loadtest.session import Session, check_server  # noqa: E402
from resnet_loadtest.users import *  # noqa: E402, F403  # Locust finds the users here
from resnet_loadtest.users import attach  # noqa: E402

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment
    from locust.web import WebUI

_OPTIONS = ("grpc_url", "http_url", "model", "images", "seed", "timeout_s", "wait_s")
_EXIT_COULD_NOT_RUN = 3


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    """Add the options that apply to plain Locust."""
    option_list.add_to(parser, only=_OPTIONS)


@events.init.add_listener
def _prepare(environment: Environment, web_ui: WebUI | None, **_: Any) -> None:
    """Leave out users without a task of ``--tags``, which Locust would start in vain; check the page's host."""
    given = environment.parsed_options
    tags, excluded = (set(getattr(given, name, None) or ()) for name in ("tags", "exclude_tags"))
    for user in environment.user_classes:
        filter_tasks_by_tags(user, tags or None, excluded)
    environment.user_classes[:] = [user for user in environment.user_classes if user.tasks]
    if web_ui is not None:
        web_ui.app.before_request(lambda: _refusal(environment))


def _refusal(environment: Environment) -> Response | None:
    """Answer a request to start users on an unusable host, so that the page shows the reason."""
    if not request.path.endswith("/swarm"):
        return None
    try:
        _check(environment, request.form.get("host") or None)
    except LoadTestError as exc:
        return jsonify({"success": False, "message": str(exc), "host": environment.host})
    return None


@events.test_start.add_listener
def _start(environment: Environment, **_: Any) -> None:
    """Check the host and load the images before the first user starts."""
    try:
        attach(environment, Session(_check(environment, environment.host or None), environment))
    except LoadTestError as exc:
        logging.getLogger("locust.resnet").error("%s", exc)  # noqa: TRY400  # a traceback would hide the message
        if environment.web_ui is None and environment.runner is not None:
            environment.process_exit_code = _EXIT_COULD_NOT_RUN
            gevent.spawn(environment.runner.quit)  # it would kill this greenlet before it has ended the others
        raise gevent.GreenletExit from exc  # ends the start; Locust would log any other exception and go on


def _check(environment: Environment, host: str | None) -> option_list.Options:
    """Connect to the host of every user; return the options.

    Raises:
        LoadTestError: a host is invalid or does not answer.
    """
    given = vars(environment.parsed_options) if environment.parsed_options else {}
    mix = ",".join(user.workload.name for user in environment.user_classes)
    # The web page submits an empty text for an option that is not given.
    chosen = {name: given.get(name) or None for name in _OPTIONS}
    options = option_list.resolve({**chosen, "url": host, "mix": mix})
    for url in {host or user.host for user in environment.user_classes}:
        check_server(options.at(url))
    return options
