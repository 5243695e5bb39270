"""The Triton of known behaviour of ``stub_server.py`` over gRPC; run as a program it prints its port."""

from __future__ import annotations

import asyncio
import sys

import grpc
from google.protobuf.json_format import ParseDict
from stub_server import CLASS, CONFIG, MODEL, Behaviour
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """What the client and the load test call, and no more."""

    def __init__(self, behaviour):
        self._behaviour = behaviour

    async def ModelInfer(self, request, context):  # noqa: N802  # the service's names
        """One class, when its time is due."""
        if await self._behaviour.answer():
            await context.abort(grpc.StatusCode.INTERNAL, "failed on purpose")
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        response.outputs.add(name="PROBABILITIES__0", datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(CLASS)
        return response

    async def ModelStatistics(self, _, __):  # noqa: N802
        """The exact counts."""
        return ParseDict(self._behaviour.statistics(), service_pb2.ModelStatisticsResponse())

    async def ModelConfig(self, _, __):  # noqa: N802
        """With the preprocessing config."""
        return ParseDict({"config": CONFIG}, service_pb2.ModelConfigResponse())

    async def ModelMetadata(self, _, __):  # noqa: N802
        """A name and a version."""
        return service_pb2.ModelMetadataResponse(name=MODEL, versions=["1"], platform="stub")

    async def ServerMetadata(self, _, __):  # noqa: N802
        """A name."""
        return service_pb2.ServerMetadataResponse(name="stub", version="1")


async def serve():
    """Serve until the process is ended."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(Behaviour()), server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
