"""``resnet-serve rollout``: a new version of a network comes into service without a failed request, or not at all.

Requests that name no version get the highest version that is loaded, also through ensembles. So the new version is
first loaded under another name, where it gets no other requests, and compared with the version in service
(:mod:`comparison`); only then is it loaded in its place (:mod:`rollout`). The version directories in the repository
are kept such that a restart serves the same (:mod:`network`). :mod:`cli` is the command line.
"""
