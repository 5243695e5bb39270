"""The named model config: from which file it is made, and which models are not changed."""

import shutil
from pathlib import Path

import pytest
from resnet_client.named_configs import LOCAL, TUNED, named_config
from resnet_loadtest import tuned_config
from resnet_loadtest.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"


@pytest.fixture
def repository(tmp_path):
    """The config of one model, as the build wrote it."""
    (tmp_path / "network_onnx").mkdir()
    shutil.copy(REPOSITORY / "network_onnx/config.pbtxt", tmp_path / "network_onnx")
    return tmp_path


def test_tuned_config_begins_with_the_local_one_and_copies_it_for_other_models(repository):
    """Triton takes one name for all models: without the copy, it would use the ``config.pbtxt`` of the others."""
    text = (repository / "network_onnx/config.pbtxt").read_text()
    for model in ("network_onnx", "network_torchscript"):
        path = named_config(repository, model, LOCAL)
        path.parent.mkdir(parents=True)
        path.write_text(text.replace("max_batch_size: 32", "max_batch_size: 2"))
    config = tuned_config.read_base(repository, "network_onnx", LOCAL)
    assert config.max_batch_size == 2
    paths = tuned_config.write(repository, {"network_onnx": config}, ["measured"], base=LOCAL)
    assert paths == [named_config(repository, model, TUNED) for model in ("network_onnx", "network_torchscript")]
    assert paths[1].read_text().endswith(named_config(repository, "network_torchscript", LOCAL).read_text())


def test_read_base_refuses_other_models_and_repositories(repository):
    """A config that the build did not write may mean anything; the message names the option."""
    path = repository / "network_onnx/config.pbtxt"
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(UsageError, match="network_onnx cannot be tuned: resnet-build did not write"):
        tuned_config.read_base(repository, "network_onnx", LOCAL)
    with pytest.raises(UsageError, match=r"other/config\.pbtxt.*set --repository to the model repository"):
        tuned_config.read_base(repository, "other", LOCAL)
