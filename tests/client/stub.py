"""Servers that answer the first byte of each image as its class, at once; run as a program, it prints its port."""

import json
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

LENGTH = 4  # of a text, in bytes before it
OUTPUT = "PROBABILITIES__0"


def tensor(image):
    """The response to an image that follows its own length."""
    text = f"0.5:{image[LENGTH]}:x".encode()
    return len(text).to_bytes(LENGTH, "little") + text


class Echo(BaseHTTPRequestHandler):
    """Over HTTP."""

    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # a response is sent as a whole

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        answered = tensor(content[int(self.headers["Inference-Header-Content-Length"]) :])
        place = {"binary_data_size": len(answered)}
        output = {"name": OUTPUT, "datatype": "BYTES", "shape": [1, 1], "parameters": place}
        header = json.dumps({"outputs": [output]}).encode()
        self.send_response(200)
        self.send_header("Inference-Header-Content-Length", str(len(header)))
        self.send_header("Content-Length", str(len(header + answered)))
        self.end_headers()
        self.wfile.write(header + answered)

    def log_message(self, *_):
        pass


class GrpcEcho(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Over gRPC."""

    def ModelInfer(self, request, _):  # noqa: N802  # the service's name
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        response.outputs.add(name=OUTPUT, datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(tensor(request.raw_input_contents[0]))
        return response


def main(protocol):
    """Serve until the process is killed."""
    if protocol == "http":
        http = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        port, serve = http.server_port, http.serve_forever
    else:
        server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(GrpcEcho(), server)
        port, serve = server.add_insecure_port("127.0.0.1:0"), server.wait_for_termination
        server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    serve()


if __name__ == "__main__":
    main(sys.argv[1])
