"""What a notebook shows: one line for an error, and progress without ipywidgets."""

import pytest


def run(*cells):
    """Run cells of code, and return the outputs of all of them and the error that ended the run."""
    import nbformat  # takes seconds, which not every process of the tests should spend
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    error = None
    try:
        NotebookClient(notebook, timeout=120).execute()
    except CellExecutionError as exc:
        error = exc
    return [output for cell in notebook.cells for output in cell.outputs], error


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_notebook_shows_errors_in_one_line_and_a_progress_bar():
    code = """
from resnet_client import Client
client = Client("grpc://127.0.0.1:1", max_attempts=1)
print([outcome.ok for outcome in client.classify_many([b"x"] * 3, progress=True)])
client.classify(b"x")
"""
    outputs, error = run(code)
    texts = {output.get("name", output.output_type): output.get("text", "") for output in outputs}
    assert texts["stdout"] == "[False, False, False]\n"
    assert "3/3" in texts["stderr"]
    assert "ipywidgets" not in texts["stderr"]
    (traceback,) = [output.traceback for output in outputs if output.output_type == "error"]
    assert len(traceback) == 1
    assert traceback[0].startswith("UnavailableError: grpc://127.0.0.1:1 cannot be reached")
    assert error is not None
