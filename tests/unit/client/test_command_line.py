"""The command line without a server: formats, exit codes, options."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_client import ClientConfig, ModelNotFoundError, UnavailableError
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.requests import Inference


@pytest.fixture
def files(tmp_path):
    """Three photos for the stub, one of them missing."""
    for index in (1, 2):
        (tmp_path / f"{index}.png").write_bytes(bytes([index]))
    return [str(tmp_path / name) for name in ("1.png", "missing.png", "2.png")]


def test_a_pipe_gets_tab_separated_lines(transport, files, capsys):
    """Photo, rank, index, label, probability and error, one line each; the exit code tells of failures."""
    assert main(["classify", *files]) == ExitCode.SOME_FAILED
    captured = capsys.readouterr()
    lines = [line.split("\t") for line in captured.out.splitlines()]
    assert lines[0] == [files[0], "1", "1", "label 1", "0.5", ""]
    assert lines[1] == [files[1], "", "", "", "", f"{files[1]}: there is no such file"]
    assert captured.err == "resnet-client: 1 of 3 photos failed\n"


def test_json_has_one_object_per_photo(transport, files, capsys):
    """Failures are objects with an error."""
    main(["classify", "--json", *files])
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in entry for entry in objects] == [False, True, False]
    assert objects[2]["predictions"][0]["index"] == 2


def test_csv_has_a_header(transport, files, capsys):
    """The columns are named."""
    assert main(["classify", "--csv", files[0]]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[0] == "photo,rank,index,label,probability,error"


@pytest.mark.parametrize(
    ("failure", "code"),
    [(UnavailableError("gone"), ExitCode.NOT_READY), (ModelNotFoundError("no"), ExitCode.NO_MODEL)],
)
def test_one_reason_for_all_is_the_exit_code(transport, files, failure, code):
    """When every photo fails for the same reason, that reason decides."""
    transport.failures = [failure]
    assert main(["classify", "--max-attempts", "1", files[0]]) == code


def test_bad_urls_end_with_usage(files, capsys):
    """One sentence and exit code 2."""
    assert main(["classify", "--url", "localhost:8001", files[0]]) == ExitCode.USAGE
    assert "grpc://HOST:8001" in capsys.readouterr().err


def test_empty_folders_end_with_usage(transport, tmp_path, capsys):
    """A run over nothing is a mistake, said in a sentence."""
    assert main(["classify", str(tmp_path)]) == ExitCode.USAGE
    assert "no photo" in capsys.readouterr().err


EMPTY = [["classify"], ["embed"], ["evaluate"], ["bulk", "--output", "x.parquet"], ["bulk", "x.png", "--output"]]


@pytest.mark.parametrize("command", EMPTY, ids=" ".join)
def test_an_empty_path_is_not_the_current_folder(transport, tmp_path, monkeypatch, capsys, command):
    """Most likely a variable of the shell is not set; nothing is asked."""
    (tmp_path / "1.png").write_bytes(b"\x01")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*command, ""])
    assert ended.value.code == ExitCode.USAGE
    assert "the path is empty; the current folder is '.'" in capsys.readouterr().err
    assert not transport.sent


@pytest.mark.parametrize("given", ["-5", "0", "nan", "1e10", "soon"])
def test_a_wait_that_makes_no_sense_is_called_by_its_name(transport, capsys, given):
    """The sentence names the option that was given, not the one that it becomes."""
    with pytest.raises(SystemExit) as ended:
        main(["health", "--wait-s", given])
    assert ended.value.code == ExitCode.USAGE
    assert f"--wait-s: '{given}' is not a positive number of seconds, at most 1e9" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["classify", "embed", "health", "metadata", "evaluate"])
def test_help_names_every_option_and_code(command, capsys):
    """Each command shows flags, their variables, and the exit codes."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name in set(ClientConfig.__dataclass_fields__) - ({"model"} if command == "evaluate" else set()):
        assert f"--{name.replace('_', '-')}" in shown
        assert f"RESNET_{name.upper()}" in shown
    for code in ExitCode:
        assert code.meaning in shown


