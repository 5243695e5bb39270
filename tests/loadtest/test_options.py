"""The one list of options."""

import argparse
import dataclasses
import re

import pytest
from resnet_loadtest.__main__ import main
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import AUTO_RATE, Options, add_to, resolve, variable

FIELDS = [field.name for field in dataclasses.fields(Options)]


def test_resolve_prefers_argument_to_environment_to_default():
    """One rule for all."""
    environment = {"RESNET_LOADTEST_PROFILE": "ramp", "RESNET_LOADTEST_SEED": "7", "RESNET_URL": "http://host:1"}
    options = resolve({"profile": "soak", "seed": None}, environment)
    assert (options.profile, options.seed, options.url, options.arrivals) == ("soak", 7, "http://host:1", "poisson")
    assert resolve(options.to_dict(), {}) == options  # the way to the workers


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
        ("expect_workers", "dns:a..b", "a whole number, or dns:NAME"),
        ("rate", "-1", "requests per second (20/s) or auto"),
        ("rate", "fast", "requests per second (20/s) or auto"),
        ("duration_s", "0", "a duration (90s or 10m)"),
        ("profile", "wave", "steady, ramp, steps, spike or soak"),
        ("users", "0", "a whole number, 1 or more"),
        ("duration_s", "9" * 400, "a duration (90s or 10m)"),
        ("spawn_rate", "nan", "a number above 0"),
        ("warm_up_s", "-1", "seconds, 0 or more"),
        ("seed", "9" * 5000, "a whole number, 0 or more"),
    ],
)
def test_resolve_reads_values_or_names_source_and_expectation(name, text, value):
    """With units; the source is flag or variable, whichever the value came from."""
    flag = "--duration" if name == "duration_s" else f"--{name.replace('_', '-')}"
    for source, arguments in ((flag, ({name: text}, {})), (variable(name), ({}, {variable(name): text}))):
        if isinstance(value, str):
            with pytest.raises(UsageError, match=re.escape(f"invalid {source} '{text}': expected {value}")):
                resolve(*arguments)
        else:
            assert getattr(resolve(*arguments), name) == value


@pytest.mark.parametrize(
    ("url", "grpc", "http", "metrics"),
    [
        ("grpc://a:8001", "grpc://a:8001", "http://a:8000", "http://a:8002/metrics"),
        ("http://a:9000", "grpc://a:9001", "http://a:9000", "http://a:9002/metrics"),
        ("grpcs://a", "grpcs://a", "https://a:8000", "http://a:8002/metrics"),
        ("grpc://[::1]:8001", "grpc://[::1]:8001", "http://[::1]:8000", "http://[::1]:8002/metrics"),
    ],
)
def test_url_for_derives_the_other_addresses_from_one(url, grpc, http, metrics):
    """Triton's three ports lie side by side."""
    options = Options(url=url)
    assert [options.url_for(kind) for kind in ("grpc", "http", "metrics")] == [grpc, http, metrics]


@pytest.mark.parametrize("url", ["nonsense", "grpc://:8001", "grpc://host:123456", "http://host:65535"])
def test_url_for_refuses_what_gives_no_address(url):
    """An invalid URL, and one without a port after its own."""
    with pytest.raises(UsageError, match=r"invalid server URL|no default for --grpc-url: 65536"):
        Options(url=url).url_for("grpc" if url.startswith("http") else "http")


@pytest.mark.parametrize("arguments", [["run"], ["run", "--rate", "x"], ["find-slo", "--repeats", "0"], []])
def test_main_with_wrong_usage_exits_with_64(arguments, capsys):
    """2 means INVALID."""
    try:
        code = main(arguments)
    except SystemExit as exc:
        code = exc.code
    assert code == 64
    assert "resnet-loadtest" in capsys.readouterr().err
