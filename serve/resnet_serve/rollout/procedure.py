"""The roll-out, step by step: copy, compare, then switch, or refuse; or go back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from resnet_client import Client

from resnet_serve.rollout import comparison, control, golden
from resnet_serve.rollout.comparison import Answers, Likeness, Target, Times
from resnet_serve.rollout.control import ModelControl
from resnet_serve.rollout.errors import RefusedError, RolloutError
from resnet_serve.rollout.plan import BASELINE, CANDIDATE, Options, Plan, make_plans

# The p99 of some hundred calls is nearly their maximum: one hiccup of the machine must not decide.
_MEASUREMENTS = 3
_CONFIRMING_PICTURES = 16


class Rollout:
    """One roll-out on one server.

    Args:
        server: loads and unloads there.
        client: asks there.
        options: what is asked for.
        say: receives one sentence or table per step.
    """

    def __init__(self, server: ModelControl, client: Client, options: Options, say: Callable[[str], None]) -> None:
        self._server, self._client, self._options, self._say = server, client, options, say
        self._published: list[Plan] = []

    def run(self) -> bool:
        """Carry it out.

        Returns:
            Whether the version asked for is in service now, or after a dry run, would be.

        Raises:
            RolloutError: it could not be carried out; what was in service still is.
        """
        plans: list[Plan] = []
        for plan in make_plans(self._server, self._options):
            if plan.old == plan.new:
                self._say(f"{plan.model}: version {plan.new} is in service already")
            else:
                plans.append(plan)
        expected: list[Answers | None] = []
        for plan in plans:
            try:
                # One that is loaded still was in service before: going back to it must not take long.
                expected.append(None if plan.files is None else self._judged(plan, plan.files))
            except RefusedError as exc:
                self._refuse(plans, plan, exc)
                self._say_stays(plan)
                return False
        if self._options.dry_run:
            self._say("a dry run: nothing was changed")
            return True
        return self._switch_all(plans, expected)

    def _pictures(self, plan: Plan) -> list[golden.Picture]:
        side = control.recipe_side(plan.config)
        return golden.pictures(self._options.images, side=side, count=self._options.calls)

    def _judged(self, plan: Plan, files: Mapping[str, bytes]) -> Answers:
        """Compare under other names, where nobody else calls; return the new version's answers."""
        bounds, name = self._options.bounds, control.artifact_name(plan.config)
        if f"{plan.new}/{name}" not in files:
            raise RefusedError(f"{plan.folders.path(plan.new)} holds no {name}")
        self._say(f"{plan.model}: loading version {plan.new} beside version {plan.old}, under another name")
        with self._copy(plan, CANDIDATE, plan.new, files) as new:
            theirs = comparison.answers(self._client, new, self._pictures(plan), plan.classes)
            with _in_service(plan):
                ours = comparison.answers(
                    self._client, Target(plan.model, plan.old), self._pictures(plan), plan.classes
                )
            likeness = Likeness.of(ours, theirs)
            self._say(comparison.row("", f"version {plan.old}", f"version {plan.new}"))
            self._say(likeness.table(bounds))
            likeness.check(bounds)
            with self._baseline(plan) as old:
                times = self._timed(plan, old, new)
            self._say(times.table(bounds))
            times.check(bounds)
        return theirs

    def _timed(self, plan: Plan, old: Target, new: Target) -> Times:
        pictures = self._pictures(plan)
        asked = [pictures[number % len(pictures)] for number in range(self._options.calls)]
        measured = []
        for _ in range(_MEASUREMENTS):
            measured.append(comparison.times(self._client, old, new, asked))
            if measured[-1].p99_ratio <= self._options.bounds.max_p99_ratio:
                break
        return min(measured, key=lambda times: times.p99_ratio)

    @contextlib.contextmanager
    def _baseline(self, plan: Plan) -> Iterator[Target]:
        """What the new version is timed against: a copy of the old one, if its file is here.

        In service it would wait behind its callers, and beside that, any candidate would seem fast.
        """
        files = plan.folders.files(plan.old)
        if not files:
            self._say(f"  version {plan.old} has no file here: it is timed in service, with all its callers")
            yield Target(plan.model, plan.old)
            return
        with contextlib.ExitStack() as copies:
            with _in_service(plan):
                target = copies.enter_context(self._copy(plan, BASELINE, plan.old, files))
            yield target

    @contextlib.contextmanager
    def _copy(self, plan: Plan, suffix: str, version: int, files: Mapping[str, bytes]) -> Iterator[Target]:
        name = plan.model + suffix
        try:
            self._server.load(name, control.copied(plan.config, name, version), files)
            yield Target(name, version)
        finally:
            self._server.unload(name)

    def _switch_all(self, plans: Sequence[Plan], expected: Sequence[Answers | None]) -> bool:
        for number, plan in enumerate(plans):
            try:
                self._switch(plan, expected[number])
            except (RefusedError, RolloutError, KeyboardInterrupt) as exc:
                stuck = self._take_back(plans[: number + 1])
                if isinstance(exc, RefusedError):
                    self._refuse(plans, plan, exc)
                else:
                    self._set_aside(self._published)
                if stuck:
                    raise RolloutError(f"{'; '.join(stuck)}: load it again, or restart the server") from exc
                if not isinstance(exc, RefusedError):
                    raise
                self._say_stays(plan)
                return False
        for plan in plans:
            # Only now: until here, the higher version may have had to come back.
            for version in plan.folders.versions():
                if version > plan.new:
                    self._say(f"  {plan.folders.set_aside(version)}")
        return True

    def _take_back(self, plans: Sequence[Plan]) -> list[str]:
        """Have the old versions in service again; return a sentence for each that is not."""
        stuck = []
        for plan in plans:
            try:
                # A load that was given up goes on in the server; this one comes after it.
                self._server.load(plan.model, control.pinned(plan.config, (plan.old,)))
            except (RefusedError, RolloutError) as exc:
                stuck.append(f"version {plan.old} of {plan.model} could not be taken back into service ({exc})")
        return stuck

    def _switch(self, plan: Plan, expected: Answers | None) -> None:
        if self._options.artifact is not None and plan.files and plan.folders.are_here:
            self._say(f"  wrote {plan.folders.publish(plan.files, plan.new)}")
            self._published.append(plan)
        self._say(f"{plan.model}: {'going back' if plan.files is None else 'switching'} to version {plan.new}")
        self._server.load(plan.model, control.pinned(plan.config, plan.kept))
        if self._server.versions(plan.model)[-1] != plan.new:
            raise RolloutError(
                f"the repository that {self._server.url} reads has no {plan.model}/{plan.new}: "
                "put it there, and roll out again"
            )
        self._confirm(plan, expected)
        beside = f"; version {plan.old} stays loaded, to go back to" if plan.old in plan.kept else ""
        self._say(f"{plan.model}: version {plan.new} is in service{beside}")

    def _confirm(self, plan: Plan, expected: Answers | None) -> None:
        """Ask as callers do, naming no version; the answers have to be the new version's."""
        names = self._server.models()
        ensembles = [name for name in names if control.takes_highest(self._server.config(name), plan.model)]
        pictures = self._pictures(plan)[:_CONFIRMING_PICTURES]
        if expected is None:
            expected = comparison.answers(self._client, Target(plan.model, plan.new), pictures, plan.classes)
        wanted = expected[: len(pictures)].argmax(axis=1)
        for model in (plan.model, *ensembles):
            found = comparison.classes(self._client, model, pictures, sends_pixels=model == plan.model)
            agreeing = sum(ours == theirs for ours, theirs in zip(found, wanted, strict=True))
            # Quantized networks may waver with the batch that they are asked in.
            if agreeing < self._options.bounds.min_agreement * len(pictures) - 1:
                raise RefusedError(f"{model} does not answer as version {plan.new} did when it was compared")
            self._say(f"  {model} answers as version {plan.new} on {agreeing} of {len(pictures)} pictures")

    def _refuse(self, plans: Sequence[Plan], refused: Plan, reason: RefusedError) -> None:
        self._say(f"{refused.model}: version {refused.new} is refused: {reason}")
        if self._options.dry_run:
            return
        # Versions of one number belong together, so the other networks' do not wait for a restart either.
        self._set_aside(plan for plan in plans if plan.new > plan.old)

    def _set_aside(self, plans: Iterable[Plan]) -> None:
        """Leave the next start of a server no new version of these."""
        for plan in plans:
            if plan.new in plan.folders.versions():
                self._say(f"  {plan.folders.set_aside(plan.new)}")

    def _say_stays(self, plan: Plan) -> None:
        self._say(f"{plan.model}: version {plan.old} stays in service")


@contextlib.contextmanager
def _in_service(plan: Plan) -> Iterator[None]:
    """What fails in here is no fault of the new version's."""
    try:
        yield
    except RefusedError as exc:
        raise RolloutError(f"version {plan.old} of {plan.model}, which is in service, is broken: {exc}") from exc
