"""What a call costs over a bare tritonclient: processor time of this process, against servers that only answer."""

import subprocess
import sys
import time
from concurrent import futures
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from resnet_client import Client
from tritonclient.grpc import service_pb2, service_pb2_grpc

STUB = Path(__file__).parents[2] / "loadtest/stub_server.py"
PHOTO = bytes(100_000)
CALLS = 150
ROUNDS = 5
ALLOWED_S = 0.0003


class Answering(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers one class at once; run as a program, this file serves it and prints its port."""

    def ModelInfer(self, request, _):  # noqa: N802  # the service's name
        """One class."""
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        answer.outputs.add(name="PROBABILITIES__0", datatype="BYTES", shape=[1, 1])
        answer.raw_output_contents.append(b"\x0a\0\0\x000.5:1:stub")
        return answer


@pytest.fixture(params=["grpc", "http"])
def both(request):
    """One call by a bare tritonclient, and by ours."""
    program = [STUB, "--answer-s", "0"] if request.param == "http" else [__file__]
    protocol = getattr(tritonclient, request.param)
    with (
        subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, text=True) as server,
        ExitStack() as ending,
    ):
        ending.callback(server.kill)
        address = f"127.0.0.1:{int(server.stdout.readline())}"
        bare = ending.enter_context(protocol.InferenceServerClient(address))
        ours = ending.enter_context(Client(f"{request.param}://{address}"))

        def infer():
            tensor = protocol.InferInput("IMAGE", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[PHOTO]], dtype=object))
            output = protocol.InferRequestedOutput("PROBABILITIES__0", class_count=5)
            return bare.infer("resnet50", [tensor], outputs=[output], timeout=30_000_000).as_numpy("PROBABILITIES__0")

        yield infer, lambda: ours.classify(PHOTO)


def cost_s(call):
    """Processor time of one call in seconds."""
    started_s = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - started_s) / CALLS


@pytest.mark.load
def test_a_call_costs_little_more_than_a_bare_one(both):
    """Retries, deadlines, error messages and results add less than 0.3 ms of processor time to a call."""
    bare, ours = both
    rounds = [(cost_s(bare), cost_s(ours)) for _ in range(ROUNDS)]
    bare_s, ours_s = (min(costs) for costs in zip(*rounds, strict=True))
    sys.stdout.write(f"bare {bare_s * 1000:.3f} ms, ours {ours_s * 1000:.3f} ms\n")
    assert ours_s - bare_s < ALLOWED_S


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Answering(), server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    server.wait_for_termination()
