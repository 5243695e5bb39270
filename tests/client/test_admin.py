"""``ModelControl`` on the real server: a small model is loaded from memory, changed, and unloaded."""

import pytest
from onnx import TensorProto, helper
from resnet_client import Client, ClientConfig, ConfigurationError, ModelNotFoundError, RequestError, UnavailableError
from resnet_client.admin import LoadError, ModelControl, ModelVersion
from resnet_serve import ServerConfig, TritonServer

TINY = "tiny"
CONFIG = {
    "name": TINY,
    "backend": "onnxruntime",
    "default_model_filename": "model.onnx",
    "max_batch_size": 0,
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [1]}],
}


@pytest.fixture(scope="module")
def content():
    """An ONNX network that returns its input."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("IN", "OUT")]
    graph = helper.make_graph([helper.make_node("Identity", ["IN"], ["OUT"])], TINY, tensors[:1], tensors[1:])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


@pytest.fixture(scope="module")
def controlled(repository_copy):
    """A server of its own: Triton waits for a model that could not be loaded, for as long as it may, before it ends."""
    for model in ("preprocess", "network_onnx", "resnet50"):
        repository_copy.add(model)
    with TritonServer(ServerConfig(repository_copy.folder, port=0, exit_timeout_s=1)) as running:
        yield running


@pytest.fixture
def control(controlled):
    """Model control; the small model is unloaded after the test."""
    with ModelControl(ClientConfig(controlled.grpc_url, admin_token=controlled.admin_token)) as control:
        yield control
        control.unload(TINY)


def test_model_control_index_lists_models_with_their_state(control):
    found = control.index()
    assert ModelVersion("network_onnx", "1", "READY", "") in found
    assert ModelVersion("resnet50", "1", "READY", "") in found


def test_model_control_config_is_completed_by_triton(control):
    """What the repository leaves out is filled in; an unknown model is an error of the client's own."""
    assert control.config("resnet50")["platform"] == "ensemble"
    assert control.config("network_onnx", "1")["version_policy"]
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        control.config("nowhere")


def test_model_control_load_takes_config_and_files(controlled, control, content):
    """Two versions are loaded, then one of them; the model is gone after it is unloaded."""
    files = {"1/model.onnx": content, "2/model.onnx": content}
    with Client(controlled.grpc_url) as client:
        for numbers in (["1", "2"], ["2"]):
            control.load(TINY, {**CONFIG, "version_policy": {"specific": {"versions": numbers}}}, files)
            assert client.metadata(model=TINY)["model"]["versions"] == numbers
    control.unload(TINY)
    with pytest.raises(ModelNotFoundError):
        control.config(TINY)


def test_model_control_load_takes_the_repository(control):
    """A model that was unloaded is loaded with the config in its files."""
    control.unload("resnet50")
    assert ModelVersion("resnet50", "1", "READY", "") not in control.index()
    control.load("resnet50")
    assert ModelVersion("resnet50", "1", "READY", "") in control.index()


def test_model_control_load_leaves_the_old_model_if_it_fails(control, content):
    """The error holds the runtime's reason on one line."""
    control.load(TINY, CONFIG, {"1/model.onnx": content})
    with pytest.raises(LoadError, match=r"(?i)^tiny cannot be loaded: [^\n]*protobuf[^\n]*[^\n;]$"):
        control.load(TINY, {**CONFIG, "max_batch_size": 1}, {"1/model.onnx": b"not a network"})
    assert control.config(TINY).get("max_batch_size", 0) == 0
    with pytest.raises(LoadError, match="nowhere cannot be loaded"):
        control.load("nowhere")


@pytest.mark.parametrize("token", [None, "wrong"])
def test_model_control_needs_the_token(controlled, token):
    """The error names the variable."""
    with ModelControl(ClientConfig(controlled.grpc_url, admin_token=token)) as control:
        for call in (control.index, lambda: control.load("resnet50"), lambda: control.unload("resnet50")):
            with pytest.raises(RequestError, match="RESNET_ADMIN_TOKEN"):
                call()
    with Client(controlled.grpc_url) as client:
        assert client.is_ready()


@pytest.mark.parametrize("url", ["http://localhost:8000", "grpc://a:8001,grpc://b:8001", "dns:///a:8001"])
def test_model_control_takes_the_grpc_address_of_one_server_only(url):
    """A model is loaded on one server; over HTTP the other callers would wait."""
    with pytest.raises(ConfigurationError, match="the gRPC address of one server"):
        ModelControl(ClientConfig(url))


def test_model_control_reports_an_unreachable_server(free_port):
    with (
        ModelControl(ClientConfig(f"grpc://127.0.0.1:{free_port}")) as control,
        pytest.raises(UnavailableError, match="cannot be reached"),
    ):
        control.index()
