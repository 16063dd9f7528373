# make quickstart: install into .venv, search a network on real images
# make test:       install into .venv, run the whole test suite
# make faults:     interrupt, kill and starve searches many times (hours; see benchmarks/faults.py)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test faults clean

quickstart: $(VENV)/installed
	$(BIN)/python examples/plot_quickstart.py

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadgroup

faults: $(VENV)/installed
	$(BIN)/python benchmarks/faults.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all,dev]"
	touch $@

clean:
	rm -rf $(VENV)
