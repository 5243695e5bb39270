"""What is refused before it is decoded, and how images wait for room in memory."""

import threading

import pytest
from corpus.writers import encoded, jpeg_of_scans
from PIL import Image
from resnet_client.preprocessing import InvalidImageError, Limits, decode
from resnet_client.preprocessing.limits import Room


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_bytes=100), "has [0-9]+ bytes, more than the 100 allowed.*--max-image-bytes"),
        (Limits(max_pixels=1000), "200x100 = 20000 pixels, more than the 1000 allowed.*--max-image-pixels"),
        (Limits(max_frames=1), "has 2 frames, more than the 1 allowed.*--max-image-frames"),
    ],
)
def test_decode_refuses_what_is_above_a_limit(limits, message):
    """The message has what was found, the limit and the remedy."""
    second = Image.new("RGB", (200, 100), "white")
    animation = encoded(Image.new("RGB", (200, 100)), "GIF", save_all=True, append_images=[second])
    assert decode(animation).size == (200, 100)
    with pytest.raises(InvalidImageError, match=message):
        decode(animation, limits)


def test_decode_counts_scans_of_the_image_only():
    """Markers behind the end are no scans; 50 scans pass, 51 do not."""
    assert decode(jpeg_of_scans(64, 50) + b"\xff\xda" * 100).size == (64, 64)
    with pytest.raises(InvalidImageError, match="51 scans, more than the 50 allowed"):
        decode(jpeg_of_scans(64, 51))


def test_limits_are_written_as_parameters_of_a_model():
    """Older configurations have the defaults."""
    limits = Limits(max_bytes=1, max_pixels=2, max_frames=3)
    assert limits.to_parameters() == {"max_image_bytes": "1", "max_image_pixels": "2", "max_image_frames": "3"}
    assert Limits.from_parameters({**limits.to_parameters(), "preprocessing": "{}"}) == limits
    assert Limits.from_parameters({}) == Limits()


@pytest.mark.parametrize("value", ["many", "", "0", "-1"])
def test_limits_refuse_a_damaged_parameter(value):
    """It is an error, not a lack of limits."""
    with pytest.raises(ValueError, match=r"."):
        Limits.from_parameters({"max_image_pixels": value})


class LookedAt:
    """Limits of 100 pixels that know when they are looked at."""

    def __init__(self):
        self.looked = threading.Event()

    @property
    def max_pixels(self):
        self.looked.set()
        return 100


def test_room_is_taken_in_order():
    """Small images share the room; a large one waits for them, and what comes later waits behind it."""
    room, order = Room(), []

    def take(name, pixels, limits):
        def run():
            with room.take(pixels, limits):
                order.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with room.take(60, LookedAt()), room.take(40, LookedAt()):
        large = take("large", 100, limits := LookedAt())
        assert limits.looked.wait(10)  # it is the first in line
        small = take("small", 1, LookedAt())
        assert not order
    for thread in (large, small):
        thread.join(10)
    assert order == ["large", "small"]
    with room.take(1_000, LookedAt()):  # alone, whatever its size: limits refuse elsewhere
        pass
