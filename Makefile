# `make report` and `make test` are all that a newcomer needs; both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
MODEL ?= mini
# Interventions take half a minute in mini and many minutes in GPT-2 small: make report MODEL=gpt2 REPORT=--causal
REPORT ?= $(if $(filter mini,$(MODEL)),--causal --circuit)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help report test test-long test-numerics test-all check sample tutorial format clean

help:
	@echo "make report   which neurons boost 'year > YY', for the bundled model (MODEL=DIR for yours)"
	@echo "make test     the tests, offline"
	@echo "make test-all the long ones too: kills, fuzzing, clusters, memory"
	@echo "make test-numerics  the numerical tests and mini's answers under other kernels and thread counts"
	@echo "make check    format, lint, types, tests: what CI runs"
	@echo "make sample   the report of mini that the repository shows, in reports/sample"
	@echo "make tutorial the outputs that docs/tutorial.md and its notebook show, made anew"
	@echo "make format   format the code"
	@echo "make clean    remove the environment and the tools' caches (not cache/ and reports/)"

.venv/package: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/development: .venv/package
	$(PIP) -e '.[dev]'
	@touch $@

report: .venv/package
	$(BIN)/neurons report --model '$(MODEL)' $(REPORT)

test: .venv/development
	$(PYTEST) -m 'not long and not numerics'

test-long: .venv/development
	$(PYTEST) -m long

test-numerics: .venv/development
	$(BIN)/python -m pytest -m numerics -n 0

test-all: .venv/development
	$(PYTEST)

check: .venv/development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -m 'not long and not numerics'

sample: .venv/package
	$(BIN)/python scripts/sample_report.py reports/sample

tutorial: .venv/package
	$(BIN)/python scripts/tutorial.py

format: .venv/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
