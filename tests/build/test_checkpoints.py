"""Checkpoints from files: what training scripts write is read; damaged, other and dangerous files are refused."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resnet_build import BuildError, UsageError
from resnet_build.checkpoints import read
from resnet_build.network import ServedNetwork, load_network, make_resnet50
from safetensors.torch import save_file
from torch import nn
from torchvision import models

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """A 10-class state dict."""
    return make_resnet50("v1.5", 10).state_dict()


@pytest.fixture(scope="module")
def stages(state: State) -> State:
    """The same without the head."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def prefixed(prefix: str, state: State) -> State:
    """Put a prefix before all names."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def saved(folder: Path, content: Any) -> Path:
    """Write a checkpoint."""
    torch.save(content, folder / "net.pth")
    return folder / "net.pth"


def as_hugging_face(state: State) -> State:
    """Rename as `transformers.ResNetForImageClassification` does."""
    renamed = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        parts = module.split(".")
        kind = {"conv": "convolution", "bn": "normalization"}
        if parts[0] == "fc":
            module = "classifier.1"
        elif len(parts) == 1:
            module = f"resnet.embedder.embedder.{kind[parts[0][:-1]]}"
        else:
            block = f"resnet.encoder.stages.{int(parts[0][-1]) - 1}.layers.{parts[1]}"
            if parts[2] == "downsample":
                module = f"{block}.shortcut.{['convolution', 'normalization'][int(parts[3])]}"
            else:
                module = f"{block}.layer.{int(parts[2][-1]) - 1}.{kind[parts[2][:-1]]}"
        renamed[f"{module}.{leaf}"] = tensor
    return renamed


def as_children(state: State) -> State:
    """Rename as `nn.Sequential(*resnet.children())[:-1]` next to a classifier does."""
    children = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    renamed = {}
    for name, tensor in state.items():
        child, _, rest = name.partition(".")
        renamed[f"features.{children[child]}.{rest}" if child in children else f"classifier.{rest}"] = tensor
    return renamed


ARGS = argparse.Namespace(
    lr=np.float32(0.1),
    output=Path("out"),
    workers=np.int64(2),
    scores=np.arange(3.0),
    groups=collections.defaultdict(list, {"a": [1]}),
)
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
LEFT = {"criterion.weight": torch.ones(10), "n_averaged": torch.tensor(3)}

# What is written → what the build prints of it.
READ: dict[str, tuple[Callable[[State], Any], str]] = {
    "torchvision": (lambda state: {"model": state, "optimizer": OPTIMIZER, "args": ARGS, "epoch": 3}, "`model`"),
    "timm": (lambda state: {"state_dict": state, "metric": np.float64(77.2), "args": ARGS}, "`state_dict`"),
    "weights": (lambda state: {"weights": prefixed("backbone.", state)}, "`weights`, stripped prefix `backbone.`"),
    "compiled": (
        lambda state: prefixed("_orig_mod.module.", state),
        "the state dict, stripped prefix `_orig_mod.module.`",
    ),
    "averaged": (
        lambda state: {"model_ema": prefixed("module.", state) | LEFT},
        "`model_ema`, stripped prefix `module.`; ignored 2 tensors: criterion.weight, n_averaged",
    ),
    "lightning": (
        lambda state: {"state_dict": prefixed("net.", state) | {"train_acc.tp": torch.zeros(10)}},
        "`state_dict`, stripped prefix `net.`; ignored 1 tensor: train_acc.tp",
    ),
    "nested": (lambda state: {"ema": {"state_dict": state}}, "`ema.state_dict`"),
    "hugging face": (as_hugging_face, "the state dict, stripped prefix `resnet.`"),
    "children": (as_children, "the state dict, stripped prefix `features.`"),
    "head elsewhere": (
        lambda state: {f"{'head' if name.startswith('fc.') else 'backbone'}.{name}": state[name] for name in state},
        "the state dict, stripped prefix `backbone.`",
    ),
    "dropout": (
        lambda state: {name.replace("fc.", "fc.1."): tensor for name, tensor in state.items()},
        "the state dict",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_read_finds_the_network_in_what_training_scripts_write(state: State, tmp_path: Path, name: str) -> None:
    """Wrappers, prefixes, other libraries' names, and what is left from training make no difference."""
    write, summary = READ[name]
    found = read(saved(tmp_path, write(state)))
    expected = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert found.state_dict.keys() == expected.keys()
    assert all(torch.equal(found.state_dict[name], tensor) for name, tensor in expected.items())
    assert found.summary == f"reading {summary}"
    assert found.head.endswith("weight (10, 2048)")


