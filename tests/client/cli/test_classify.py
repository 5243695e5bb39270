"""`resnet-client classify`: what it prints for each image."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_client import ModelNotFoundError, OverloadedError
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode


def test_classify_prints_tab_separated_lines(stub, files, capsys):
    """Image, rank, index, label, probability and error, one line each; the exit code shows failures."""
    assert main(["classify", *files]) == ExitCode.SOME_FAILED
    captured = capsys.readouterr()
    lines = [line.split("\t") for line in captured.out.splitlines()]
    assert lines[0] == [files[0], "1", "1", "label 1", "0.5", ""]
    assert lines[1] == [files[1], "", "", "", "", f"{files[1]}: there is no such file"]
    reason = f"{files[1]}: there is no such file"
    assert captured.err == f"resnet-client: 1 of 3 images failed:\n  {reason}\n"


def test_classify_prints_json_objects(stub, files, capsys):
    main(["classify", "--json", *files])
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in entry for entry in objects] == [False, True, False]
    assert objects[2]["predictions"][0]["index"] == 2


def test_classify_refuses_urls_of_images(stub, capsys):
    """A URL is not changed to a path, and the message explains that the client does not download images."""
    assert main(["classify", "https://x.org/cat.jpg"]) == ExitCode.SOME_FAILED
    assert "https://x.org/cat.jpg: the client does not download images" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--csv"], ["--json"]])
def test_classify_prints_names_that_are_not_utf8(tmp_path, capfd, monkeypatch, options):
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["classify", *options, os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")]) == ExitCode.SOME_FAILED
    captured = capfd.readouterr()
    assert captured.err.startswith("resnet-client: 1 of 1 images failed:\n")
    assert r"\udcff.png" in captured.out


def test_classify_escapes_tabs_and_line_ends_in_names(stub, tmp_path, capsys):
    """Every line has six cells, whatever the images are called."""
    path = tmp_path / "a\tb\nc.png"
    path.write_bytes(b"\x01")
    assert main(["classify", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{tmp_path}/a\\tb\\nc.png\t1\t1\tlabel 1\t0.5\t\n"


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_command_prints_each_reason_once_and_at_most_five(stub, tmp_path, capsys, command):
    for index in range(1, 20):
        (tmp_path / f"{index:02}.png").write_bytes(bytes([index]))
    stub.failures = [OverloadedError(f"reason {number // 2}") for number in range(18)]
    assert main([command, "--max-in-flight", "1", str(tmp_path)]) == ExitCode.SOME_FAILED
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["resnet-client: 18 of 19 images failed:", *(f"  reason {number}" for number in range(5))]


@pytest.mark.parametrize("command", ["classify", "embed", "evaluate"])
def test_command_stops_when_the_server_keeps_failing(stub, tmp_path, capsys, command):
    """A missing model or a dead server does not let thousands of images fail one by one."""
    folder = tmp_path / "137"  # the first byte of the test image that shows `evaluate` the classes
    folder.mkdir()
    for index in range(100):
        (folder / f"{index:03}.png").write_bytes(b"\x89")
    stub.fail = lambda *_: ModelNotFoundError("there is no such model") if len(stub.sent) > 5 else None
    assert main([command, "--max-in-flight", "1", str(tmp_path)]) in (ExitCode.SOME_FAILED, ExitCode.NO_MODEL)
    assert 16 <= len(stub.sent) <= 30
    assert capsys.readouterr().err.count("there is no such model") == 1


def test_classify_reads_standard_input(server, images):
    command = [Path(sys.executable).with_name("resnet-client"), "classify", "-", "--url", server.grpc_url]
    with images["cat"].open("rb") as image:
        result = subprocess.run(command, stdin=image, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.startswith("<stdin>\t1\t285\tEgyptian cat\t")


def test_classify_prints_a_list_on_a_terminal(stub, files, capsys, monkeypatch):
    """Below each image are its classes, or the reason why it has none."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["classify", *files[:2]]) == ExitCode.SOME_FAILED
    expected = [files[0], "   50.0%  label 1 (1)", files[1], f"  {files[1]}: there is no such file"]
    assert capsys.readouterr().out.splitlines() == expected
