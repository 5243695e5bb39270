"""What is public is listed, sorted, documented, and the same for both clients."""

import inspect
import subprocess
import sys

import pytest
import resnet_client
from resnet_client import AsyncClient, Client, ClientConfig

METHODS = sorted(name for name in vars(Client) if not name.startswith("_"))


def test_public_names_are_listed_in_order():
    public = {name for name, value in vars(resnet_client).items() if not (name[0] == "_" or inspect.ismodule(value))}
    assert sorted(resnet_client.__all__) == resnet_client.__all__
    assert set(resnet_client.__all__) == public


def test_async_client_has_the_methods_of_client():
    assert sorted(name for name in vars(AsyncClient) if not name.startswith("_")) == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_async_client_has_the_signatures_of_client(name):
    """Parameters, defaults, docstring and returned type, iterators aside."""
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.getdoc(awaited) == inspect.getdoc(blocking)
    returned, expected = (inspect.signature(method).return_annotation for method in (awaited, blocking))
    assert returned.removeprefix("Async") == expected
    theirs, ours = (inspect.signature(method).parameters for method in (awaited, blocking))
    assert list(theirs) == list(ours)
    for parameter in ours:
        assert theirs[parameter].default == ours[parameter].default
        assert theirs[parameter].kind == ours[parameter].kind
        assert str(theirs[parameter].annotation).split(" | Async")[0] == str(ours[parameter].annotation)


def test_client_has_the_options_of_its_config():
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


def test_import_loads_arrays_and_images_only():
    """Protocols wait for their first use, rich for a table."""
    assert loaded("import resnet_client") == {"PIL", "numpy", "resnet_client"}
    plugins = "import resnet_client; assert not [name for name in sys.modules if name.endswith('ImagePlugin')]"
    assert "PIL" in loaded(plugins)


@pytest.mark.parametrize(
    ("scheme", "kind", "foreign"),
    [
        ("grpc", "Client", {"tritonclient", "grpc", "google"}),
        ("grpc", "AsyncClient", {"tritonclient", "grpc", "google"}),
        ("http", "Client", set()),
        ("http", "AsyncClient", {"aiohttp", "yarl"}),
    ],
)
def test_client_loads_its_own_protocol_only(scheme, kind, foreign):
    """With its first call; never gevent."""
    code = f"""
import asyncio
from contextlib import suppress
from resnet_client import {kind}, UnavailableError
async def main():
    with suppress(UnavailableError):
        found = {kind}("{scheme}://127.0.0.1:1", max_attempts=1).statistics()
        if {kind == "AsyncClient"}:
            await found
asyncio.run(main())
"""
    found = loaded(code)
    assert foreign <= found
    others = {"tritonclient", "grpc", "aiohttp", "gevent", "geventhttpclient", "rich", "torch"} - foreign
    assert not others & found
