"""`resnet-client models`, and what the command prints about itself."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import resnet_client
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode

BIN = Path(sys.executable).parent


def test_models_lists_what_the_server_has_loaded(server, repository, capsys):
    assert main(["models", "--url", server.grpc_url, "--json"]) == ExitCode.OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["model"] for row in rows} == {path.parent.name for path in repository.glob("*/config.pbtxt")}
    assert main(["models", "--url", server.http_url]) == ExitCode.OK
    assert "resnet50\tversion 1\t" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["resnet-build", "resnet-serve", "resnet-client", "resnet-loadtest"])
def test_version_is_that_of_the_package(name):
    shown = subprocess.run([BIN / name, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == f"{name} {resnet_client.__version__}\n"
    assert resnet_client.__version__ == version("resnet50-triton")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("resnet-build --vari", "--variant"),
        ("resnet-serve --repos", "--repository"),
        ("resnet-client classify --top", "--top-k"),
        ("resnet-loadtest run --arri", "--arrivals"),
    ],
)
def test_command_completes_its_options(line, option, tmp_path):
    """As bash asks argcomplete for the words that may follow."""
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": "o"}
    asked["_ARGCOMPLETE_IFS"] = "\n"
    subprocess.run([BIN / line.split()[0]], env=os.environ | asked, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "o").read_text().split() == [option]
