"""What tar archives hold besides image files: links, other archives, and members that are not files."""

import os
import tarfile

import pytest
from resnet_client.cli.exit_codes import ExitCode

from .conftest import write_tar

NOT_A_FILE = "it is a link to {}, which is not in the archive"
LINKS = [
    # name, type, target, index or error
    ("hard.jpg", tarfile.LNKTYPE, "./folder/0001.jpg", 1),
    ("soft.jpg", tarfile.SYMTYPE, "folder/0002.jpg", 2),
    ("folder/up.jpg", tarfile.SYMTYPE, "../folder/0002.jpg", 2),
    ("chain.jpg", tarfile.SYMTYPE, "soft.jpg", 2),
    ("renamed.jpg", tarfile.SYMTYPE, "folder/0001.cls", ord("7")),
    ("gone.jpg", tarfile.SYMTYPE, "nowhere.jpg", NOT_A_FILE.format("nowhere.jpg")),
    ("circle.jpg", tarfile.SYMTYPE, "circle.jpg", NOT_A_FILE.format("circle.jpg")),
    ("pipe.jpg", tarfile.FIFOTYPE, "", "it is not a file"),
]


def with_links(path, mode="w"):
    """An archive whose links come before and after what they lead to."""
    write_tar(path.with_name("images.tar"), (1, 2))
    with tarfile.open(path, mode) as archive, tarfile.open(path.with_name("images.tar")) as images:
        for position, (name, kind, target, _) in enumerate(LINKS):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
            if position == 1:
                for image in images:
                    image.name = f"./folder/{image.name}"
                    archive.addfile(image, images.extractfile(image))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("cut", [0, 1030])
def test_archives_may_contain_links(bulk, tmp_path, mode, cut):
    """A row for each, with the result of the image that it leads to, even if the archive is damaged."""
    path = tmp_path / "a.tar"
    with_links(path, mode)
    if cut and mode == "w":
        path.write_bytes(path.read_bytes().rstrip(b"\0")[:-cut])
    rows = bulk("a.tar", "--part-size", 3, code=ExitCode.SOME_FAILED).to_pylist()
    found = {
        row["image"].removeprefix("a.tar/"): row["index"] if row["error"] is None else row["error"] for row in rows
    }
    expected = {"./folder/0001.jpg": 1, "./folder/0002.jpg": 2} | {name: result for name, *_, result in LINKS}
    if cut and mode == "w":
        assert "damaged" in found.pop("a.tar")
        expected = {name: expected[name] for name in found}
        assert len(expected) > len(LINKS) - 2
    assert found == expected
    assert len(rows) - bool(cut and mode == "w") == len(expected)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("lead", [b"", b"\0" * 512 * 7])
def test_archives_may_be_concatenated(bulk, tmp_path, suffix, lead):
    """Compressed ones, too: parallel compressors write several streams."""
    mode = f"w:{suffix.removeprefix('tar').removeprefix('.')}"
    parts = [write_tar(tmp_path / f"{first}.{suffix}", range(first, first + 3), mode) for first in (1, 4, 7)]
    whole = b"".join(path.read_bytes() + (lead if suffix == "tar" else b"") for path in parts)
    (tmp_path / f"whole.{suffix}").write_bytes(whole)
    assert bulk(f"whole.{suffix}", "--part-size", 4)["index"].to_pylist() == list(range(1, 10))


def test_archives_that_end_early_are_damaged(bulk, tmp_path):
    """Even if the cut is between two members; an empty file has no end either."""
    whole = write_tar(tmp_path / "whole.tar", range(1, 9)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 5 * 2048])
    (tmp_path / "empty.tar").touch()
    rows = bulk("cut.tar", "empty.tar", code=ExitCode.SOME_FAILED)
    assert rows["index"].to_pylist() == [1, 2, 3, 4, 5, None, None]
    assert rows["image"].to_pylist()[5:] == ["cut.tar", "empty.tar"]


def test_archives_that_cannot_be_opened_have_a_row(bulk, tmp_path):
    """They do not end the run."""
    (tmp_path / "gone.tar").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.tar")
    write_tar(tmp_path / "there.tar", (1, 2))
    rows = bulk("*.tar", code=ExitCode.SOME_FAILED)
    assert rows["error"].to_pylist() == [
        "gone.tar: there is no such file",
        "pipe.tar: this is a pipe, a socket or a device, not a file",
        None,
        None,
    ]
