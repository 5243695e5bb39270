"""``resnet-loadtest run``: one run with reports and verdict; ``worker``: a process that generates part of the load."""

from __future__ import annotations

import argparse

from rich.console import Console

from resnet_loadtest import options as option_list
from resnet_loadtest.cli import RUN_RESULTS, Command, add_option, prepare_load, recording, stem, write_reports
from resnet_loadtest.errors import LoadTestError


def _run(arguments: argparse.Namespace, console: Console) -> int:
    """Run and report; returns the exit code."""
    options = option_list.resolve(vars(arguments)).check()
    prepare_load()
    from resnet_loadtest import runner
    from resnet_loadtest.report.summary import Progress, print_summary

    with recording(options.out, options.name or stem(options.profile)) as recorder:
        options = runner.with_measured_rate(options, console)
        finished = runner.run(options, Progress(console, options), recorder.append)
        print_summary(finished, console)
        write_reports(console, finished, options.out, recorder.path.stem)
    return finished.verdict.exit_code


RUN = Command("run", "Generate load, write reports and give a verdict", option_list.add_to, _run, RUN_RESULTS)


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add the address of the master."""
    add_option(parser, "--master-host", option_list.Kind(str, "HOST"), "127.0.0.1", "Host of the master")
    add_option(parser, "--master-port", option_list.PORT, 5557, "Port of the master")


def _work(arguments: argparse.Namespace, _: Console) -> int:
    """Work until the master quits; returns the exit code."""
    prepare_load()
    from resnet_loadtest.workers import Worker

    try:
        Worker(arguments.master_host, arguments.master_port).run()
    except ConnectionError as exc:
        raise LoadTestError(
            f"no load test master at {arguments.master_host}:{arguments.master_port}: start resnet-loadtest run "
            "--expect-workers N first, or check --master-host and --master-port"
        ) from exc
    return 0


WORKER = Command(
    "worker",
    "Generate part of the load of `run --expect-workers`",
    _add_worker_options,
    _work,
    {0: "the master ended the run"},
)
