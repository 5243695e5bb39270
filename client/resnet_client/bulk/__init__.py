"""Bulk runs: classify or embed millions of images into Parquet; an interrupted run resumes where it stopped.

::

    sources ──sources.py──▶ units ──images.py──▶ images ──parts.py──▶ parts ──resume.py──▶ results.parquet
                           (inventory)                              (one file each)

A unit is a list of image files, a tar archive or a row group of a Parquet file. Its images have a fixed order, so the
number of finished parts of a unit shows how many of its images are done. ``run.py`` puts the steps together;
``ray_engine.py`` runs ``parts.py`` on a Ray cluster.

The extra ``bulk`` installs pyarrow, fsspec and filelock; the extra ``ray`` the Ray engine.
"""
