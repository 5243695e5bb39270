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
    public = {name for name, value in vars(resnet_client).items() if not (name[0] == "_" or inspect.ismodule(value))}
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


LOADED = """
import sys
before = set(sys.modules)
{code}
print(*sorted({{name.split(".")[0] for name in sys.modules.keys() - before}} - sys.stdlib_module_names))
"""


def loaded(code):
    """Which packages that are not Python's own a program loads."""
    command = [sys.executable, "-c", LOADED.format(code=code)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {name for name in found if "cython" not in name}  # parts of numpy


def test_import_is_light():
    """Importing the package loads arrays and pictures; protocols wait for their first use, rich for a table."""
    assert loaded("import resnet_client") == {"PIL", "numpy", "resnet_client"}
    plugins = "import resnet_client; assert not [name for name in sys.modules if name.endswith('ImagePlugin')]"
    assert "PIL" in loaded(plugins)


@pytest.mark.parametrize(
    ("scheme", "kind", "foreign"),
    [
        ("grpc", "", {"tritonclient", "grpc", "google"}),
        ("grpc", "_async", {"tritonclient", "grpc", "google"}),
        ("http", "", set()),
        ("http", "_async", {"aiohttp", "yarl"}),
    ],
)
def test_only_the_protocol_in_use_is_loaded(scheme, kind, foreign):
    """The first call loads what its transport needs, and nothing for another one; never gevent."""
    code = f"""
import asyncio
from resnet_client import ClientConfig, _transports
config = ClientConfig("{scheme}://127.0.0.1:1")
async def connect():
    transport = _transports.connect{kind}(config, *config.endpoints)
    if "{kind}":
        await transport.close()
    else:
        transport.close()
asyncio.run(connect())
"""
    found = loaded(code)
    assert foreign <= found
    others = {"tritonclient", "grpc", "aiohttp", "gevent", "geventhttpclient", "rich", "torch"} - foreign
    assert not others & found
