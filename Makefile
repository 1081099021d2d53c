# make demo            segment a clip we render ourselves, and say where to look
# make demo VIDEO=…    the same with a video of yours
# make test            run the tests that take no more than a few seconds each
# make test-slow       run the others: killed processes, clusters, browsers, real geometries
# make check           what CI runs before the tests: style and types

PYTHON ?= python3
VENV ?= .venv
VIDEO ?=
BIN := $(VENV)/bin
OUT := demo/$(if $(VIDEO),$(basename $(notdir $(VIDEO))),sample)

.PHONY: demo test test-slow check clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	@mkdir -p demo
	$(if $(VIDEO),,$(BIN)/maskstream sample demo/sample.mp4)
	$(BIN)/maskstream segment "$(or $(VIDEO),demo/sample.mp4)" -o "$(OUT)"
	@echo
	@echo "Look at   $(OUT)/overlay.mp4   and   $(OUT)/report.html"

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

check: $(VENV)/.installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo out .pytest_cache .mypy_cache .ruff_cache .hypothesis
