# Two commands on a fresh machine: 'make demo' and 'make test'.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
# The suite runs in so many processes; a file stays in one of them, for what its tests share.
TEST_PROCESSES ?= 2
STAMP := $(VENV)/.installed

.PHONY: demo test attack coverage check serve install clean
.DEFAULT_GOAL := demo

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reid_mtda needs Python 3.11 or newer, got %d.%d; run: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --constraint constraints.txt --editable '.[train,serve,events,openvino,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/reid-mtda demo

serve: $(STAMP)
	@test -f runs/demo/student/manifest.json || { echo "make serve: runs/demo/student is missing, expected the demo's student; run 'make demo' first" >&2; exit 2; }
	$(BIN)/reid-mtda serve cameras/street --model runs/demo/student --gallery runs/serve/gallery --config configs/live/street.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

# Kills, fuzz, roles and load; REID_MTDA_KILLS, REID_MTDA_REQUESTS and REID_MTDA_SOAK_S make it longer.
attack: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 -m attack -s --durations 0

coverage: $(STAMP)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n $(TEST_PROCESSES) --dist loadfile
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -rs tests/deploy -k "not wheel"

clean:
	rm -rf $(VENV) runs .coverage .pytest_cache .mypy_cache .ruff_cache