CHOICES: dict[str, Callable[[State], Any]] = {
    "state_dict_ema": lambda state: {"state_dict": {}, "state_dict_ema": state, "model": prefixed("module.", state)},
    "encoder_q": lambda state: prefixed("module.encoder_q.", state) | prefixed("module.encoder_k.", state),
    "teacher": lambda state: {"teacher": prefixed("backbone.", state), "student": prefixed("module.backbone.", state)},
}


@pytest.mark.parametrize("key", CHOICES)
def test_read_lets_the_user_choose_among_several_networks(state: State, tmp_path: Path, key: str) -> None:
    """A network and its moving average in one file: none is chosen silently, and the message lists the choices."""
    path = saved(tmp_path, CHOICES[key](state))
    with pytest.raises(UsageError, match=rf"contains 2 networks: choose one with --checkpoint-key: .*{key}"):
        read(path)
    assert key in read(path, key).summary
    with pytest.raises(UsageError, match=rf"--checkpoint-key other names 0 networks .*; choose one of: .*{key}"):
        read(path, "other")


@pytest.fixture(scope="module")
def served(stages: State) -> ServedNetwork:
    """The network that has these stages."""
    net = make_resnet50("v1.5", 1)
    net.load_state_dict(stages, strict=False)
    return ServedNetwork(net).eval()


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer with large weights, so that a mistake shows."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight)
    return layer


def norm(size: int) -> nn.BatchNorm1d:
    """A batch norm that has seen something."""
    layer = nn.BatchNorm1d(size)
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2)
    return layer


class AveragedAndMaximum(nn.Module):
    """fastai's pooling: maximum, then average."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Concatenate both."""
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)


