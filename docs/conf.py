"""Sphinx configuration: MyST pages with furo."""

project = "Workshop Brain"
extensions = ["myst_parser"]
html_theme = "furo"
source_suffix = {".md": "markdown"}
exclude_patterns: list[str] = []
myst_heading_anchors = 3
