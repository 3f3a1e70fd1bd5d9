# SPDX-License-Identifier: GPL-2.0-only
#
# make           set up .venv from requirements.lock, then run every notebook into build/
# make test      set up, then lint and run the tests
# make lint      set up, then lint only
# make notebook  set up, then open JupyterLab on localhost, on notebooks/explore.ipynb
# make lock      write requirements.lock anew; LOCKFLAGS=--upgrade takes newer releases
# make clean     remove everything that make made
#
# PYTHON names the interpreter that .venv is made from: make PYTHON=python3.13

PYTHON ?= python3

BIN := .venv/bin
# Stamps are touched last, so that an interrupted set-up starts over at the next make.
LOCKED := .venv/locked
READY := .venv/ready
SOURCES := $(shell find notebooks sim analysis lab data -type f \
	! -path '*/.*' ! -path '*/__pycache__/*' 2>/dev/null)

# Each of these would make the new environment see, or install into, another one.
unexport PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET PIP_USER VIRTUAL_ENV

define require-python
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
	'$(PYTHON) is not Python 3.11 or later. Name one that is: make PYTHON=python3.13'; exit 1; }
@"$(PYTHON)" -c 'import ensurepip, venv' || { echo >&2 \
	'$(PYTHON) lacks venv or ensurepip. Install them (Debian: apt install python3-venv)' \
	'or name another Python: make PYTHON=python3.13'; exit 1; }
endef

.DELETE_ON_ERROR:
.PHONY: all test lint notebook lock clean

all: build/index.html

build/index.html: $(READY) $(SOURCES)
	$(BIN)/reclaim build --out build

test: lint
	$(BIN)/python -m pytest
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -m core

lint: $(READY)
	$(BIN)/python -m ruff check

notebook: $(READY)
	$(BIN)/python -m jupyterlab --config=jupyter_server_config.py --ip=127.0.0.1 \
		--ServerApp.root_dir="$(CURDIR)" notebooks/explore.ipynb

$(LOCKED): requirements.lock
	$(require-python)
	"$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --compile --require-hashes -r requirements.lock
	touch $@

# --no-index: the build backend is in the lock, nothing more is fetched.
$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --compile --no-index --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

# uv has an environment of its own: a lock that does not install must not stop its repair.
lock:
	$(require-python)
	"$(PYTHON)" -m venv --clear .venv/uv
	.venv/uv/bin/python -m pip install --quiet uv
	.venv/uv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
		--generate-hashes --extra test --group build $(LOCKFLAGS) \
		--custom-compile-command 'make lock' --output-file requirements.lock

clean:
	rm -rf .venv build .hypothesis .pytest_cache .ruff_cache
	find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