HEADS: dict[str, Callable[[], nn.Module]] = {
    "linear in a sequence": lambda: nn.Sequential(linear(2048, 5)),
    "without bias": lambda: linear(2048, 5, bias=False),
    "log-softmax": lambda: nn.Sequential(nn.Dropout(), linear(2048, 5), nn.LogSoftmax(1)),
    "two layers": lambda: nn.Sequential(linear(2048, 16), nn.ReLU(), nn.Dropout(), linear(16, 5)),
    "batch norm": lambda: nn.Sequential(linear(2048, 16, bias=False), norm(16), nn.ReLU(), linear(16, 5)),
    "no activation": lambda: nn.Sequential(linear(2048, 16), linear(16, 5)),
    "fastai": lambda: nn.Sequential(
        norm(4096), nn.Dropout(), linear(4096, 16, bias=False), nn.ReLU(), norm(16), nn.Dropout(), linear(16, 5)
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_read_takes_heads_of_linear_layers(stages: State, served: ServedNetwork, tmp_path: Path, name: str) -> None:
    """The network that is served computes what the trained one does."""
    head = HEADS[name]().eval()
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pooling = AveragedAndMaximum() if name == "fastai" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trained = nn.Sequential(*list(served.backbone.children())[:-2], pooling, head).eval()
    found = read(saved(tmp_path, stages | prefixed("fc.", head.state_dict())))
    with torch.inference_mode():
        expected = torch.softmax(trained(served.normalised(pixels)), dim=1)
        probabilities, features = ServedNetwork(load_network("v1.5", found.state_dict)).eval()(pixels)
    assert torch.allclose(probabilities, expected, atol=1e-5)
    assert features.shape == (2, 2048)
    assert found.outputs == 5


def test_read_follows_the_layers_of_a_head_with_names(stages: State, tmp_path: Path) -> None:
    """A head of the user's own class has names instead of numbers."""
    head = {"model.head.fc2.weight": torch.ones(5, 16), "model.head.fc1.weight": torch.ones(16, 2048)}
    found = read(saved(tmp_path, prefixed("model.backbone.", stages) | head))
    assert found.summary.endswith("; head Linear → ReLU → Linear")
    assert found.head == "model.head.fc2.weight (5, 16)"


def empty(make: Callable[[], nn.Module]) -> State:
    """A network of zeros, whose weights need not be drawn."""
    with torch.device("meta"):
        state = make().state_dict()
    return {name: torch.zeros_like(tensor, device="cpu") for name, tensor in state.items()}


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "ResNet-18": (lambda _: empty(models.resnet18), "the network is a ResNet-18 "),
    "ResNet-34": (lambda _: empty(models.resnet34), "the network is a ResNet-34 "),
    "ResNet-101": (lambda _: empty(models.resnet101), "the network is a ResNet-101 "),
    "ResNeXt": (lambda _: empty(models.resnext50_32x4d), "the network is a ResNeXt-50 32x4d "),
    "wide": (lambda _: empty(models.wide_resnet50_2), "the network is a Wide ResNet-50-2 "),
    "d": (
        lambda state: state | {"conv1.0.weight": torch.zeros(32, 3, 3, 3), "layer2.0.downsample.1.weight": KERNEL},
        r"a ResNet-50 with a deep stem and pooling shortcuts \(timm's d\).*1 tensors are unknown \(conv1.0.weight\)",
    ),
    "se": (lambda state: state | {"layer1.0.se.fc1.weight": KERNEL}, r"squeeze-and-excitation \(timm's se\)"),
    "gn": (lambda state: {name: state[name] for name in state if "running" not in name}, r"group norms \(timm's gn\)"),
    "grey": (
        lambda state: state | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
        r"conv1.weight \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)",
    ),
    "no ResNet": (
        lambda _: {"state_dict": {"patch_embed.weight": torch.zeros(8, 3, 4, 4)}},
        r"contains no ResNet: `state_dict` has 1 tensors \(patch_embed.weight \(8, 3, 4, 4\)\)",
    ),
    "no head": (
        lambda state: {"teacher": {name: state[name] for name in state if "fc." not in name} | {"head.w": KERNEL}},
        r"no classifier that can be exported.* found head.w \(8, 8, 1, 1\)",
    ),
    "another layer": (
        lambda state: prefixed("net.", state) | {"out.weight": torch.zeros(3, 10)},
        r"out.weight \(3, 10\) follows the classifier net.fc.weight \(10, 2048\)",
    ),
    "two heads": (
        lambda state: prefixed("net.", {name: state[name] for name in state if "fc." not in name})
        | {"a.weight": torch.zeros(3, 2048), "b.weight": torch.zeros(4, 2048)},
        r"several heads \(a, b\)",
    ),
    "quantised": (
        lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int8)},
        r"the network is quantised \(conv1.weight \(64, 3, 7, 7\), torch.int8\)",
    ),
    "NaN": (
        lambda state: prefixed("net.", state | {"layer2.1.bn1.bias": torch.full((128,), torch.nan)}),
        "NaN or infinite values in net.layer2.1.bn1.bias",
    ),
    "infinite": (lambda state: state | {"fc.bias": torch.full((10,), torch.inf)}, "NaN or infinite values in fc.bias"),
    "sparse": (lambda state: state | {"fc.bias": torch.ones(10).to_sparse()}, "unsupported tensor fc.bias"),
    "meta": (lambda state: state | {"fc.bias": torch.ones(10, device="meta")}, "unsupported tensor fc.bias"),
    "complex": (lambda state: state | {"fc.bias": torch.ones(10, dtype=torch.complex64)}, "unsupported tensor fc.bias"),
    "expanded": (
        lambda state: {name: state[name] for name in state if name != "fc.bias"}
        | {"fc.weight": torch.zeros(1).expand(10**10, 2048)},
        r"fc.weight \(10000000000, 2048\): it shares memory .* save tensor\.clone\(\) of every tensor",
    ),
    "text": (lambda _: "hello", "contains a str, not a state dict"),
}  # fmt: skip
KERNEL = torch.zeros(8, 8, 1, 1)


