import doctest
import re
from pathlib import Path

import pytest

from maskstream.conversion import FORMATS
from maskstream.datasets.document import catalogue_page

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_examples_in_the_documentation_run(page):
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def test_the_page_of_data_sets_is_the_catalogue():
    page = next(page for page in DOCS if page.name == "datasets.md")
    assert page.read_text(encoding="utf-8") == catalogue_page(), "run: maskstream datasets --markdown"


def test_the_page_of_formats_lists_what_can_be_converted():
    page = next(page for page in DOCS if page.name == "formats.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (✓|–) \| (✓|–) \|$", page, re.MULTILINE)
    assert rows == [(name, "✓", "✓" if one.write else "–") for name, one in FORMATS.items()]
