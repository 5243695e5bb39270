"""The accuracy of the variants on labelled images, as ``resnet-client evaluate`` measures it."""

from __future__ import annotations

from resnet_client import Client
from resnet_client.evaluate import class_names, evaluate, read_samples
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

from benchmarks import ROOT
from benchmarks.repository import Repository
from benchmarks.results import Record, progress

FOLDER = ROOT.parent / "shared/imagenet-sample"
"""Images with a ``labels.csv``, which are not part of the project."""


def run(repository: Repository) -> list[Record]:
    """Top-1 of each variant, and how often it is that of the FP32 network: shares from 0 to 1.

    Returns:
        One record for each variant, or none if there are no images.
    """
    if not FOLDER.exists():
        return []
    models = {repository.ensemble(variant): variant for variant in repository.variants}
    with TritonServer(ServerConfig(repository.path, ALL_MODELS, port=0)) as server, Client(server.grpc_url) as client:
        first = next(iter(models))
        samples = read_samples(FOLDER, FOLDER / "labels.csv", class_names(client, first))
        found = evaluate(client, samples, [*models], max_in_flight=16)
    same = {first: 1.0} | {each.second: each.agreement for each in found.comparisons if each.first == first}
    records = []
    for report in found.reports:
        measured = {"images": report.images, "top1": report.top1, "same": same[report.model]}
        records.append({"variant": models[report.model], **measured})
        progress("accuracy", {"variant": models[report.model]}, measured)
    return records
