"""`resnet-client classify`: what it prints for each image."""

import json
import os
import sys

import pytest
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode


def test_classify_prints_tab_separated_lines(stub, files, capsys):
    """Image, rank, index, label, probability and error, one line each; the exit code shows failures."""
    assert main(["classify", *files]) == ExitCode.SOME_FAILED
    captured = capsys.readouterr()
    lines = [line.split("\t") for line in captured.out.splitlines()]
    assert lines[0] == [files[0], "1", "1", "label 1", "0.5", ""]
    assert lines[1] == [files[1], "", "", "", "", f"{files[1]}: there is no such file"]
    assert captured.err == "resnet-client: 1 of 3 images failed\n"


def test_classify_prints_json_objects(stub, files, capsys):
    main(["classify", "--json", *files])
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in entry for entry in objects] == [False, True, False]
    assert objects[2]["predictions"][0]["index"] == 2


def test_classify_prints_csv_with_a_header(stub, files, capsys):
    assert main(["classify", "--csv", files[0]]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[0] == "image,rank,index,label,probability,error"


def test_classify_refuses_an_empty_folder(stub, tmp_path, capsys):
    assert main(["classify", str(tmp_path)]) == ExitCode.USAGE
    assert "no image" in capsys.readouterr().err


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
    assert captured.err == "resnet-client: 1 of 1 images failed\n"
    assert r"\udcff.png" in captured.out


def test_classify_escapes_tabs_and_line_ends_in_names(stub, tmp_path, capsys):
    """Every line has six cells, whatever the images are called."""
    path = tmp_path / "a\tb\nc.png"
    path.write_bytes(b"\x01")
    assert main(["classify", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{tmp_path}/a\\tb\\nc.png\t1\t1\tlabel 1\t0.5\t\n"
