"""The code in README and docs is executed, and its output compared with the output shown."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import resnet_build.__main__
import resnet_client.cli
import resnet_loadtest.__main__
import resnet_serve.cli
import resnet_serve.gateway.cli
import resnet_serve.rollout.cli
from gateway import running
from PIL import Image
from resnet_serve import TritonServer

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/client.md", "docs/kubernetes.md", "docs/serving.md")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)

FENCED = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(resnet-(?:build|serve|client|loadtest) [^`\n]+)`")
COMMAND = re.compile(r"^(?:\$ )?(resnet-(?:build|serve|client|loadtest)(?: .*)?)$", re.MULTILINE)

# The longer names come first: these have parsers of their own.
PARSERS = {
    ("resnet-serve", "rollout"): resnet_serve.rollout.cli.parser,
    ("resnet-serve", "gateway"): resnet_serve.gateway.cli.parser,
    ("resnet-build",): resnet_build.__main__.parser,
    ("resnet-serve",): resnet_serve.cli.parser,
    ("resnet-client",): lambda: resnet_client.cli.build_parser(resnet_client.cli._COMMANDS),
    ("resnet-loadtest",): resnet_loadtest.__main__._parser,
}


def parse(words: list[str]) -> None:
    """Parse a command line as its program does."""
    name = next(name for name in PARSERS if tuple(words[: len(name)]) == name)
    PARSERS[name]().parse_args(words[len(name) :])


def blocks(name: str) -> list[tuple[str, str]]:
    """Each Python block of a page, with the output shown below it, if any."""
    return BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))


def identified(*names: str) -> list[object]:
    """Parameters with readable names."""
    return [
        pytest.param(code, output, id=f"{name}-{number}")
        for name in names
        for number, (code, output) in enumerate(blocks(name), start=1)
    ]


def command_lines() -> list[str]:
    """Each of this project's command lines on a page; inside a sentence, one of two words is only a name."""
    found: list[str] = []
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        page = path.read_text(encoding="utf-8")
        for block in FENCED.findall(page):
            found += COMMAND.findall(block.replace("\\\n", " "))
        found += [line for line in INLINE.findall(page) if len(line.split()) > 2]
    return sorted(set(found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: dict[str, Path], repository: Path) -> Path:
    """The folder of a reader, with an image of a cat and a built repository."""
    folder = tmp_path_factory.mktemp("reader")
    Image.open(images["cat"]).save(folder / "cat.jpg", quality=95)
    for model in ("resnet50", "preprocess", "network_onnx"):
        shutil.copytree(repository / model, folder / "model_repository" / model)
    return folder


def printed(program: list[str], code: str, server: TritonServer, folder: Path) -> str:
    """Run a block of a page, and return its output."""
    # Pages name the default addresses; the test's server has free ports.
    code = code.replace("http://localhost:8000", server.http_url)
    code = code.replace("localhost:8001", server.grpc_url.removeprefix("grpc://"))
    # Where the machine has no node, `make install` puts it next to python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"RESNET_URL": server.grpc_url, "PATH": path}
    command = [*program, code]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("code", "output"), identified(*PAGES))
def test_shown_code_runs(server: TritonServer, folder: Path, code: str, output: str) -> None:
    """A reader who copies a block gets the output shown."""
    shown = printed([sys.executable, "-c"], code, server, folder)
    if output:
        assert shown == output


def test_readme_curl_line_prints_the_classes(server: TritonServer, folder: Path, tmp_path: Path) -> None:
    """Through the gateway, the response shown, apart from the digits that depend on the network."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    command, output = re.findall(r"^\$ (curl .*)\n(\{.*\})$", page, re.MULTILINE)[0]
    with running(server.grpc_url, tmp_path / "log") as gateway:
        command = command.replace("localhost:8080", f"localhost:{gateway.port}")
        printed = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, timeout=60, check=True).stdout
    shown, found = json.loads(output), json.loads(printed)
    probability = shown["predictions"][0]["probability"]
    assert found["predictions"][0].pop("probability") == pytest.approx(probability, abs=0.05)
    del shown["predictions"][0]["probability"]
    assert found == shown


OTHER_CLIENTS = re.findall(
    r"^```(bash|js|python)\n(.*?)^```$",
    (ROOT / "docs/other-clients.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize(("language", "code"), OTHER_CLIENTS)
def test_other_clients_classify(server: TritonServer, folder: Path, language: str, code: str) -> None:
    """Without this project's client, in each language that the page shows."""
    program = {"bash": ["bash", "-c"], "js": ["node", "--input-type=module", "-e"], "python": [sys.executable, "-c"]}
    shown = printed(program[language], code, server, folder)
    assert "Egyptian cat" in shown or re.fullmatch("200 [0-9]{5} bytes\n", shown)


def test_shown_code_passes_the_type_checker(tmp_path: Path) -> None:
    """A reader who copies a block into a typed program gets no error of mypy."""
    for name in PAGES:
        for number, (code, _) in enumerate(blocks(name)):
            (tmp_path / f"{Path(name).stem.lower()}_{number}.py").write_text(code, encoding="utf-8")
    cache = ROOT / ".mypy_cache/shown"  # next to that of the lint step, whose options differ
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", f"--cache-dir={cache}", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stdout


def test_readme_shows_eight_lines_at_most() -> None:
    """The first code is short."""
    code, output = blocks("README.md")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    assert output


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/*.md")))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Every link leads to a file that exists."""
    path = ROOT / page
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize(
    ("command", "page"),
    [
        ("resnet-build", "building"),
        ("resnet-loadtest tune", "tuning"),
        ("resnet-serve", "serving"),
        ("resnet-serve rollout", "rollout"),
    ],
)
def test_documented_options_are_the_real_ones(command: str, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A page names no option that its command does not have; docs/reference/commands.md lists all of them."""
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    with pytest.raises(SystemExit):
        parse([*command.split(), "--help"])
    shown = capsys.readouterr().out
    documented = set(option.findall((ROOT / f"docs/{page}.md").read_text(encoding="utf-8")))
    # Pages also show these options of Triton, and serving.md those of the build that limit the queue.
    tritons = {"--log-verbose", "--load-model", "--model-config-name", "--model-control-mode", "--rate-limit"}
    assert documented - tritons - {"--queue-size", "--max-wait-ms"} <= set(option.findall(shown))


@pytest.mark.parametrize("line", command_lines())
def test_shown_command_lines_are_understood(line: str) -> None:
    """Options stand where the command takes them, with values that they can have."""
    shell = {"|", "||", "&&", ">"}
    words = list(itertools.takewhile(lambda word: word not in shell, shlex.split(line, comments=True)))
    try:
        parse(words)
    except SystemExit as exc:
        if exc.code:  # --help ends with 0
            pytest.fail(f"{line} ends with {exc.code}")
