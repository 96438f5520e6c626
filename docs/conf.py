"""Sphinx settings: `python -m sphinx -W -b html docs docs/_build/html`. Nothing is fetched, while building or while reading."""

import sys
from pathlib import Path

import qeqprop

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "qeqprop"
author = "The qeqprop developers"
copyright = author
version = release = qeqprop.__version__

extensions = [
    "myst_nb",  # includes myst_parser
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "mathml",
    "notebooks",
    "reference",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "off"  # notebooks are stored with their outputs, which the tests reproduce
nb_merge_streams = True
nb_ipywidgets_js = {}  # no notebook has a widget, and these scripts would come from elsewhere

smartquotes = False  # "k" is a name

html_theme = "furo"
html_title = f"qeqprop {release}"
html_favicon = "favicon.svg"
html_math_renderer = "mathml"
html_copy_source = False

autodoc_inherit_docstrings = False  # those of NetKet and Equinox have their own pages
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shapes and units, which types do not
napoleon_numpy_docstring = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # an attribute such as `free` has the name of methods elsewhere
