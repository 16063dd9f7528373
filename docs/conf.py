"""Settings of the site, which `make docs` builds into docs/_build/html without a network."""

import os
import sys
from pathlib import Path
from zipfile import ZipFile

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, os.path.abspath(".."))

import skhpo

project = "skhpo"
author = "the skhpo developers"
copyright = "2026, the skhpo developers"
version = release = skhpo.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "**sg_execution_times.rst",
    "gallery/*.ipynb",
    "gallery/*.py",
    "**.zip",
]
templates_path = ["_templates"]
root_doc = "index"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nitpicky = False

# Members are listed and documented on the page of their class, as numpydoc finds them.
autosummary_generate = True
autodoc_typehints = "none"  # types are in the docstrings
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Pictures and output are those in docs/gallery, which `make gallery` renews; a build runs nothing.
plot_gallery = "False"
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "thumbnail_size": (320, 224),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": float("inf"),
    "backreferences_dir": None,
}

html_theme = "pydata_sphinx_theme"
html_title = "skhpo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": []}


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out members that other packages define, with references into their own sites."""
    module = getattr(obj, "__module__", None) or getattr(
        getattr(obj, "fget", None), "__module__", None
    )
    return skip or (module is not None and not module.startswith("skhpo"))


def zip_examples(app):
    """Write the archives of kept examples, which only a run of an example writes."""
    for notebook in Path(app.srcdir, "gallery").glob("plot_*.ipynb"):
        script = Path(app.srcdir).parent / "examples" / notebook.with_suffix(".py").name
        with ZipFile(notebook.with_suffix(".zip"), "w") as archive:
            archive.write(script, script.name)
            archive.write(notebook, notebook.name)


def setup(app):
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("builder-inited", zip_examples, priority=900)  # after the gallery
