"""How `preprocess` decides whether one more image may join those that wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from resnet_build.python_models.preprocess import admission
from resnet_build.python_models.preprocess.admission import Admission
from stub import Handler, serving


class Metrics:
    """A page of Triton's metrics, whose numbers a test may change, and a clock that moves only on request."""

    def __init__(self) -> None:
        self.waiting = {"preprocess": 0, "network_onnx": 0, "network_int8": 0, "resnet50": 99, "other": 99}
        self.labels = ""  # before that of the model
        self.done = 0
        self.taken_s = 0.0
        self.looks = 0
        self.status = 200
        self.on_look: Callable[[], None] = lambda: None
        self.now_s = 1000.0
        self.opened = contextlib.ExitStack()

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.now_s += seconds

    def admission(self, limit: int = 10, max_wait_ms: int = 60_000, instances: int = 1) -> Admission:
        """Admission that reads the page, by the parameters of a configuration."""
        parameters = {"max_queue_size": str(limit), "max_wait_ms": str(max_wait_ms)}
        return self.opened.enter_context(contextlib.closing(Admission(parameters, instances)))

    def page(self) -> str:
        """As Triton writes it."""
        self.looks += 1
        self.on_look()
        network = f'{{{self.labels}model="network_onnx",version="1"}}'
        waiting = "".join(
            f'nv_inference_pending_request_count{{{self.labels}model="{name}",version="1"}} {count}\n'
            for name, count in self.waiting.items()
        )
        return (
            f"{waiting}nv_inference_request_success{network} {self.done}\n"
            f"nv_inference_request_duration_us{network} {self.taken_s * 1e6:.0f}\n"
            'nv_inference_request_success{model="preprocess",version="1"} 12345\n'
            'nv_inference_request_duration_us{model="preprocess",version="1"} 12345678\n'
        )


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metrics]:
    """Serve the page where the model looks for it."""
    shown = Metrics()

    class Page(Handler):
        def do_GET(self) -> None:  # noqa: N802  # the name that the library calls
            self.respond(shown.page().encode(), shown.status)

    with serving(Page) as server, shown.opened:
        monkeypatch.setattr(admission.time, "monotonic", lambda: shown.now_s)
        monkeypatch.setenv("RESNET_METRICS_URL", f"{server.url}/metrics")
        yield shown


def test_as_many_are_admitted_as_may_wait(metrics: Metrics) -> None:
    """One look is enough for all of them; the first above the limit is refused, with the number that waits."""
    admission = metrics.admission()
    assert [admission.refusal(1) for _ in range(10)] == [None] * 10
    assert metrics.looks == 1
    metrics.waiting["network_onnx"] = 7
    metrics.waiting["preprocess"] = 3
    metrics.pass_time(0.02)
    assert admission.refusal(1) == "10 images are waiting already; retry later or send fewer images at once"
    metrics.waiting["network_onnx"] = 6
    metrics.pass_time(0.02)
    assert admission.refusal(1) is None
    assert admission.refusal(1) is not None


def test_refusing_costs_hardly_a_look(metrics: Metrics) -> None:
    """Thousands that are refused within a moment are refused by one look."""
    metrics.waiting["network_int8"] = 50
    admission = metrics.admission()
    assert all(admission.refusal(1) for _ in range(1000))
    metrics.pass_time(0.001)
    assert admission.refusal(1)
    assert metrics.looks == 1


def test_admission_reads_slow_metrics_less_often(metrics: Metrics) -> None:
    """A read of 40 ms is followed by 160 ms without one; otherwise each refusal would wait for its own read."""
    metrics.waiting["network_int8"] = 50
    metrics.on_look = lambda: metrics.pass_time(0.04)
    admission = metrics.admission()
    for _ in range(15):
        assert admission.refusal(1)
        metrics.pass_time(0.01)
    assert metrics.looks == 1
    metrics.pass_time(0.02)
    assert admission.refusal(1)
    assert metrics.looks == 2


def test_admission_reads_the_metrics_again_soon(metrics: Metrics) -> None:
    """Clients that send pixels may have filled the queue since the last read."""
    admission = metrics.admission()
    assert admission.refusal(1) is None
    metrics.waiting["network_onnx"] = 10
    metrics.pass_time(0.3)
    assert admission.refusal(1)


def test_requests_of_many_images_count_as_many(metrics: Metrics) -> None:
    """The metrics count requests, the limit counts images; an idle server admits a request of any size."""
    admission = metrics.admission()
    assert admission.refusal(32) is None
    metrics.waiting["network_onnx"] = 1
    for _ in range(20):
        metrics.pass_time(0.3)
        refused = admission.refusal(32)
    assert refused == "32 images are waiting already; retry later or send fewer images at once"


def test_admission_refuses_a_wait_above_the_timeout(metrics: Metrics) -> None:
    """The last requests took 0.8 s: a request with a timeout of 0.5 s is refused, one with a longer timeout waits."""
    admission = metrics.admission(100)
    assert admission.refusal(1, 0.5) is None  # no durations are known yet
    metrics.pass_time(0.3)
    metrics.done, metrics.taken_s = 5, 4.0
    expected = "recent requests took 0.8 s, longer than this request's timeout (0.5 s)"
    assert admission.refusal(1, 0.5) == f"{expected}; retry later or send fewer images at once"
    assert admission.refusal(1, 2.0) is None
    assert admission.refusal(1) is None
    metrics.pass_time(0.3)
    assert admission.refusal(1, 0.5) is None  # nothing was done since, and nothing waits


