# make quickstart: install into .venv, search a network for a real table
# make test:       install into .venv, run the whole test suite
# make faults:     interrupt, kill and starve searches many times (an hour; goes on where it was ended)
# make test-kernels: run the tests that compute with the instructions of other processors

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Settings that choose other kernels of torch, MKL and oneDNN.
KERNELS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE \
	MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2
# What computes nothing that could round; all other tests count as numeric.
NOT_NUMERIC := callbacks evaluation/test_engines.py evaluation/test_pool.py \
	model_selection/test_faults.py test_architecture.py test_define_by_run.py \
	test_damaged_journals.py test_documented.py test_files.py test_fingerprint.py \
	test_foreign_files.py test_journal.py test_migrating.py test_own_code.py test_space.py \
	test_space_views.py test_trial.py

.PHONY: quickstart test test-kernels faults clean

quickstart: $(VENV)/installed
	$(BIN)/python examples/plot_quickstart.py

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadgroup

faults: $(VENV)/installed
	$(BIN)/python benchmarks/faults.py --write docs/benchmarks/faults.md

test-kernels: $(VENV)/installed
	for kernel in $(KERNELS); do \
		echo $$kernel; \
		env $$kernel $(BIN)/pytest -n 2 --dist loadgroup tests \
			$(addprefix --ignore=tests/,$(NOT_NUMERIC)) || exit 1; \
	done

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV); what pip says goes to $(VENV)/install.log'
	@$(BIN)/python -m pip install -c constraints.txt -e ".[all,dev]" > $(VENV)/install.log 2>&1 \
		|| { cat $(VENV)/install.log; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV)
