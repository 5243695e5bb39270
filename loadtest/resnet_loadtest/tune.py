"""Measure settings of an ensemble on a running server, and write the best as a named model config.

Steps: present setting → candidates → rounds, each candidate loaded with a config override → choice → tuned config. At
the end, also after an error, the server loads its own configs again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf import json_format
from resnet_client import ClientConfig, ResnetClientError
from resnet_client.admin import ModelControl
from resnet_client.named_configs import GPU, LOCAL, THREADS
from resnet_client.preprocessing import available_cpus
from rich.console import Console
from tritonclient.grpc import model_config_pb2 as pb

from resnet_loadtest import runner, tuned_config
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.metrics import Metrics, of_stage
from resnet_loadtest.options import Options
from resnet_loadtest.schedule import Stage
from resnet_loadtest.slo import Objective
from resnet_loadtest.tune_settings import MARGIN, Setting, candidates, choose

_MET, _MISSED = 0, 1
# The first batch of each size takes longer, so the requests of the first second do not count.
_WARM_UP_S = 1.0
# Shortest measurement in response times of the present setting; fewer would depend on single batches.
_RESPONSE_TIMES = 5
# Latencies are compared at this share of the present setting's throughput unless a rate is given.
_RATE_SHARE = 0.7
# A Poisson process may send fewer requests than expected.
_SPARE_REQUESTS = 1.25


@dataclasses.dataclass(frozen=True)
class Plan:
    """The options of a measurement.

    Attributes:
        options: of the load test in closed loop, with the shortest duration of a measurement.
        repository: the model repository that the server serves.
        objective: on the latency; None to compare throughput.
        rate: requests per second at which latencies are compared; None for a share of the present setting's throughput.
        rounds: number of rounds, in each of which every candidate is measured once.
    """

    options: Options
    repository: Path
    objective: Objective | None
    rate: float | None
    rounds: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The measurements of all settings.

    Attributes:
        title: what the values are, with their unit.
        objective: on the latency; None if the values are images per second.
        rounds: setting to its values, the present setting first; latencies are in seconds.
    """

    title: str
    objective: Objective | None
    rounds: Mapping[Setting, list[float]]

    @property
    def present(self) -> Setting:
        """The setting that the server had."""
        return next(iter(self.rounds))

    @property
    def chosen(self) -> Setting:
        """The best setting that meets the objective, or the present one."""
        eligible = {one: values for one, values in self.rounds.items() if one == self.present or self.is_met_by(one)}
        return choose(eligible, self.present, lower_is_better=self.objective is not None)

    def is_met_by(self, setting: Setting) -> bool:
        """Whether the median over the rounds meets the objective."""
        return self.objective is None or self.objective.is_met_by(statistics.median(self.rounds[setting]))

    def show(self, value: float) -> str:
        """Format a value."""
        return f"{value:.1f}" if self.objective is None else self.objective.show(value)

    def lines(self) -> Iterator[str]:
        """Yield a title, then median and range of each setting."""
        yield f"Median (range), {self.title}:"
        for setting, values in self.rounds.items():
            remark = "chosen" if setting == self.chosen else "present" if setting == self.present else ""
            median, least, most = (self.show(value) for value in (statistics.median(values), min(values), max(values)))
            yield f"  {median:>9} ({least} to {most})  {setting}  {remark}".rstrip()


def tune(plan: Plan, console: Console) -> int:
    """Measure, choose and write; return 0, or 1 if no setting meets the objective.

    Raises:
        UsageError: the ensemble, or one of its models, cannot be tuned.
        LoadTestError: the measurement failed; no file was written.
        ResnetClientError: the server does not answer, or refuses to load models.
    """
    with ModelControl(ClientConfig.resolve({"url": plan.options.url_for("grpc")})) as control:
        served = _served(control, plan.options.model)
        groups = [group for config in served.values() for group in config.instance_group]
        has_gpu = any(group.kind == pb.ModelInstanceGroup.KIND_GPU for group in groups)
        base_name = GPU if has_gpu else LOCAL
        base = {name: tuned_config.read_base(plan.repository, name, base_name) for name in served}
        preprocess, network = served.values()
        present = Setting.of(preprocess, network)
        settings = candidates(present, max_batch_size=network.max_batch_size, cores=available_cpus(), has_gpu=has_gpu)
        with _restoring(control, served, console) as load:
            comparison = _compare(plan, settings, load, console)
    for line in comparison.lines():
        console.print(line)
    chosen = comparison.chosen
    if not comparison.is_met_by(chosen):
        reason = "no setting meets the objective in its median; no file was written. Lower --rate or relax --slo"
        console.print(reason)
        return _MISSED
    if chosen == present:
        reason = f"no other is better in every round and by over {MARGIN:.0%} in the median"
        console.print(f"keeping the present setting: {reason}; no file was written")
    else:
        configs = {name: chosen.applied_to(config) for name, config in base.items()}
        comment = tuned_config.provenance(comparison.lines())
        for path in tuned_config.write(plan.repository, configs, comment, base=base_name):
            console.print(f"wrote {path}")
    return _MET