@pytest.mark.parametrize(
    "labels", ['gpu_uuid="GPU-6f1e0f2c-7a5b",', '_note="a } b, \\"c\\"",gpu_uuid="GPU-6f1e0f2c-7a5b",']
)
def test_admission_counts_models_on_gpus(metrics: Metrics, labels: str) -> None:
    """Triton sorts labels by name, so `gpu_uuid` and a model's tags come before `model`."""
    metrics.labels = labels
    metrics.waiting["network_onnx"] = 10
    admission = metrics.admission()
    assert admission.refusal(1) == "10 images are waiting already; retry later or send fewer images at once"
    metrics.waiting["network_onnx"], metrics.done, metrics.taken_s = 1, 5, 4.0
    metrics.pass_time(0.3)
    expected = "recent requests took 0.8 s, longer than this request's timeout (0.5 s)"
    assert admission.refusal(1, 0.5) == f"{expected}; retry later or send fewer images at once"


def test_admission_ignores_old_durations(metrics: Metrics) -> None:
    """After a pause, earlier durations no longer matter; the limit of the repository holds for all requests."""
    admission = metrics.admission(max_wait_ms=700)
    assert admission.refusal(1, 0.5) is None
    metrics.pass_time(10)
    metrics.done, metrics.taken_s = 5, 4.0
    assert admission.refusal(1, 0.5) is None
    metrics.pass_time(0.3)
    metrics.done, metrics.taken_s = 10, 8.0
    assert (
        admission.refusal(1)
        == "recent requests took 0.8 s, longer than max_wait_ms (0.7 s); retry later or send fewer images at once"
    )


def test_admission_is_shared_among_instances(metrics: Metrics) -> None:
    """Instances admit side by side; together they do not admit more than may wait, nor much less than half of it."""
    metrics.waiting["network_onnx"] = 1
    for each in [metrics.admission(instances=3) for _ in range(3)]:
        for _ in range(10):
            metrics.waiting["network_onnx"] += each.refusal(1) is None
    assert 5 <= metrics.waiting["network_onnx"] <= 10


def test_admission_of_instances_that_look_at_the_same_time_is_bounded(metrics: Metrics) -> None:
    """Each takes its share of the room that all of them see."""
    metrics.waiting["network_onnx"] = 6
    instances = [metrics.admission(12, instances=3) for _ in range(3)]
    assert sum(admission.refusal(1) is None for _ in range(10) for admission in instances) == 6


def test_admission_reads_again_when_its_share_is_used_up(metrics: Metrics) -> None:
    """One of 14 instances may admit few images per read; while the others are idle, it reads again and admits."""
    admission = metrics.admission(64, instances=14)
    for _ in range(50):
        metrics.waiting["preprocess"] = 4
        assert admission.refusal(1) is None
        metrics.pass_time(0.001)
    assert metrics.looks < 20
    metrics.waiting["preprocess"] = 64
    assert any(admission.refusal(1) for _ in range(5))


def test_admission_without_metrics_admits_everything(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """A site may have switched them off: this is logged once, and images are still classified."""
    metrics.status = 500
    metrics.waiting["network_onnx"] = 1000
    admission = metrics.admission()
    for _ in range(5):
        metrics.pass_time(0.3)
        assert admission.refusal(1) is None
    assert [record.getMessage().partition(" of ")[0] for record in caplog.records] == ["the metrics"]


def test_admission_without_a_limit_admits_everything(metrics: Metrics) -> None:
    """A configuration without the parameters has no limit."""
    metrics.waiting["network_onnx"] = 10**6
    with contextlib.closing(Admission({}, 1)) as unlimited:
        assert unlimited.refusal(1) is None


def test_admission_delays_few_images_if_the_metrics_hang(metrics: Metrics) -> None:
    """A read that took 0.3 s is followed by a pause of 1.2 s, whether it succeeded or not."""
    metrics.on_look = lambda: metrics.pass_time(0.3)
    admission = metrics.admission()
    for status in (200, 500):
        metrics.status, before = status, metrics.looks
        for _ in range(11):
            assert admission.refusal(1) is None or status == 200
            metrics.pass_time(0.1)
        assert metrics.looks == before + 1
        metrics.pass_time(0.2)


def test_admission_forgets_a_measured_wait(metrics: Metrics) -> None:
    """Images come less than once a second, while requests to the network are always waiting."""
    admission = metrics.admission(100)
    assert admission.refusal(1, 10) is None
    metrics.pass_time(0.3)
    metrics.waiting["network_onnx"], metrics.done, metrics.taken_s = 5, 1, 12.0
    assert "recent requests took 12.0 s" in (admission.refusal(1, 10) or "")
    metrics.pass_time(1.5)
    metrics.done, metrics.taken_s = 16, 13.5
    assert admission.refusal(1, 10) is None
