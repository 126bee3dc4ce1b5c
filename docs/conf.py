"""The site: Sphinx reads the Markdown of this folder. Nothing in it comes from a network, not even the mathematics."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "build_site"), str(HERE.parent / "src")]

project = "Ornstein"
author = "the Ornstein authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "docstrings", "house"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "Ornstein"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"source_repository": "", "footer_icons": [], "light_logo": "logo-light.svg",
                      "dark_logo": "logo-dark.svg"}
html_favicon = "_static/logo-light.svg"
pygments_style = "tango"
pygments_dark_style = "github-dark"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