def test_addresses_of_the_web_are_refused_as_such(transport, capsys):
    """A URL stays one, and the sentence says that nothing is fetched."""
    assert main(["classify", "https://x.org/cat.jpg"]) == ExitCode.SOME_FAILED
    assert "https://x.org/cat.jpg: photos are not fetched from the web" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--csv"], ["--json"]])
def test_any_file_name_can_be_shown(tmp_path, options):
    """Names that are no UTF-8 do not end the run."""
    name = os.fsencode(tmp_path) + b"/\xff.png"
    command = [sys.executable, "-m", "resnet_client", "classify", *options, name]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (ExitCode.SOME_FAILED, "resnet-client: 1 of 1 photos failed\n")
    assert r"\udcff.png" in finished.stdout


@pytest.fixture
def known(tmp_path):
    """A folder of one photo whose class is the stub's."""
    (tmp_path / "known/137").mkdir(parents=True)  # the stub's class for any PNG, by its first byte
    (tmp_path / "known/137/a.png").write_bytes(b"\x89")
    return str(tmp_path / "known")


WRITING = [["classify"], ["classify", "--json"], ["classify", "--csv"], ["embed"], ["evaluate"], ["evaluate", "--json"]]


@pytest.mark.parametrize("command", [*WRITING, ["health"], ["metadata"]], ids=" ".join)
def test_an_output_that_is_full_is_said(transport, known, capsys, monkeypatch, command):
    """One sentence, and not the code for photos that failed."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*command, *([known] if command in WRITING else [])]) == ExitCode.USAGE
    assert capsys.readouterr().err.endswith("resnet-client: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", [*WRITING, ["health"], ["metadata"]], ids=" ".join)
def test_an_output_that_is_closed_is_said(transport, known, capsys, monkeypatch, command):
    """The same sentence with another reason."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main([*command, *([known] if command in WRITING else [])]) == ExitCode.USAGE
    assert capsys.readouterr().err.endswith("resnet-client: the output cannot be written: it is closed\n")


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">/dev/full", ExitCode.USAGE, "the output cannot be written: No space left on device\n"),
        (">&-", ExitCode.USAGE, "the output cannot be written: it is closed\n"),
        ("--url nowhere 2>&-", ExitCode.USAGE, ""),
    ],
)
def test_what_the_shell_does_to_outputs(redirected, code, said):
    """The process ends without a traceback, also where the interpreter writes what is left."""
    script = f'"$0" -m resnet_client classify missing.png {redirected}'
    finished = subprocess.run(["sh", "-c", script, sys.executable], check=False, capture_output=True, text=True)
    assert finished.returncode == code
    assert finished.stderr.removeprefix("resnet-client: ") == said


def test_a_reader_that_has_seen_enough_changes_no_code(transport, files, monkeypatch):
    """What was found counts, whoever has read it."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["classify", *files]) == ExitCode.SOME_FAILED


def test_tabs_and_line_ends_in_names_are_escaped(transport, tmp_path, capsys):
    """Every line has six cells, whatever the photos are called."""
    path = tmp_path / "a\tb\nc.png"
    path.write_bytes(b"\x01")
    assert main(["classify", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{tmp_path}/a\\tb\\nc.png\t1\t1\tlabel 1\t0.5\t\n"


def test_evaluate_asks_for_the_version(transport, known):
    """`--model-version` reaches every request about a model."""
    assert main(["evaluate", "--model", "m", "--model-version", "99", known]) == ExitCode.OK
    asked = [request for request, _ in transport.sent if isinstance(request, Inference) or request.arguments]
    versions = [r.model_version if isinstance(r, Inference) else r.arguments["model_version"] for r in asked]
    assert versions == ["99"] * 4


def test_output_files_need_a_known_suffix(files, capsys):
    """`embed --output` writes numpy's formats only."""
    assert main(["embed", "--output", "x.csv", files[0]]) == ExitCode.USAGE
    assert ".npy or .npz" in capsys.readouterr().err


def test_output_files_need_a_folder(transport, files, tmp_path, capsys):
    """A missing folder is said before the first photo is sent."""
    assert main(["embed", "--output", str(tmp_path / "none" / "x.npy"), files[0]]) == ExitCode.USAGE
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    assert not transport.sent
