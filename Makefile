# The targets that `make help` lists have a text after "##".

PYTHON ?= python3
VENV := .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
EXTRAS := all,dev

# Settings that choose other kernels of torch, MKL and oneDNN.
KERNELS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE \
	MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2
# What computes nothing that could round; all other tests count as numeric.
NOT_NUMERIC := callbacks evaluation/test_engines.py evaluation/test_pool.py \
	model_selection/test_faults.py test_architecture.py test_define_by_run.py \
	test_damaged_journals.py test_documented.py test_files.py test_fingerprint.py \
	test_foreign_files.py test_journal.py test_migrating.py test_own_code.py test_space.py \
	test_space_views.py test_trial.py

# What a change breaks first, in under a minute.
FAST := $(addprefix tests/,test_architecture.py test_documented.py test_journal.py test_levels.py \
	test_param_columns.py test_samplers.py test_schedulers.py test_space.py test_trial.py \
	estimators/test_meanings.py estimators/test_validation.py)

# What calls functions of dependencies that differ from version to version.
MINIMUM := $(FAST) $(addprefix tests/,lockstep training estimators/test_direct_or_autograd.py \
	estimators/test_hyperparameter_schedule.py estimators/test_skorch_behaviour.py)

# What starts processes: workers of searches, and of the loaders of datasets.
PROCESSES := $(addprefix tests/,evaluation/test_datasets_travel.py evaluation/test_engines.py \
	evaluation/test_pool.py estimators/test_data.py estimators/test_data_path.py \
	model_selection/test_environment.py model_selection/test_search_datasets.py)

.DEFAULT_GOAL := help
.PHONY: help quickstart lint test test-slow test-gpu test-fast test-minimum test-spawn test-portable \
	test-kernels faults docs gallery wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

quickstart: $(VENV)/quickstart ## install what it needs, search a network for a data set (a minute or two)
	$(BIN)/python examples/plot_quickstart.py

lint: $(VENV)/installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## lint, then run the test suite (under ten minutes on two cores)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow"

test-slow: $(VENV)/installed ## run what takes long, and has a small sibling in the test suite
	$(BIN)/pytest -n 2 --dist loadgroup -m slow tests

test-gpu: $(VENV)/installed ## run the tests that need a GPU, which all others do not see
	$(BIN)/pytest -m gpu tests

test-fast: $(VENV)/installed ## run what a change breaks first (under a minute)
	$(BIN)/pytest -q -m "not slow" $(FAST)

faults: $(VENV)/installed ## interrupt, kill and starve searches many times (an hour or more; goes on where it was ended)
	$(BIN)/python benchmarks/faults.py --write docs/benchmarks/faults.md

test-minimum: $(VENV)-minimum/installed ## run the fast tests, and what trains, with the oldest versions of dependencies
	$(VENV)-minimum/$(SCRIPTS)/pytest -q -m "not slow" $(MINIMUM)

test-spawn: $(VENV)/installed ## run the tests that start processes, by "spawn" as on macOS and Windows
	START_METHOD=spawn $(BIN)/pytest -n 2 --dist loadgroup -m "not slow" $(PROCESSES)

# What other systems than Linux are tested with: no Keras, Dask, Ray, and no types.
test-portable: EXTRAS := plot,progress,tensorboard
test-portable: TOOLS := hypothesis pytest pytest-xdist
test-portable: $(VENV)/installed ## run the tests that need few extras, as CI does on macOS and Windows
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow" tests

test-kernels: $(VENV)/installed ## run the tests that compute with the instructions of other processors
	for kernel in $(KERNELS); do \
		echo $$kernel; \
		env $$kernel $(BIN)/pytest -n 2 --dist loadgroup tests \
			$(addprefix --ignore=tests/,$(NOT_NUMERIC)) || exit 1; \
	done

docs: $(VENV)/docs ## check all docstrings, build the site into docs/_build/html; a warning is an error
	$(BIN)/pytest -q tests/test_docstrings.py
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/pytest -q tests/test_site.py

gallery: $(VENV)/docs ## run the examples that changed; their output and pictures are kept in docs/gallery
	$(BIN)/sphinx-build -q -D plot_gallery=1 -b dummy docs docs/_build/dummy

wheel: $(VENV)/installed ## build a wheel and an sdist into dist/, and check them
	$(BIN)/python -m pip install -q build twine
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

comma := ,

# Make the environment with some extras; what pip prints is shown only if it fails.
define install
	$(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV); what pip says goes to $(VENV)/install.log'
	@$(BIN)/python -m pip install -c constraints.txt -e ".[$(1)]" $(TOOLS) > $(VENV)/install.log 2>&1 \
		|| { cat $(VENV)/install.log; exit 1; }
	@touch $@
endef

$(VENV)/quickstart: pyproject.toml constraints.txt
	$(call install,plot$(comma)progress)

$(VENV)/installed: pyproject.toml constraints.txt
	$(call install,$(EXTRAS))

$(VENV)/docs: $(VENV)/installed
	$(call install,all$(comma)dev$(comma)docs)

# The dependencies of pyproject.toml, with "==" for ">=".
OLDEST = import pathlib, re, tomllib; \
	project = tomllib.loads(pathlib.Path("pyproject.toml").read_text()); \
	needed = project["project"]["dependencies"]; \
	print(*(re.sub(">=([^,;]+)[^;]*", r"==\1", line) for line in needed), sep="\n")

$(VENV)-minimum/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-minimum
	$(PYTHON) -c '$(OLDEST)' > $(VENV)-minimum/oldest.txt
	$(VENV)-minimum/$(SCRIPTS)/python -m pip install -q -r $(VENV)-minimum/oldest.txt -e . pytest hypothesis
	@touch $@

clean: ## remove the environment and what was built
	rm -rf $(VENV) $(VENV)-minimum dist docs/_build docs/generated docs/sg_execution_times.rst
