"""State of a bulk run on disk, with which an interrupted run resumes: each image has exactly one row.

The folder of parts, ``results.parquet.parts`` or the output folder itself, holds

- ``_inventory.jsonl``: the settings of the run, then one unit per line; written before the first image is sent;
- ``part-000012-0003.parquet``: rows of the fourth part of unit 12; ``part-000012-0004-end.parquet``: its last part.

Each file is written to a temporary name and renamed when it is complete. So the existing files show which parts are
done, and a resumed run sends only the images of missing parts. Readers of Parquet data sets ignore names that begin
with ``_``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from resnet_client.bulk.sources import Unit
from resnet_client.errors import ConfigurationError

_METADATA_KEY = b"resnet_bulk"
_PART = re.compile(r"part-(\d{6,})-(\d{4,})(-end)?\.parquet")
_ROW_GROUP_BYTES = 64 * 2**20


def part_name(unit: int, number: int, *, is_last: bool) -> str:
    """The file name of a part."""
    return f"part-{unit:06d}-{number:04d}{'-end' if is_last else ''}.parquet"


class RunState:
    """The files of one run.

    Args:
        output: a file that ends in ``.parquet``, or a folder that keeps the parts.
        settings: must be equal when the run resumes; ready for JSON.
        restart: whether to discard an earlier run.
    """

    def __init__(self, output: Path, settings: dict[str, Any], *, restart: bool) -> None:
        self._is_file = output.suffix == ".parquet"
        self._folder = output.with_name(f"{output.name}.parts") if self._is_file else output
        self._output = output if self._is_file else output / "_SUCCESS"  # there when the run is complete
        self._inventory = self._folder / "_inventory.jsonl"
        self._settings = settings
        self._restart = restart

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out other runs during the block. A run that fails before it has written its inventory leaves no files.

        Raises:
            ConfigurationError: another run is writing this output, or it belongs to a run with other settings.
        """
        is_new = not self._folder.exists()
        self._folder.mkdir(exist_ok=True)
        lock = self._folder / "_lock"
        try:
            with filelock.FileLock(lock, blocking=False):
                try:
                    self._check_owner()
                    yield
                finally:
                    if not self._inventory.exists():
                        lock.unlink(missing_ok=True)
                        if is_new:
                            with contextlib.suppress(OSError):  # it has been removed, or is not empty
                                self._folder.rmdir()
        except filelock.Timeout as exc:
            raise ConfigurationError(f"{self._folder} is in use by another run") from exc

    @property
    def is_complete(self) -> bool:
        """Whether the run is complete."""
        return self._output.exists() and not self._restart

    def save_inventory(self, units: Iterable[Unit]) -> None:
        """Write the list of units, unless the run is resumed; images that appear later are not part of the run."""
        if self._inventory.exists() and not self._restart:
            return
        with _replacing(self._inventory) as file:
            file.write(f"{json.dumps(self._settings)}\n".encode())
            for unit in units:
                file.write(f"{json.dumps(dataclasses.asdict(unit))}\n".encode())
            for path in [
                self._output,
                *(path for *_, path in self._parts()),
            ]:  # only after all sources were listed without an error
                path.unlink(missing_ok=True)
        self._restart = False

    def remaining(self) -> Iterator[tuple[int, Unit, int]]:
        """Number of each unit that is not finished, the unit, and how many of its parts are done."""
        done: dict[int, tuple[int, bool]] = {}
        for unit_number, part_number, is_last, _ in self._parts():
            if part_number == done.get(unit_number, (0, False))[0]:
                done[unit_number] = part_number + 1, is_last
        for number, unit in enumerate(self._units()):
            parts_done, is_finished = done.get(number, (0, False))
            if not is_finished:
                yield number, unit, parts_done

    def total(self) -> int | None:
        """Number of images of the run; None if it is known only after reading."""
        counts = [unit.count for unit in self._units()]
        return None if None in counts else sum(count or 0 for count in counts)

    def rows(self) -> tuple[int, int]:
        """Number of rows written so far, and of those with an error."""
        paths = [path for *_, path in self._parts()]
        if self._is_file and self._output.exists():
            paths = [self._output]
        rows = failed = 0
        for path in paths:
            errors = pq.read_table(path, columns=["error"])["error"]
            rows, failed = rows + len(errors), failed + len(errors) - errors.null_count
        return rows, failed

    def write_part(self, name: str, content: bytes) -> None:
        """Write a part; an existing part of this name has the same rows and is replaced."""
        with _replacing(self._folder / name) as file:
            file.write(content)

    def finish(self, schema: pa.Schema) -> None:
        """Merge the parts into the output file, in the order of the sources, or mark the output folder as complete."""
        with _replacing(self._output) as file:
            if self._is_file:
                self._merge(file, schema.with_metadata({_METADATA_KEY: json.dumps(self._settings)}))

    def remove_parts(self) -> None:
        """Remove the folder of parts after they were merged."""
        if self._is_file:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check_owner(self) -> None:
        """Refuse files of other programs, and, without ``--restart``, those of a run with other settings."""
        saved = self._saved_settings()
        if saved is None or self._restart:
            for name in sorted(path.name for path in self._folder.iterdir()):
                if not (name.startswith("_") or (self._restart and _PART.fullmatch(name))):
                    raise ConfigurationError(f"{self._folder} contains other files ({name}); choose another output")
        elif names := [name for name in self._settings if saved.get(name) != self._settings[name]]:
            changes = ", ".join(f"{name}: {saved.get(name)!r} before, now {self._settings[name]!r}" for name in names)
            raise ConfigurationError(
                f"{self._output} was written with other options ({changes}); choose another output, or use --restart"
            )

    def _saved_settings(self) -> Any:
        """The settings of the run that the files belong to; None if there is no run to resume."""
        if self._is_file and self._output.exists():
            try:
                return json.loads(pq.read_schema(self._output).metadata[_METADATA_KEY])
            except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as exc:
                message = f"{self._output} exists and was not written by a bulk run; choose another output"
                raise ConfigurationError(message) from exc
        if not self._inventory.exists():
            return None
        with self._inventory.open(encoding="utf-8") as lines:
            saved = json.loads(next(lines))
        if not saved.keys() >= self._settings.keys() and not self._restart:
            raise ConfigurationError(
                f"{self._output} was written by another version of resnet-client; use --restart to discard it"
            )
        return saved

    def _units(self) -> Iterator[Unit]:
        with self._inventory.open(encoding="utf-8") as lines:
            yield from (Unit(**json.loads(line)) for line in itertools.islice(lines, 1, None))  # after the settings

    def _parts(self) -> list[tuple[int, int, bool, Path]]:
        """Unit, number, whether it is the unit's last, and path of each part, in order."""
        found = ((_PART.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted((int(match[1]), int(match[2]), bool(match[3]), path) for match, path in found if match)

    def _merge(self, file: IO[bytes], schema: pa.Schema) -> None:
        tables: list[pa.Table] = []
        size = 0
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for *_, path in self._parts():
                tables.append(pq.read_table(path, partitioning=None).cast(schema))
                size += tables[-1].nbytes
                if size >= _ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(tables))
                    tables, size = [], 0
            if tables:
                writer.write_table(pa.concat_tables(tables))


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that gets its name when it is complete and on disk."""
    partial = path.with_name(f"_{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except Exception:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
