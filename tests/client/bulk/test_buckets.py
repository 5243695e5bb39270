"""Object stores: what ends a run, what gives a row with an error, and that neither takes long."""

import contextlib
import time

import pytest
import requests
from resnet_client.cli.exit_codes import ExitCode
from s3fs import S3FileSystem

from .conftest import write_parquet

COUNT = 3


@pytest.fixture
def filled(bucket):
    """Images in a bucket."""
    for number in range(COUNT):
        S3FileSystem().pipe_file(f"{bucket}/images/{number}.jpg", bytes([number]))
    return f"{bucket}/images"


@pytest.fixture
def refused(s3_server, filled):
    """The bucket when its requests need credentials that are valid."""
    requests.post(f"{s3_server}/moto-api/reset-auth", data="0", timeout=60)
    yield filled
    requests.post(f"{s3_server}/moto-api/reset-auth", data="inf", timeout=60)


UNREACHABLE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
WITHOUT_CREDENTIALS = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
WITHOUT_CREDENTIALS["AWS_SHARED_CREDENTIALS_FILE"] = "/nowhere"


@contextlib.contextmanager
def environment(variables):
    """New connections in this block, which see these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{}/nowhere", "cannot be listed: there is no such file or folder"),
        ("{}/nowhere.jpg", "cannot be listed: there is no such file or folder"),
        ("{}/nowhere.tar", "cannot be listed: there is no such file or folder"),
        ("{}/nowhere*.jpg", ": found no image"),
        ("{}/**.jpg", "cannot be listed: Invalid pattern: '**' can only be an entire path component"),
        ("im**.jpg", "cannot be listed: Invalid pattern: '**' can only be an entire path component"),
        ("s3://nobucket/images", "cannot be listed: The specified bucket does not exist"),
        ("s4://bucket/images", "cannot be opened: Protocol not known: s4"),
        ("zip://*.jpg::{}/nowhere.zip", "cannot be opened: "),
        ("zip://*.jpg::{}/0.jpg", "cannot be opened: "),
        ("http://127.0.0.1:1/0.jpg", "cannot be listed: "),
    ],
)
def test_buckets_that_are_invalid_end_the_run(bulk, filled, capsys, source, reason):
    """With one message that names the source."""
    source = source.format(filled)
    bulk(source, code=ExitCode.NOT_READY if source.startswith("http") else ExitCode.USAGE)
    message = capsys.readouterr().err
    assert source.rpartition("::")[2] in message
    assert reason in message
    assert message.count("\n") == 1


def test_buckets_that_refuse_end_the_run(bulk, refused, capsys):
    """The answer of the store is in the message."""
    bulk(refused, code=ExitCode.USAGE)
    assert capsys.readouterr().err.startswith(f"resnet-client: {refused} cannot be listed: ")


@pytest.mark.parametrize("source", ["{}", "{}/*.jpg", "{}/0.jpg", "zip://::{}/a.zip"])
@pytest.mark.parametrize(
    ("variables", "reason", "code"),
    [
        (UNREACHABLE, "Could not connect to the endpoint", ExitCode.NOT_READY),
        (WITHOUT_CREDENTIALS, "Unable to locate credentials", ExitCode.USAGE),
    ],
)
def test_buckets_that_do_not_answer_end_the_run(bulk, filled, capsys, source, variables, reason, code):  # noqa: PLR0917
    source = source.format(filled)
    with environment(variables):
        bulk(source, code=code)
    message = capsys.readouterr().err
    assert message.startswith(f"resnet-client: {source} cannot be ")
    assert reason in message
    assert message.count("\n") == 1


def test_buckets_may_contain_empty_objects(bulk, filled):
    """They have the same error as an empty file, and the marker of a folder has no row."""
    S3FileSystem().pipe_file(f"{filled}/empty.jpg", b"")
    S3FileSystem().pipe_file(f"{filled}/folder/", b"")
    S3FileSystem().pipe_file(f"{filled}/folder//image.jpg", b"\7")
    rows = bulk(filled, code=ExitCode.SOME_FAILED).to_pylist()
    assert [row["index"] for row in rows] == [*range(COUNT), None, 7]
    assert rows[COUNT]["error"] == "the image is empty (0 bytes)"


def test_buckets_give_each_refused_object_a_row_at_once(bulk, tmp_path, refused):
    """Nothing that would fail again is tried again."""
    write_parquet(tmp_path / "in.parquet", [f"{refused}/{number}.jpg" for number in range(COUNT)] * 15)
    started_s = time.monotonic()
    rows = bulk("in.parquet", "--column", "image", "--max-in-flight", 1, code=ExitCode.SOME_FAILED)
    assert all("cannot be read: " in error for error in rows["error"].to_pylist())
    assert time.monotonic() - started_s < 10


def test_buckets_that_stop_answering_leave_no_rows(bulk, tmp_path, filled, capsys):
    """The run ends and can be resumed, as when servers are unavailable."""
    write_parquet(tmp_path / "in.parquet", [f"{filled}/{number}.jpg" for number in range(COUNT)])
    with environment(UNREACHABLE):
        arguments = ["in.parquet", "--column", "image", "--unavailable-timeout-s", 0]
        bulk(*arguments, code=ExitCode.NOT_READY)
        assert f"{filled}/0.jpg cannot be read: Could not connect" in capsys.readouterr().err
    assert bulk("in.parquet", "--column", "image")["index"].to_pylist() == list(range(COUNT))
