"""The Triton of known behaviour of ``stub_server.py`` over gRPC; run as a program it prints its port."""

from __future__ import annotations

import asyncio
import sys

import grpc
from google.protobuf.json_format import ParseDict
from stub_server import CLASS, MODEL, RECIPE, TIMER_S, Behaviour, parser
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """What the client and the load test ask for, and no more."""

    def __init__(self, behaviour):
        self._behaviour = behaviour

    async def ModelInfer(self, request, context):  # noqa: N802  # the service's names
        """One class, when its time is due."""
        loop = asyncio.get_running_loop()
        delay_s, fails = self._behaviour.admit(loop.time())
        due_s = loop.time() + delay_s
        await asyncio.sleep(max(0.0, delay_s - TIMER_S))
        while loop.time() < due_s:
            pass
        self._behaviour.count(delay_s, fails=fails)
        if fails:
            await context.abort(grpc.StatusCode.INTERNAL, "failed on purpose")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        answer.outputs.add(name="PROBABILITIES__0", datatype="BYTES", shape=[1, 1])
        answer.raw_output_contents.append(CLASS)
        return answer

    async def ModelStatistics(self, _, __):  # noqa: N802
        """The exact counts."""
        return ParseDict(self._behaviour.statistics(), service_pb2.ModelStatisticsResponse())

    async def ModelConfig(self, _, __):  # noqa: N802
        """With the recipe."""
        answer = service_pb2.ModelConfigResponse()
        answer.config.name, answer.config.max_batch_size = MODEL, 8
        answer.config.parameters["recipe"].string_value = RECIPE
        return answer

    async def ModelMetadata(self, _, __):  # noqa: N802
        """A name and a version."""
        return service_pb2.ModelMetadataResponse(name=MODEL, versions=["1"], platform="stub")

    async def ServerMetadata(self, _, __):  # noqa: N802
        """A name."""
        return service_pb2.ServerMetadataResponse(name="stub", version="1")


async def serve(options):
    """Serve until the process is ended."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(Behaviour(options)), server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
