"""The built packages: their contents and metadata, and the bare install that must do without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from resnet_serve import TritonServer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, timeout=200)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The wheel."""
    return next(dist.glob("*.whl"))


def test_packages_are_accepted_by_an_index(dist: Path, wheel: Path) -> None:
    """Metadata and README are valid, and the wheel has this project's packages and nothing else."""
    for command in (["twine", "check", "--strict", *map(str, dist.iterdir())], ["check_wheel_contents", str(wheel)]):
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stdout


def test_readme_of_an_index_has_no_broken_links(wheel: Path) -> None:
    """Only addresses are links there; README.md itself has links to files."""
    description = next(Distribution.discover(path=[str(wheel)])).metadata.get_payload()
    links = re.findall(r"\]\(([^)]+)\)", str(description))
    assert links
    assert all(link.startswith("https://") for link in links)
    assert "](docs/" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_wheel_is_reproducible(wheel: Path, tmp_path: Path) -> None:
    """Built from the checkout and from the sdist, it is equal to the bit."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=200)
    assert wheel.read_bytes() == (tmp_path / wheel.name).read_bytes()


def test_wheel_has_the_python_model(wheel: Path) -> None:
    """The wheel has the tracked files of `preprocess`, and the backends."""
    sources = list((ROOT / "model_repository/preprocess/1").glob("*.py"))
    assert {path.name for path in sources} == {"model.py", "allocator.py", "admission.py"}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for source in sources:
            assert archive.read(f"resnet_build/python_models/preprocess/{source.name}") == source.read_bytes()
    assert "resnet_serve/backends/onnxruntime.py" in names


PLATFORMS = {
    "macOS on ARM": ["macosx_14_0_arm64"],
    "macOS on Intel": ["macosx_14_0_x86_64"],
    "Windows": ["win_amd64"],
    "Linux on ARM": [f"manylinux_2_{version}_aarch64" for version in range(17, 36)] + ["manylinux2014_aarch64"],
}


def resolve(platform: str, folder: Path, *requirements: str) -> subprocess.CompletedProcess[str]:
    """Find binary packages for another platform, without installing them."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
    command += ["--target", str(folder), "--only-binary=:all:", "--python-version=3.12"]
    command += [f"--platform={tag}" for tag in PLATFORMS[platform]]
    return subprocess.run([*command, *requirements], capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
def test_client_resolves_on_every_platform(wheel: Path, tmp_path: Path, platform: str) -> None:
    """`pip install .` needs no compiler."""
    result = resolve(platform, tmp_path, str(wheel))
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_pinned_dependencies_have_packages_for_linux_on_arm(tmp_path: Path) -> None:
    """Those that the project names; pip reads markers as on this machine, so each is looked up without its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [
        text
        for extra in ("all", "serve", "build", "loadtest", "bulk", "gateway", "report")
        for text in project["optional-dependencies"][extra]
    ] + project["dependencies"]
    names = {re.split(r"[^\w-]", text)[0] for text in named if "aarch64" not in text} - {"resnet50-triton"}
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line.partition("==")[0] in names
    ]
    assert len(pins) == len(names)
    result = resolve("Linux on ARM", tmp_path, "--no-deps", *pins)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of ``pip install`` without extras, with numpy 2; all other tests have numpy 1.26."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "env")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (folder / "constraints.txt").write_text("\n".join(line for line in pinned if not line.startswith("numpy==")))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python"), "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-compile"]  # most of what comes along is never imported here
    pip += ["numpy>=2,<3", str(wheel), "--constraint", str(folder / "constraints.txt")]
    subprocess.run(pip, check=True, timeout=280)
    return folder / "env/bin"


SCRIPT = """
import importlib.util
import numpy
from resnet_client import Client
with Client({url!r}) as client:
    for preprocessing in ("server", "client"):
        result = client.classify({image!r}, preprocessing=preprocessing)
        vector = client.embed({image!r}, preprocessing=preprocessing)
        assert vector.shape == (2048,) and vector.dtype == numpy.float32 and vector.any()
        print(numpy.__version__, result.top.label)
for package in ("torch", "jinja2", "plotly", "locust", "starlette"):
    assert importlib.util.find_spec(package) is None, package
"""


def test_bare_install_classifies_without_torch(bare: Path, server: TritonServer, images: dict[str, Path]) -> None:
    """The client works with the packages that it names, and without those of the extras."""
    script = SCRIPT.format(url=server.grpc_url, image=str(images["cat"]))
    command = [str(bare / "python"), "-W", "error", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Egyptian cat") == 2
    assert result.stdout.startswith("2.")


@pytest.mark.parametrize(
    ("command", "extra", "code"),
    [
        ("resnet-build", "build", 2),
        ("resnet-build describe", "build", 2),
        ("resnet-serve", "serve", 2),
        ("resnet-serve gateway --port 0", "gateway", 2),
        ("resnet-client bulk images --output out.parquet", "bulk", 2),
        ("resnet-client evaluate images --report out.html", "report", 2),
        ("resnet-loadtest run --rate 20/s", "loadtest", 3),  # 2 stands for invalid results
        ("resnet-loadtest find-slo --slo p99<=1s", "loadtest", 3),
        ("resnet-loadtest tune --url grpc://localhost:1", "loadtest", 3),
        ("resnet-loadtest report run.json", "loadtest", 3),
        ("resnet-loadtest compare a.json b.json", "loadtest", 3),
    ],
)
def test_command_of_a_bare_install_names_the_missing_extra(
    bare: Path, tmp_path: Path, command: str, extra: str, code: int
) -> None:
    """The last line has the fix, there is no traceback, and no file is created."""
    name, *arguments = command.split()
    result = subprocess.run(
        [bare / name, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    message = rf"{name}.*: \w+ is not installed: pip install '\.\[{extra}\]' in the project's folder"
    assert re.fullmatch(message, result.stderr.splitlines()[-1])
    assert "Traceback" not in result.stderr
    assert result.returncode == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", ["resnet-build", "resnet-serve", "resnet-client", "resnet-loadtest"])
def test_help_of_a_bare_install_needs_no_extra(bare: Path, program: str) -> None:
    """It is printed, and the exit code is 0."""
    assert "usage:" in subprocess.check_output([bare / program, "--help"], text=True, timeout=60)
