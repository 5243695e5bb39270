"""What all commands share: exit codes, options, and outputs that cannot be written."""

import os
import sys
from pathlib import Path

import pytest
from resnet_client import ClientConfig, ModelNotFoundError, UnavailableError
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode

WRITING = [["classify"], ["classify", "--json"], ["classify", "--csv"], ["embed"], ["evaluate"], ["evaluate", "--json"]]
EMPTY = [["classify"], ["embed"], ["evaluate"], ["bulk", "--output", "x.parquet"], ["bulk", "x.png", "--output"]]


@pytest.mark.parametrize(
    ("failure", "code"),
    [(UnavailableError("gone"), ExitCode.NOT_READY), (ModelNotFoundError("no"), ExitCode.NO_MODEL)],
)
def test_exit_code_is_the_reason_that_all_failures_share(stub, files, failure, code):
    stub.failures = [failure]
    assert main(["classify", "--max-attempts", "1", files[0]]) == code


def test_cli_refuses_invalid_urls(files, capsys):
    assert main(["classify", "--url", "localhost:8001", files[0]]) == ExitCode.USAGE
    assert "grpc://HOST:8001" in capsys.readouterr().err


@pytest.mark.parametrize("command", EMPTY, ids=" ".join)
def test_cli_does_not_take_an_empty_path_for_the_current_folder(stub, files, monkeypatch, capsys, command):
    """Most likely a variable of the shell is not set; nothing is sent."""
    monkeypatch.chdir(Path(files[0]).parent)
    with pytest.raises(SystemExit) as ended:
        main([*command, ""])
    assert ended.value.code == ExitCode.USAGE
    assert "the path is empty; the current folder is '.'" in capsys.readouterr().err
    assert not stub.sent


@pytest.mark.parametrize("given", ["-5", "0", "nan", "1e10", "soon"])
def test_health_refuses_an_invalid_wait_by_its_option(stub, capsys, given):
    """The message names the option that was given, not the one that it becomes."""
    with pytest.raises(SystemExit) as ended:
        main(["health", "--wait-s", given])
    assert ended.value.code == ExitCode.USAGE
    assert f"--wait-s: '{given}' is not a positive number of seconds, at most 1e9" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["classify", "embed", "health", "metadata", "evaluate"])
def test_help_lists_options_variables_and_exit_codes(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name in set(ClientConfig.__dataclass_fields__) - ({"model"} if command == "evaluate" else set()):
        assert f"--{name.replace('_', '-')}" in shown
        assert f"RESNET_{name.upper()}" in shown
    for code in ExitCode:
        assert code.meaning in shown


@pytest.mark.parametrize("command", [*WRITING, ["health"], ["metadata"]], ids=" ".join)
def test_cli_reports_an_output_that_cannot_be_written(stub, known, capsys, monkeypatch, command):
    """One message, and not the exit code for images that failed."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*command, *([known] if command in WRITING else [])]) == ExitCode.USAGE
        expected = "resnet-client: the output cannot be written: No space left on device\n"
        assert capsys.readouterr().err.endswith(expected)


def test_exit_code_does_not_depend_on_a_reader_that_stops(stub, files, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["classify", *files]) == ExitCode.SOME_FAILED
