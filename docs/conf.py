"""Sphinx's configuration; `make docs` builds the site and fails on dead links and unknown references."""

from importlib.metadata import version as version_of

project = "resnet50-triton"
release = version = version_of(project)
copyright = "the resnet50-triton authors"  # noqa: A001  # Sphinx's name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.programoutput"]
exclude_patterns = ["performance/**"]
html_theme = "furo"
html_title = "resnet50-triton"
html_copy_source = False

myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
python_maximum_signature_line_length = 80  # longer ones have a line for each parameter
autodoc_default_options = {"members": True, "show-inheritance": True}
nitpicky = True
# Types of other libraries, and what the public names are made of.
nitpick_ignore_regex = [("py:.*", r"(?!resnet_client\.).*|.*\.(BaseClient|Endpoint|T_co)")]
programoutput_prompt_template = "$ {command}\n{output}"
