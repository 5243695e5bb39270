"""What a run has done, as files: each appears whole or not at all, so that nothing has to be repaired.

The folder of parts holds ``_settings.json``, ``_inventory.jsonl`` (one unit per line, written before the first
photo is asked for) and the parts. Their names say all: ``part-000012-0003.parquet`` is the fourth of unit 12,
``part-000012-0004-end.parquet`` its last. Readers of data sets pass over names that begin with ``_``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from resnet_client._bulk._parts import Part
from resnet_client._bulk._units import Task, Unit
from resnet_client.errors import ConfigurationError

METADATA_KEY = b"resnet_bulk"
_PART = re.compile(r"part-(\d{6,})-(\d{4,})(-end)?\.parquet")
_MERGED_ROWS = 65_536
_MERGED_BYTES = 64 * 2**20


class Store:
    """The files of one run.

    Args:
        output: a file that ends in ``.parquet``, or a folder that the parts stay in.
        settings: whatever must not change between the starts of a run.
    """

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self.output = output
        self.is_file = output.suffix == ".parquet"
        self.folder = output.with_name(f"{output.name}.parts") if self.is_file else output
        self._inventory = self.folder / "_inventory.jsonl"
        self._settings_file = self.folder / "_settings.json"
        self._settings = settings
        self._begins_anew = False

    @contextlib.contextmanager
    def held(self, *, restart: bool) -> Iterator[None]:
        """Have the folder alone, with the settings of this run. What fails before there is an inventory leaves nothing.

        Raises:
            ConfigurationError: another run has it, or it is the folder of a run with other settings.
        """
        if not self.output.parent.is_dir():
            raise ConfigurationError(f"{self.output} cannot be written: there is no folder {self.output.parent}")
        if not self.is_file and self.output.is_file():
            raise ConfigurationError(f"{self.output} is a file; name a folder, or a file that ends in .parquet")
        is_new = not self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "_lock").open("w") as lock:
            _lock(lock, self.folder)
            try:
                self._begins_anew = restart
                self._settle()
                yield
            except Exception:
                self._leave_nothing(is_new=is_new)
                raise

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to do."""
        if self._begins_anew:
            return False
        return self.output.exists() if self.is_file else (self.folder / "_SUCCESS").exists()

    def note_units(self, units: Iterable[Unit]) -> None:
        """Write the inventory and what it was taken for, unless an earlier start has done so."""
        if self._has_begun:
            return
        with _appearing(self._inventory) as file:
            for unit in units:
                file.write(f"{unit.to_json()}\n".encode())
            if self._begins_anew:  # not before there is something to begin with
                self._clear()
                self._begins_anew = False
            with _appearing(self._settings_file) as settings:  # without an inventory they bind nobody
                settings.write(json.dumps(self._settings, indent=2).encode())

    def tasks(self) -> Iterator[Task]:
        """What is left of each unit, in order; units that are done are left out."""
        done = self._done()
        with self._inventory.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                parts, is_ended = done.get(number, (0, False))
                if not is_ended:
                    yield Task(number, Unit.from_json(line), parts, parts * self._settings["part_size"])

    def total(self) -> int | None:
        """Photos of all units; None if that is not known before they are read."""
        total = 0
        with self._inventory.open(encoding="utf-8") as lines:
            for line in lines:
                if (count := Unit.from_json(line).count) is None:
                    return None
                total += count
        return total

    def write(self, part: Part) -> None:
        """Write a part; a part written before is the same, and replaced."""
        import pyarrow.parquet as pq

        end = "-end" if part.is_last else ""
        with _appearing(self.folder / f"part-{part.unit:06d}-{part.number:04d}{end}.parquet") as file:
            pq.write_table(part.table, file, compression="zstd")

    def counted(self) -> tuple[int, int]:
        """Rows written so far, and how many of them hold an error."""
        import pyarrow.parquet as pq

        rows = failed = 0
        for path in [self.output] if self.is_file and self.output.exists() else self._parts():
            errors = pq.read_table(path, columns=["error"])["error"]
            rows, failed = rows + len(errors), failed + len(errors) - errors.null_count
        return rows, failed

    def finish(self, schema: Any) -> None:
        """Merge the parts into the output, if it is a file; each row once, in the order of the sources."""
        if not self.is_file:
            with _appearing(self.folder / "_SUCCESS"):
                return
        import pyarrow.parquet as pq

        described = schema.with_metadata({METADATA_KEY: json.dumps(self._settings)})
        with _appearing(self.output) as file, pq.ParquetWriter(file, described, compression="zstd") as writer:
            for table in self._row_groups(described):
                writer.write_table(table, row_group_size=_MERGED_ROWS)

    def discard_parts(self) -> None:
        """Remove the folder of parts, after they were merged."""
        if self.is_file:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _row_groups(self, schema: Any) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kept: list[Any] = []
        for path in self._parts():
            kept.append(pq.read_table(path, schema=schema))
            if sum(map(len, kept)) >= _MERGED_ROWS or sum(table.nbytes for table in kept) >= _MERGED_BYTES:
                yield pa.concat_tables(kept)
                kept.clear()
        if kept:
            yield pa.concat_tables(kept)

    def _parts(self) -> list[Path]:
        numbered = ((_PART.fullmatch(path.name), path) for path in self.folder.iterdir())
        found = [(int(match[1]), int(match[2]), path) for match, path in numbered if match]
        return [path for *_, path in sorted(found)]

    def _done(self) -> dict[int, tuple[int, bool]]:
        """Unit → how many parts of it are there, without a gap before them, and whether it has ended."""
        done: dict[int, tuple[int, bool]] = {}
        for path in self._parts():
            unit, number, end = _PART.fullmatch(path.name).groups()  # type: ignore[union-attr]  # _parts matched it
            parts, _ = done.get(int(unit), (0, False))
            if int(number) == parts:
                done[int(unit)] = parts + 1, bool(end)
        return done

    @property
    def _has_begun(self) -> bool:
        """Whether there is an inventory; before, nothing was asked, and a start with other settings is free to come."""
        return self._inventory.exists() and not self._begins_anew

    def _leave_nothing(self, *, is_new: bool) -> None:
        if self._has_begun:
            return
        (self.folder / "_lock").unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):  # somebody else has put something there
                self.folder.rmdir()

    def _settle(self) -> None:
        """Refuse a folder that is not ours, or that a run with other settings has begun."""
        written = self._written() if self.is_file and self.output.exists() else None
        if written is None and self._has_begun:
            written = json.loads(self._settings_file.read_text(encoding="utf-8"))
        if written is None or self._begins_anew:
            if unknown := [path.name for path in self.folder.iterdir() if not self._is_known(path.name)]:
                raise ConfigurationError(f"{self.folder} holds something else ({unknown[0]}); name another output")
        elif different := [name for name in self._settings if written.get(name) != self._settings[name]]:
            shown = ", ".join(f"{name} was {written.get(name)!r}, is {self._settings[name]!r}" for name in different)
            raise ConfigurationError(
                f"{self.output} belongs to another run ({shown}); name another output, or begin anew with --restart"
            )

    def _is_known(self, name: str) -> bool:
        return name.startswith("_") or (self._begins_anew and _PART.fullmatch(name) is not None)

    def _written(self) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(self.output).metadata or {}
            settings: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        except (pa.ArrowInvalid, KeyError, ValueError) as exc:
            raise ConfigurationError(f"{self.output} exists and is not ours; name another output") from exc
        return settings

    def _clear(self) -> None:
        if self.is_file:
            self.output.unlink(missing_ok=True)
        self._inventory.unlink(missing_ok=True)  # first: a run that is killed here has not begun
        for path in self.folder.iterdir():
            if _PART.fullmatch(path.name) or path.name in ("_SUCCESS", "_settings.json"):
                path.unlink()


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there when it is complete; what a killed run leaves half written is written over."""
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


def _lock(file: IO[str], folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows; two runs at once are then the caller's care
        return
    flock: Callable[[int, int], None] = fcntl.flock
    try:
        flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise ConfigurationError(f"{folder} is in use by another run") from exc