@pytest.mark.parametrize("name", REFUSED)
def test_read_names_what_it_refuses(state: State, tmp_path: Path, name: str) -> None:
    """The message names the network or the tensors that were found."""
    write, message = REFUSED[name]
    with pytest.raises(BuildError, match=message):
        read(saved(tmp_path, write(state)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_read_widens_half_precision(state: State, tmp_path: Path, dtype: torch.dtype) -> None:
    """Networks are exported in 32 bits, with the values of the file."""
    halves = {name: tensor.to(dtype) for name, tensor in state.items()}
    found = read(saved(tmp_path, halves)).state_dict
    assert torch.equal(found["conv1.weight"], halves["conv1.weight"].float())


def test_read_finds_the_same_network_in_both_formats(state: State, tmp_path: Path) -> None:
    """Names and values do not depend on the container; of a folder of Hugging Face's, the weights are read."""
    save_file(state, tmp_path / "model.safetensors")
    pickled, safe = (read(path).state_dict for path in (saved(tmp_path, state), tmp_path))
    assert pickled.keys() == safe.keys()
    assert all(torch.equal(pickled[name], safe[name]) for name in safe)


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        """Make a folder as proof."""
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("form", ["zip", "legacy", "in arguments", "raw", "whole module"])
def test_read_does_not_run_the_code_of_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A malicious file of any form is refused with a message, and its code does not run."""
    monkeypatch.chdir(tmp_path)
    if form == "raw":
        Path("net.pth").write_bytes(pickle.dumps({"state_dict": Harmful()}))
    elif form == "whole module":
        torch.save(torch.nn.Linear(2, 2), "net.pth")
    elif form == "in arguments":
        torch.save({"state_dict": {}, "args": argparse.Namespace(x=Harmful())}, "net.pth")
    else:
        torch.save({"state_dict": Harmful()}, "net.pth", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        BuildError, match=r"net.pth is damaged or contains more than tensors.* could run code: save"
    ) as raised:
        read(Path("net.pth"))
    named = {"raw": "", "whole module": "torch.nn.modules.linear.Linear)"}.get(form, "(posix.mkdir)")
    assert named in str(raised.value)
    # PyTorch's own message advises to open it after all.
    assert "weights_only" not in str(raised.value)
    assert not Path("harm").exists()


def test_read_refuses_a_torchscript_archive(tmp_path: Path) -> None:
    """A scripted network is a program; the message says how to save its weights."""
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(BuildError, match=r"is a TorchScript archive.*torch.jit.load\('net.pt'\).state_dict\(\)"):
        read(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"\x80\x04 this is no network", b"hello world", b""])
def test_read_refuses_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    """For both formats, the user gets a message instead of a traceback."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BuildError, match=name):
        read(path)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_read_names_files_of_other_frameworks(tmp_path: Path, name: str) -> None:
    """They are not called damaged."""
    (tmp_path / name).write_bytes(b"\x89HDF\r\n")
    with pytest.raises(BuildError, match="is a file of Keras; use a PyTorch checkpoint"):
        read(tmp_path / name)


def test_read_counts_tensors_by_storage(state: State, tmp_path: Path) -> None:
    """Views of parts of one storage are read; many views of the same part would need more memory than the file."""
    flat = torch.zeros(4 * 64)
    names = ("bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var")
    read(saved(tmp_path, state | dict(zip(names, flat.split(64), strict=True))))
    path = saved(tmp_path, state | dict.fromkeys(names, flat[:64].clone()))
    with pytest.raises(BuildError, match=r"shares memory .* save tensor\.clone\(\) of every tensor"):
        read(path)
