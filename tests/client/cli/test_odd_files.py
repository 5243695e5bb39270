"""Every command has a message for each file that cannot be read as an image: none blocks it, none is left out."""

import json

import pytest
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode


@pytest.mark.parametrize("arguments", [["classify", "--json"], ["embed"]])
def test_commands_report_what_is_not_a_file(stub, odd_files, capsys, arguments):
    assert main([*arguments, "odd/137"]) == ExitCode.SOME_FAILED
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["image"]: line["error"] for line in lines if "error" in line} == odd_files
    assert [line["image"] for line in lines if "error" not in line] == ["odd/137/image.png"]


def test_evaluate_reports_what_is_not_a_file(stub, odd_files, capsys):
    assert main(["evaluate", "--json", "odd"]) == ExitCode.SOME_FAILED
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["failures"] == odd_files
    assert report["images"] == len(odd_files) + 1


def test_classify_reports_what_it_is_given(stub, odd_files, capsys):
    """A link to a folder that is given by name is searched."""
    for path, message in odd_files.items():
        code = main(["classify", path])
        printed = capsys.readouterr().out
        if "a link to a folder" in message:
            assert f"{path}/" in printed
        else:
            assert (code, printed.rpartition("\t")[2]) == (ExitCode.SOME_FAILED, f"{message}\n")
