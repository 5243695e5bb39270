"""What is public is listed, sorted, documented, and the same for both clients."""

import inspect
import subprocess
import sys

import pytest
import resnet_client
from resnet_client import AsyncClient, Client, ClientConfig

METHODS = sorted(name for name in vars(Client) if not name.startswith("_"))


def test_all_is_sorted_and_complete():
    """`__all__` is sorted and names exactly what is public."""
    public = {name for name in vars(resnet_client) if not name.startswith("_")}
    assert sorted(resnet_client.__all__) == resnet_client.__all__
    assert set(resnet_client.__all__) == public


@pytest.mark.parametrize("name", [n for n in resnet_client.__all__ if n != "ImageSource"])
def test_everything_public_is_documented(name):
    """Every public class and each of its public members has a docstring."""
    public = getattr(resnet_client, name)
    assert inspect.getdoc(public)
    for member, value in vars(public).items():
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(value), member


def test_both_clients_have_the_same_methods():
    """`Client` and `AsyncClient` offer the same names."""
    assert sorted(name for name in vars(AsyncClient) if not name.startswith("_")) == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_congruent(name):
    """A method has the same parameters, defaults and docstring in both clients."""
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.getdoc(awaited) == inspect.getdoc(blocking)
    theirs, ours = (inspect.signature(method).parameters for method in (awaited, blocking))
    assert list(theirs) == list(ours)
    for parameter in ours:
        assert theirs[parameter].default == ours[parameter].default
        assert theirs[parameter].kind == ours[parameter].kind
        assert str(theirs[parameter].annotation).split(" | Async")[0] == str(ours[parameter].annotation)


@pytest.mark.parametrize("name", METHODS)
def test_returned_types_are_congruent(name):
    """A method returns the same type in both clients, iterators aside."""
    blocking, awaited = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
    assert awaited.return_annotation.removeprefix("Async") == blocking.return_annotation


def test_constructor_has_exactly_the_configs_options():
    """An option is a field of `ClientConfig` and a keyword of the constructor."""
    fields = list(ClientConfig.__dataclass_fields__)
    assert [name for name in inspect.signature(Client).parameters if name != "self"] == fields


def test_import_is_light():
    """Importing the package loads neither protocol, nor torch, nor rich."""
    code = "import sys, resnet_client; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "grpc", "gevent", "aiohttp", "tritonclient", "rich", "locust"} & set(loaded.split())
