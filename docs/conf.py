"""Sphinx: how the documentation is built (``make docs``)."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import make_cards  # noqa: E402

import galmorph  # noqa: E402

# Made here and not kept in git: it follows from the models that ship.
(HERE / "cards.md").write_text(make_cards.page())

project = "galmorph"
author = "The galmorph developers"
copyright = f"2026, {author}"
release = version = galmorph.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build"]
# Text without a language is taken for shell, and need not be good shell.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "bash"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_here_doc_delimiter = "EOF"

html_theme = "pydata_sphinx_theme"
html_title = "galmorph"
html_static_path = ["_static"]
html_css_files = ["galmorph.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "galmorph"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "tutorial": [], "notebook": [], "science": []}
