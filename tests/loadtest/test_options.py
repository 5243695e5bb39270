"""The one list of options."""

import argparse
import dataclasses
import math
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from resnet_loadtest.__main__ import main
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import AUTO_RATE, Options, add_to, resolve, variable
from strategies import near

FIELDS = [field.name for field in dataclasses.fields(Options)]


def test_resolve_prefers_argument_to_environment_to_default():
    """One rule for all."""
    environment = {"RESNET_LOADTEST_PROFILE": "ramp", "RESNET_LOADTEST_SEED": "7", "RESNET_URL": "http://host:1"}
    options = resolve({"profile": "soak", "seed": None}, environment)
    assert (options.profile, options.seed, options.url, options.arrivals) == ("soak", 7, "http://host:1", "poisson")


def test_resolve_leaves_out_addresses_of_another_server():
    """Those in the environment belong to RESNET_URL; with another --url they are derived from it."""
    environment = {"RESNET_URL": "grpc://a:1", "RESNET_HTTP_URL": "http://a:2", "RESNET_METRICS_URL": "http://a:3"}
    assert resolve({"url": "grpc://b:8001"}, environment).url_for("http") == "http://b:8000"
    assert resolve({"url": "grpc://a:1"}, environment).url_for("metrics") == "http://a:3"
    assert resolve({"url": "http://b:5", "http_url": "http://a:2"}, environment).url_for("http") == "http://b:5"


def test_add_to_declares_every_field_with_its_variable():
    """Nothing is written twice, nothing is missing."""
    parser = argparse.ArgumentParser()
    add_to(parser)
    assert set(vars(parser.parse_args([]))) == set(FIELDS)
    assert all(f"[{variable(name)}" in re.sub(r"\s+", " ", parser.format_help()) for name in FIELDS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rate", "20/s", 20.0),
        ("rate", "auto", AUTO_RATE),
        ("duration_s", "2m", 120.0),
        ("expect_workers", "3", 3),
        ("expect_workers", "dns:127.0.0.1", 1),  # one for each address of the name
    ],
)
def test_resolve_reads_values_as_people_write_them(name, text, value):
    """With units; workers also by the name of a service."""
    assert getattr(resolve({name: text}, {}), name) == value


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("expect_workers", "--expect-workers 'dns:a..b': expected a whole number, or dns:NAME"),
        ("rate", "--rate '-1': expected requests per second (20/s) or auto"),
        ("rate", "--rate 'fast': expected requests per second (20/s) or auto"),
        ("duration_s", "--duration '0': expected a duration (90s or 10m)"),
        ("profile", "--profile 'wave': expected steady, ramp, steps, spike or soak"),
        ("users", "--users '0': expected a whole number, 1 or more"),
    ],
)
def test_resolve_refuses_with_the_name_of_the_source(name, message):
    """Flag or variable, whichever the value came from."""
    text = message.split("'")[1]
    with pytest.raises(UsageError) as refused:
        resolve({name: text}, {})
    assert str(refused.value).startswith(f"invalid {message}")
    with pytest.raises(UsageError, match=f"invalid {variable(name)} '{text}': expected "):
        resolve({}, {variable(name): text})


@given(st.sampled_from(FIELDS), near("20", "/s", "s", "m", "h", ".", "auto", "yes", "-", "e", "poisson", "_", " "))
@example("duration_s", "9" * 400)
@example("spawn_rate", "nan")
@example("warm_up_s", "-1")
@example("seed", "-1")
@example("seed", "9" * 5000)
def test_resolve_survives_any_text(name, text):
    """It gives options of finite numbers, or a message that names flag or variable."""
    assume(not text.startswith("dns:"))  # would ask a name server
    for arguments, environment, source in (
        ({name: text}, {}, "--duration" if name == "duration_s" else "--" + name.replace("_", "-")),
        ({}, {variable(name): text}, variable(name)),
    ):
        refusal = ""
        try:
            options = resolve(arguments, environment)
        except UsageError as exc:
            refusal = str(exc)
        if refusal:
            assert f"invalid {source} " in refusal
            continue
        numbers = [value for value in vars(options).values() if isinstance(value, float) and value != options.rate]
        assert all(0 <= value < math.inf for value in numbers)


@pytest.mark.parametrize(
    ("url", "grpc", "http", "metrics"),
    [
        ("grpc://a:8001", "grpc://a:8001", "http://a:8000", "http://a:8002/metrics"),
        ("http://a:9000", "grpc://a:9001", "http://a:9000", "http://a:9002/metrics"),
        ("grpcs://a", "grpcs://a", "https://a:8000", "http://a:8002/metrics"),
    ],
)
def test_url_for_derives_the_other_addresses_from_one(url, grpc, http, metrics):
    """Triton's three ports lie side by side."""
    options = Options(url=url)
    assert [options.url_for(kind) for kind in ("grpc", "http", "metrics")] == [grpc, http, metrics]


@given(near("grpc", "http", "s", "://", "localhost", "[::1]", ":", "/", "@", "dns:///"))
@example("grpc://host:123456")
@example("grpc://host:" + "9" * 5000)
@example("http://host:65535")
@example("grpc://:8001")
def test_url_for_survives_any_text(url):
    """The three addresses follow from any URL, or it is refused."""
    for kind in ("grpc", "http", "metrics"):
        try:
            found = Options(url=url).url_for(kind)
        except UsageError:
            continue
        assert re.match(r"(grpc|http)s?://.", found)


def test_options_travel_to_workers():
    """There and back."""
    options = resolve({"rate": "5", "images": "images", "slo": "p50<=1s"}, {})
    assert Options.from_dict(options.to_dict()) == options


@pytest.mark.parametrize("arguments", [["run"], ["run", "--rate", "x"], ["run", "--nonsense"], []])
def test_main_with_wrong_usage_exits_with_64(arguments, capsys):
    """2 means INVALID."""
    try:
        code = main(arguments)
    except SystemExit as exc:
        code = exc.code
    assert code == 64
    assert "resnet-loadtest" in capsys.readouterr().err
