"""What the gallery shows is what its scripts print and draw."""

import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_kept_output_is_of_this_script(script):
    kept = ROOT / "docs" / "gallery" / f"{script.name}.md5"
    digest = hashlib.md5(script.read_text(encoding="utf-8").encode()).hexdigest()
    assert kept.exists(), "run `make gallery`, and commit docs/gallery"
    assert kept.read_text() == digest, "run `make gallery`, and commit docs/gallery"
    for kind in (".rst", ".ipynb"):
        assert (kept.parent / script.with_suffix(kind).name).exists()


def test_nothing_is_kept_of_scripts_that_are_gone():
    kept = (ROOT / "docs" / "gallery").glob("plot_*.md5")
    assert {path.name.removesuffix(".md5") for path in kept} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_scripts_have_cells_and_data_of_their_own(script):
    text = script.read_text()
    assert "# %%" in text
    assert "def main(" not in text
    assert "shared" not in text
