"""``resnet-loadtest worker``: connects to a master and makes its part of the load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locust.env import Environment

from resnet_loadtest.generator import Chunk, Generator
from resnet_loadtest.options import Options
from resnet_loadtest.users import USERS
from resnet_loadtest.workers import BEGIN, CHUNK, FAILED, FINISH, FINISHED, PREPARE, PREPARED

if TYPE_CHECKING:
    from locust.rpc import Message


class Worker:
    """Does what the master says until it says quit."""

    def __init__(self, master_host: str, master_port: int) -> None:
        """Connect; raises ``ConnectionError`` when there is no master for a minute."""
        self._environment = Environment(user_classes=[*USERS])
        self._runner = self._environment.create_worker_runner(master_host, master_port)
        self._generator: Generator | None = None
        self._told = 0
        # `concurrent`: a handler that waits must not keep Locust's own messages waiting.
        self._runner.register_message(PREPARE, self._on_prepare, concurrent=True)
        self._runner.register_message(BEGIN, self._on_begin)
        self._runner.register_message(FINISH, self._on_finish, concurrent=True)

    def run(self) -> None:
        """Work until the master quits."""
        self._runner.greenlet.join()

    def _on_prepare(self, environment: Environment, msg: Message) -> None:
        options = Options.from_dict(msg.data["options"])
        self._told = 0
        try:
            self._generator = Generator(
                options, environment, index=msg.data["index"], count=msg.data["count"], tell=self._tell
            )
        except Exception as exc:  # noqa: BLE001  # whatever it is, the master has to know
            self._runner.send_message(FAILED, {"reason": f"{type(exc).__name__}: {exc}"})
        else:
            self._runner.send_message(PREPARED, {})

    def _on_begin(self, environment: Environment, msg: Message) -> None:
        del environment
        self._started().begin(msg.data["lead_s"])

    def _on_finish(self, environment: Environment, msg: Message) -> None:
        del environment, msg
        self._started().finish()
        self._runner.send_message(FINISHED, {"samples": self._told})

    def _tell(self, chunk: Chunk) -> None:
        message: dict[str, Any] = chunk.to_message()
        self._told += len(chunk.samples)
        self._runner.send_message(CHUNK, message)

    def _started(self) -> Generator:
        if self._generator is None:
            raise RuntimeError("the master began before it prepared")
        return self._generator
