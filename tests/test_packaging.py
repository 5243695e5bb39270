"""The built wheel: its contents, and the bare install that must do without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from resnet_serve import TritonServer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=200)
    return next(folder.glob("*.whl"))


def test_wheel_has_the_python_model(wheel: Path) -> None:
    """The wheel has the tracked files of `preprocess`, and only this project's packages."""
    sources = list((ROOT / "model_repository/preprocess/1").glob("*.py"))
    assert {path.name for path in sources} == {"model.py", "allocator.py", "admission.py"}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for source in sources:
            assert archive.read(f"resnet_build/python_models/preprocess/{source.name}") == source.read_bytes()
    assert "resnet_serve/backends/onnxruntime.py" in names
    tops = {name.split("/")[0] for name in names if not name.startswith("resnet50_triton-")}
    assert tops == {"resnet_build", "resnet_client", "resnet_command.py", "resnet_loadtest", "resnet_serve"}


@pytest.mark.parametrize(
    ("package", "missing", "arguments", "code"),
    [
        ("resnet_build", "torch", [], 1),
        ("resnet_build", "torch", ["describe"], 1),
        ("resnet_loadtest", "locust", ["run", "--rate", "20/s"], 3),
        ("resnet_loadtest", "locust", ["find-slo", "--slo", "p99<=1s"], 3),
    ],
)
def test_command_names_its_missing_extra(
    package: str, missing: str, arguments: list[str], code: int, tmp_path: Path
) -> None:
    """A message with the remedy instead of a traceback; nothing is created."""
    script = f"import sys; sys.modules[{missing!r}] = None; from {package}.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    extra = package.removeprefix("resnet_")
    message = f"resnet-{extra}: {missing} is not installed: pip install '.[{extra}]' in the project's folder\n"
    assert (code, message) == (result.returncode, result.stderr)
    assert not list(tmp_path.iterdir())


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
        for extra in ("all", "serve-onnx", "build", "loadtest", "bulk", "gateway", "images", "report")
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


SCRIPT = """
import sys
import numpy
from resnet_client import Client
with Client({url!r}) as client:
    for preprocessing in ("server", "client"):
        result = client.classify({image!r}, preprocessing=preprocessing)
        vector = client.embed({image!r}, preprocessing=preprocessing)
        assert vector.shape == (2048,) and vector.dtype == numpy.float32 and vector.any()
        print(numpy.__version__, result.top.label)
assert "torch" not in sys.modules
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("torch is installed here, so this proves nothing")
"""


def test_install_without_extras_classifies_without_torch(
    wheel: Path, server: TritonServer, images: dict[str, Path], tmp_path: Path
) -> None:
    """``pip install`` without extras imports and classifies, with numpy 2; all other tests have numpy 1.26."""
    venv.create(tmp_path / "env")
    python = tmp_path / "env/bin/python"
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "constraints.txt").write_text("\n".join(line for line in pinned if not line.startswith("numpy==")))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-compile"]  # most of what comes along is never imported here
    pip += ["numpy>=2,<3", str(wheel), "--constraint", str(tmp_path / "constraints.txt")]
    subprocess.run(pip, check=True, timeout=280)
    command = [str(python), "-W", "error", "-c", SCRIPT.format(url=server.grpc_url, image=str(images["cat"]))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Egyptian cat") == 2
    assert result.stdout.startswith("2.")
