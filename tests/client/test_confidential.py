"""Neither images nor tokens get into logs, errors or representations, at any log level of any library."""

import io
import logging
import traceback

import pytest
from PIL import Image
from resnet_client import ResnetClientError

# Long enough that no part of it of twelve characters occurs by chance.
CONTENT = "tAtt00-0f-a-b1ue-heron-0n-the-1eft-arm"
ADMINISTRATOR = "0nly-4dministrators-kn0w-th1s-0ne"
SHORTEST = 12


def parts(secret):
    """All that must not be seen of a secret."""
    return [secret[start : start + SHORTEST] for start in range(len(secret) - SHORTEST + 1)]


def image(form):
    """An image that holds the secret in its metadata and in its pixels."""
    made = Image.frombytes("L", (len(CONTENT), 32), CONTENT.encode() * 32).convert("RGB")
    buffer = io.BytesIO()
    made.save(buffer, form, **({"comment": CONTENT.encode(), "quality": 100} if form == "JPEG" else {}))
    return buffer.getvalue()


IMAGES = {
    "good": image("JPEG"),
    "plain pixels": image("PPM"),
    "truncated": image("JPEG")[:-40],
    "a text": CONTENT.encode(),
    "a header that lies": b"P6\n" + CONTENT.encode() + b" 4\n255\n" + CONTENT.encode(),
    "a damaged PNG": image("PNG")[:40] + CONTENT.encode() + image("PNG")[40:],
    "a GIF with a comment": b"GIF89a\x02\x00\x02\x00\x00\x00\x00!\xfe" + bytes([len(CONTENT)]) + CONTENT.encode(),
}


@pytest.fixture
def logged(caplog):
    """Collect whatever is logged at any level, the records' own fields included, and what is added to it."""
    caplog.set_level(logging.DEBUG)
    more = []
    yield more
    records = [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]
    everything = "\n".join([*records, *more])
    for secret in (CONTENT, ADMINISTRATOR):
        assert not [part for part in parts(secret) if part in everything]


def failure(error):
    """An error in every way in which programs show errors."""
    return f"{error} {error!r} {''.join(traceback.format_exception(error))} {vars(error)!r}"


@pytest.mark.parametrize("preprocessing", ["server", "client"])
@pytest.mark.parametrize("content", IMAGES.values(), ids=IMAGES)
def test_client_logs_no_image(connect, server, logged, content, preprocessing):
    """Valid or not, its content stays out of logs and errors; so does the token."""
    client = connect(server, admin_token=ADMINISTRATOR)
    logged.append(repr(client.options))
    try:
        logged.append(repr(client.classify(content, preprocessing=preprocessing)))
    except ResnetClientError as exc:
        logged.append(failure(exc))
    for outcome in client.many([content], preprocessing=preprocessing):
        logged.append(repr(outcome))
        assert "image of" in repr(outcome)
