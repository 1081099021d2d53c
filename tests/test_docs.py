import doctest
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_examples_in_the_documentation_run(page):
    assert doctest.testfile(str(page), module_relative=False).failed == 0
