"""Settings of the documentation site: ``make docs`` builds it into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # sibx itself, and docs.machinery

project = "sibx"
author = "the authors of sibx"
copyright = "the authors of sibx; BSD 3-Clause license"  # noqa: A001  # the name that Sphinx reads
extensions = [
    "docs.machinery.site",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "machinery"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "sibx"
html_math_renderer = "mathml"  # no script and nothing to load: formulas are there without a network
html_copy_source = False
html_show_search_summary = False  # it is fetched, which a browser refuses where the site is a folder
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
highlight_language = "text"  # a block without a language is a command line or an output
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature would be longer than what it says; shapes and ranges stand in the text
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False  # what is returned stands in one phrase
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
