"""``maskstream models``."""

import json

from maskstream.shipped import WEIGHTLESS, shipped


def test_what_there_is_is_listed(call):
    done = call("models")
    assert done.returncode == 0, done.stderr
    for name in (*(model.name for model in shipped()), *(name for names in WEIGHTLESS.values() for name in names)):
        assert name in done.stdout
    assert "no weights" in done.stdout


def test_as_json(call):
    done = call("models", "--json")
    assert {model["name"] for model in json.loads(done.stdout)} == {model.name for model in shipped()}
