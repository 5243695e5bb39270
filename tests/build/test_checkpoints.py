"""State dicts from files: usual formats are accepted; damaged, wrong and dangerous files are refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from resnet_build import BuildError
from resnet_build.checkpoints import read
from resnet_build.network import load_network, make_resnet50
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A 10-class state dict."""
    return make_resnet50("v1.5", 10).state_dict()


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_read_unwraps_state_dicts(
    state: dict[str, torch.Tensor], tmp_path: Path, wrap: str | None, prefix: str
) -> None:
    """DataParallel's and torch.compile's prefixes and the usual wrappers make no difference."""
    named = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    path = tmp_path / "net.pth"
    torch.save({wrap: named, "epoch": 3} if wrap else named, path)
    loaded = read(path)
    expected = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert loaded.keys() == expected.keys()
    assert torch.equal(loaded["layer4.2.conv3.weight"], expected["layer4.2.conv3.weight"])
    load_network("v1.5", loaded)


def test_read_finds_the_same_network_in_both_formats(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Names and values do not depend on the container."""
    torch.save(state, tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    pickled, safe = (read(tmp_path / name) for name in ("net.pth", "net.safetensors"))
    assert pickled.keys() == safe.keys()
    assert all(torch.equal(pickled[name], safe[name]) for name in safe)


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        """Make a folder as proof."""
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("form", ["zip", "legacy", "raw", "whole module"])
def test_read_does_not_run_the_code_of_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A malicious file of any form is refused with a message, and its code does not run."""
    monkeypatch.chdir(tmp_path)
    if form == "raw":
        Path("net.pth").write_bytes(pickle.dumps({"state_dict": Harmful()}))
    elif form == "whole module":
        torch.save(torch.nn.Linear(2, 2), "net.pth")
    else:
        torch.save({"state_dict": Harmful()}, "net.pth", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        BuildError, match=r"net.pth is damaged or contains more than tensors.* could run code: save"
    ) as raised:
        read(Path("net.pth"))
    named = {"zip": "(posix.mkdir)", "whole module": "(torch.nn.modules.linear.Linear)"}.get(form, "")
    assert named in str(raised.value)
    # PyTorch's own message advises to open it after all.
    assert "weights_only" not in str(raised.value)
    assert not Path("harm").exists()


def test_read_refuses_a_torchscript_archive(tmp_path: Path) -> None:
    """A scripted network is a program; as weights it is refused."""
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(BuildError, match="contains more than tensors"):
        read(tmp_path / "net.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3).to_sparse(),
        torch.ones(3, device="meta"),
        torch.ones(3, dtype=torch.complex64),
        torch.zeros(1).expand(10**14),
    ],
    ids=["sparse", "meta", "complex", "400 TB"],
)
def test_read_refuses_tensors_that_are_not_plain_arrays(tmp_path: Path, tensor: torch.Tensor) -> None:
    """The restricted reader lets them through, and they cannot be weights."""
    torch.save({"fc.bias": tensor}, tmp_path / "net.pth")
    with pytest.raises(BuildError, match=r"net.pth contains an unsupported tensor"):
        read(tmp_path / "net.pth")


def test_read_refuses_two_networks_in_one_file(tmp_path: Path) -> None:
    """A network and its moving average in one file: none is chosen silently."""
    torch.save({"fc.bias": torch.zeros(3), "module.fc.bias": torch.ones(3)}, tmp_path / "net.pth")
    with pytest.raises(BuildError, match=r"fc.bias more than once.*save one network only"):
        read(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"\x80\x04 this is no network", b"hello world", b""])
def test_read_refuses_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    """For both formats, the user gets a message instead of a traceback."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BuildError, match=name):
        read(path)


def test_read_counts_tensors_by_storage(tmp_path: Path) -> None:
    """Many views of one small storage are refused before they are converted; views of its parts are read."""
    values = torch.zeros(1 << 20)
    path = tmp_path / "views.pth"
    torch.save({f"layer{number}.weight": values for number in range(1000)}, path)
    assert path.stat().st_size < 8 << 20
    with pytest.raises(BuildError, match=r"shares memory .* save tensor\.clone\(\) of every tensor"):
        read(path)
    torch.save({"a.weight": values[:100], "b.weight": values[100:]}, path)
    assert {name: len(tensor) for name, tensor in read(path).items()} == {
        "a.weight": 100, "b.weight": (1 << 20) - 100,
    }  # fmt: skip
