"""Very many photos into a Parquet file: a run that may be killed at any time and goes on where it was.

::

    sources ──_listing──▶ units ──_reading──▶ photos ──_work, _asking──▶ parts ──_store──▶ results.parquet
                         (noted on disk)                                 (one file each, written whole or not at all)

A unit is what is read from beginning to end: a thousand files, a tar shard, a row group. Its photos have a fixed
order, so that a part is named by its unit and its place in it, and a run knows from the names of the files
that are there what is left to do. The engines differ only in where ``_work`` runs.

Needs the extra ``bulk`` (pyarrow, fsspec), and ``ray`` for the engine of that name; nothing outside imports it early.
"""
