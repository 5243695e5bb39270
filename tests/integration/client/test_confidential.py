"""Neither photos nor tokens get into logs, errors or representations, however talkative all libraries are."""

import io
import logging
import traceback

import pytest
from PIL import Image
from resnet_client import ClientConfig, ResnetClientError

# Long enough that no part of it of twelve characters occurs by chance.
PHOTOGRAPHED = "tAtt00-0f-a-b1ue-heron-0n-the-1eft-arm"
ADMINISTRATOR = "0nly-4dministrators-kn0w-th1s-0ne"
SHORTEST = 12


def parts(secret):
    """All that must not be seen of a secret."""
    return [secret[start : start + SHORTEST] for start in range(len(secret) - SHORTEST + 1)]


def picture(form):
    """A photo that holds the secret in its metadata and in its pixels."""
    image = Image.frombytes("L", (len(PHOTOGRAPHED), 32), PHOTOGRAPHED.encode() * 32).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, form, **({"comment": PHOTOGRAPHED.encode(), "quality": 100} if form == "JPEG" else {}))
    return buffer.getvalue()


PHOTOS = {
    "good": picture("JPEG"),
    "plain pixels": picture("PPM"),
    "truncated": picture("JPEG")[:-40],
    "a text": PHOTOGRAPHED.encode(),
    "a header that lies": b"P6\n" + PHOTOGRAPHED.encode() + b" 4\n255\n" + PHOTOGRAPHED.encode(),
    "a damaged PNG": picture("PNG")[:40] + PHOTOGRAPHED.encode() + picture("PNG")[40:],
    "a GIF with a comment": b"GIF89a\x02\x00\x02\x00\x00\x00\x00!\xfe"
    + bytes([len(PHOTOGRAPHED)])
    + PHOTOGRAPHED.encode(),
}


@pytest.fixture
def told(caplog):
    """Collect whatever is logged at any level, the records' own fields included, and what is added to it."""
    caplog.set_level(logging.DEBUG)
    more = []
    yield more
    records = [f"{record.getMessage()} {vars(record)!r}" for record in caplog.records]
    everything = "\n".join([*records, *more])
    for secret in (PHOTOGRAPHED, ADMINISTRATOR):
        assert not [part for part in parts(secret) if part in everything]


def failure(error):
    """An error in every way in which programs show errors."""
    return f"{error} {error!r} {''.join(traceback.format_exception(error))} {vars(error)!r}"


@pytest.mark.parametrize("preprocessing", ["server", "client"])
@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
def test_photos_are_not_told(connect, server, told, photo, preprocessing):
    """Good or bad, a photo's content stays out of logs and errors; so does the token."""
    client = connect(server, admin_token=ADMINISTRATOR)
    told.append(repr(client.options))
    try:
        told.append(repr(client.classify(photo, preprocessing=preprocessing)))
    except ResnetClientError as exc:
        told.append(failure(exc))
    for outcome in client.many([photo], preprocessing=preprocessing):
        told.append(repr(outcome))
        assert "photo of" in repr(outcome)


def test_tokens_are_not_told(connect, server, free_port, told):
    """A wrong token is refused, and a right one sent to nobody, without either being shown."""
    with pytest.raises(ResnetClientError) as refused:
        connect(server, admin_token=ADMINISTRATOR).statistics()
    with pytest.raises(ResnetClientError) as unreachable:
        connect(free_port, admin_token=ADMINISTRATOR, timeout_s=1, max_attempts=2).statistics()
    for caught in (refused, unreachable):
        told.append(failure(caught.value))
    with pytest.raises(ResnetClientError) as nonsense:
        ClientConfig(admin_token=f"{ADMINISTRATOR} with blanks")
    told.append(failure(nonsense.value))


def test_the_servers_log_tells_neither(connect, server, told):
    """What the server writes down while it refuses photos and strangers holds no photo and no token."""
    client = connect(server, admin_token=ADMINISTRATOR)
    outcomes = client.many(list(PHOTOS.values()))
    assert {outcome.ok for outcome in outcomes} == {True, False}
    with pytest.raises(ResnetClientError):
        client.statistics()
    log = server.log.read_text(errors="replace")
    assert log
    assert server.admin_token not in log
    told.append(log)
