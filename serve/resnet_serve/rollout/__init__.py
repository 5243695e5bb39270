"""``resnet-serve rollout``: a new version of a network comes into service without a failed request, or not at all.

Requests that name no version get the highest that is loaded, ensembles included. So the new version is first
loaded under a name of its own, where nobody calls it (:mod:`control`), asked the same pictures as the one in
service (:mod:`golden`, :mod:`comparison`), and only then loaded in its place (:mod:`procedure`); what lies in
the repository is kept such that a restart serves the same (:mod:`folders`). :mod:`command` is the command line.

Unlike the rest of ``resnet_serve``, this needs the client, which every install has.
"""

from resnet_serve.rollout.command import main

__all__ = ["main"]