def _served(control: ModelControl, ensemble: str) -> dict[str, pb.ModelConfig]:
    """Return the configs that the ensemble's two models are served with, ``preprocess`` first."""
    control.index()  # fails early without the admin token
    names = [step["model_name"] for step in control.config(ensemble).get("ensemble_scheduling", {}).get("step", [])]
    found = {name: json_format.ParseDict(control.config(name), pb.ModelConfig()) for name in names}
    if [config.backend in THREADS for config in found.values()] != [False, True]:
        raise UsageError(f"{ensemble} cannot be tuned: it is not an ensemble of preprocess and one network")
    return found


@contextlib.contextmanager
def _restoring(
    control: ModelControl, served: Mapping[str, pb.ModelConfig], console: Console
) -> Iterator[Callable[[Setting], None]]:
    """Yield a function that loads a setting; the served configs are loaded again at the end."""
    loaded: dict[str, pb.ModelConfig] = {}

    def load(configs: Mapping[str, pb.ModelConfig]) -> None:
        for name, config in configs.items():
            if config != loaded.get(name):
                loaded[name] = config
                control.load(name, json_format.MessageToDict(config, preserving_proto_field_name=True))

    load(served)  # changes nothing, but fails early without model control
    try:
        yield lambda setting: load({name: setting.applied_to(config) for name, config in served.items()})
    finally:
        with runner.collected_signals():  # a second Ctrl-C must not leave a candidate loaded
            console.print("restoring the configs of the server")
            try:
                load(served)
            except ResnetClientError as exc:
                raise LoadTestError(f"restart the server: it may have the setting of a measurement ({exc})") from exc


def _compare(plan: Plan, settings: Sequence[Setting], load: Callable[[Setting], None], console: Console) -> Comparison:
    """Measure every setting once a round, in alternating order, so that other load on the machine affects all."""
    console.print(f"{plan.options.model} has {settings[0]}")
    options, title = _load_to_compare(plan)
    console.print(f"{len(settings)} settings, {plan.rounds} x {options.duration_s:.3g} s each: {title}")
    for number, setting in enumerate(settings, start=1):
        console.print(f"  {number}: {setting}")
    comparison = Comparison(title, plan.objective, {setting: [] for setting in settings})
    warnings: list[str] = []
    for number in range(plan.rounds):
        for setting in settings[:: -1 if number % 2 else 1]:
            load(setting)
            measured, warning = _measure(options)
            comparison.rounds[setting].append(_value(measured, plan))
            warnings += warning
        latest = enumerate((values[-1] for values in comparison.rounds.values()), start=1)
        values = ", ".join(f"({index}) {comparison.show(value)}" for index, value in latest)
        console.print(f"round {number + 1} of {plan.rounds}: {values}")
    if warnings:
        share = f"{len(warnings)} of {plan.rounds * len(settings)} measurements"
        console.print(f"warning: the load generator was the bottleneck in {share}: {warnings[0]}")
    return comparison


def _load_to_compare(plan: Plan) -> tuple[Options, str]:
    """Measure the present setting; return the options of a measurement and what it measures."""
    response_s = _measure(plan.options, warm_up_s=0.0)[0].mean_service_s
    if math.isnan(response_s):
        raise LoadTestError("all requests failed with the present setting; check the server with resnet-client doctor")
    users, duration_s = plan.options.level, max(plan.options.duration_s or 0.0, _RESPONSE_TIMES * response_s)
    if plan.objective is None:
        return dataclasses.replace(plan.options, duration_s=duration_s), f"images/s with {users:g} users"
    rate = plan.rate or _RATE_SHARE * users / response_s
    duration_s = max(duration_s, _SPARE_REQUESTS * plan.objective.smallest_sample / rate)
    open_loop = dataclasses.replace(plan.options, rate=rate, users=None, duration_s=duration_s)
    return open_loop, f"{plan.objective.text} at {rate:.1f} requests/s"


def _measure(options: Options, warm_up_s: float = _WARM_UP_S) -> tuple[Metrics, list[str]]:
    """Return what the load test measured, and a warning if the generator was the bottleneck."""
    run = runner.complete(dataclasses.replace(options, duration_s=warm_up_s + (options.duration_s or 0.0)))
    counted = Stage("counted", warm_up_s, options.duration_s or 0.0, options.level, options.level)
    return of_stage(counted, run.samples), run.generator_findings(run.whole)[:1]


def _value(measured: Metrics, plan: Plan) -> float:
    """Return images per second, or the latency of the objective in seconds."""
    if plan.objective is not None:
        return plan.objective.measured(measured)
    if measured.error_rate or not measured.requests:
        return measured.throughput
    # Little's law with one request per user in flight. A count of responses would jump by whole batches.
    return plan.options.level / measured.mean_service_s
