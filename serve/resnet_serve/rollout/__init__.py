"""``resnet-serve rollout``: switches to a new version of a network without failed requests, or refuses the version.

Requests without a version get the highest version that is loaded, also through ensembles. So the command first loads
the new version under another name and compares it with the version in service (:mod:`comparison`). Then it loads it in
its place (:mod:`rollout`). It renames version directories in the repository so that a restart serves the same version
(:mod:`versions`). :mod:`cli` is the command line.
"""
