"""The one list of options."""

import argparse
import dataclasses

import pytest
from resnet_loadtest.__main__ import main
from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import AUTO_RATE, Options, add_to, resolve, variable
from resnet_loadtest.workloads import addresses, parse_mix


def test_argument_before_environment_before_default():
    """One rule for all."""
    environment = {"RESNET_LOADTEST_PROFILE": "ramp", "RESNET_LOADTEST_SEED": "7", "RESNET_URL": "http://host:1"}
    options = resolve({"profile": "soak", "seed": None}, environment)
    assert (options.profile, options.seed, options.url, options.arrivals) == ("soak", 7, "http://host:1", "poisson")


def test_every_field_is_a_flag_with_its_variable():
    """Nothing is written twice, nothing is missing."""
    parser = argparse.ArgumentParser()
    add_to(parser)
    flags = {action.dest: action.help for action in parser._actions if action.dest != "help"}
    assert set(flags) == {field.name for field in dataclasses.fields(Options)}
    assert all(variable(name) in text for name, text in flags.items())


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("ClassifyGrpc", {"ClassifyGrpc": 1}),
        ("Mixed=2, EmbedHttp=3", {"ClassifyGrpc": 2, "ClassifyHttp": 2, "EmbedHttp": 3}),
        ("Mixed,ClassifyGrpc", {"ClassifyGrpc": 2, "ClassifyHttp": 1}),
    ],
)
def test_a_mix_has_weights(text, mix):
    """Mixed is both protocols."""
    assert parse_mix(text) == mix


@pytest.mark.parametrize("text", ["", "Nobody", "ClassifyGrpc=0", "ClassifyGrpc=x", "Mixed=-1"])
def test_parse_mix_refuses_unknown_users(text):
    """The message lists the users."""
    with pytest.raises(UsageError, match="expected ClassifyGrpc"):
        parse_mix(text)


def test_times_and_rates_have_units():
    """As people write them."""
    options = resolve({"rate": "20/s", "duration_s": "2m"}, {})
    assert (options.rate, options.duration_s) == (20.0, 120.0)
    assert resolve({"rate": "auto"}, {}).rate == AUTO_RATE


def test_workers_are_counted_by_a_name():
    """One for each address: in compose, each container of the scaled service has one."""
    assert resolve({"expect_workers": "3"}, {}).expect_workers == 3
    assert resolve({"expect_workers": "dns:127.0.0.1"}, {}).expect_workers == 1


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


@pytest.mark.parametrize(
    ("url", "grpc", "http", "metrics"),
    [
        ("grpc://a:8001", "grpc://a:8001", "http://a:8000", "http://a:8002/metrics"),
        ("http://a:9000", "grpc://a:9001", "http://a:9000", "http://a:9002/metrics"),
        ("grpcs://a", "grpcs://a", "https://a:8000", "http://a:8002/metrics"),
    ],
)
def test_the_other_addresses_follow_from_one(url, grpc, http, metrics):
    """Triton's three ports lie side by side."""
    options = Options(url=url)
    assert [options.url_for(kind) for kind in ("grpc", "http", "metrics")] == [grpc, http, metrics]


@pytest.mark.parametrize(
    ("mix", "url", "shown"),
    [
        ("ClassifyGrpc", "grpc://a:8001", "grpc://a:8001"),
        ("BatchHttp", "grpc://a:8001", "http://a:8000"),
        ("ClassifyGrpc=3,EmbedGrpc", "http://a:8000", "grpc://a:8001"),
        ("Mixed", "http://a:8000", "grpc://a:8001 and http://a:8000"),
    ],
)
def test_addresses_are_those_of_the_mix(mix, url, shown):
    """Not the one given, if its protocol is not used."""
    assert addresses(Options(url=url, mix=mix)) == shown


def test_options_travel_to_workers():
    """There and back."""
    options = resolve({"rate": "5", "images": "photos", "slo": "p50<=1s"}, {})
    assert Options.from_dict(options.to_dict()) == options


@pytest.mark.parametrize(
    ("arguments", "code"), [(["run"], 64), (["run", "--rate", "x"], 64), (["run", "--nonsense"], 64), ([], 64)]
)
def test_wrong_usage_is_no_verdict(arguments, code, capsys):
    """64, because 2 means INVALID."""
    try:
        found = main(arguments)
    except SystemExit as exc:
        found = exc.code
    assert found == code
    assert "resnet-loadtest" in capsys.readouterr().err
