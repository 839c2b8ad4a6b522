# make demo    from nothing to a model that chats: environment, local Ray cluster, data, tokenizer, pretraining, SFT, server
# make demo-all  the same with every stage there is, each evaluated, and a report of what each changed
# make test    install what testing needs and run all tests
# make quick   the unit tests that take no time: about 95 s on two quiet cores
# make clients install the clients of other programs that tests/clients runs (make test does, where there is a network)
# make check   ruff, format, mypy, import-linter
# make gpu-check  measure and prove on an NVIDIA card what is said of it: at most 8 minutes, gpu-report.md
# make clean   remove the environment and every cache (never anything under MINIMIND_HOME)
#
# Each is safe to repeat. PYTHON=python3.12 picks another interpreter for a new environment.

PYTHON ?= python3
VENV := .venv
CLIENTS := .venv-clients
FRESH ?= 0
DEMO_KEEP ?= 1
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

# Containers often set it. Then each of Ray's many processes compiles all that it imports anew: seconds, every time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-all test quick clients gpu-check check format venv clean

help:
	@sed -n 's/^# \(make .*\)/  \1/p' Makefile

demo: venv
	@$(BIN)/minimind demo --fresh $(FRESH) --keep $(DEMO_KEEP)

demo-all: venv
	@$(BIN)/minimind pipeline --name demo-all --model tiny --set pretrain.loop.epochs=2 \
		--set pretrain.loop.max_steps=200 --set sft.loop.eval_interval=250 \
		--set distill.model.hidden_size=64 --set distill.model.num_hidden_layers=4 \
		--set distill.optim.learning_rate=0.006

gpu-check: venv
	@$(BIN)/minimind gpu-check

# Those on a Ray cluster mostly start processes, one after the other, so the others run beside them and leave them the
# cores: they take longer. Two clusters at once would take each other's cores: the kill test alone takes 200 s, and beside
# another cluster more than 600 s. Some are asked once the cluster is gone, so that both lanes take about as long.
test: $(VENV)/.installed-dev
	@$(MAKE) -s --no-print-directory -k -j 3 .test-ray .test-others .test-later

quick: $(VENV)/.installed-dev
	@$(MAKE) -s --no-print-directory -j 2 .quick-one .quick-two

.PHONY: .test-ray .test-others .test-later .test-clients-there .quick-one .quick-two
# Halves that take about as long as each other.
.quick-one:
	@$(BIN)/python -m pytest -q -p no:cacheprovider -m "not slow" tests/unit/service tests/unit/stock tests/unit/test_[o-s]*.py

.quick-two:
	@$(BIN)/python -m pytest -q -p no:cacheprovider -m "not slow" tests/unit/test_[!o-s]*.py

.test-ray:
	@RAY_worker_niceness=0 $(BIN)/python -m pytest -q -p no:cacheprovider --durations 10 tests/ray

.test-others:
	@nice $(BIN)/python -m pytest -q --durations 40 $(filter-out tests/ray $(LATER),$(patsubst %/,%,$(wildcard tests/[!_]*/)))

LATER := tests/browser tests/invariants tests/clients
.test-later: .test-clients-there .test-ray
	@$(BIN)/python -m pytest -q -p no:cacheprovider --durations 10 $(LATER)

# Minutes of downloads and unpacking, while the others run. What hinders it is said by those that need it.
.test-clients-there:
	@nice $(MAKE) -s --no-print-directory clients >/dev/null 2>&1 || true

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

venv: $(VENV)/.installed

# The stamps are written last: an install that was cut off starts again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing (some minutes the first time) ..."
	@$(PIP) -e . -c constraints.txt || { $(MAKE) -s --no-print-directory .why; exit 1; }
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing with what testing needs (some minutes the first time) ..."
	@$(PIP) -e '.[dev]' -c constraints.txt || { $(MAKE) -s --no-print-directory .why; exit 1; }
	@touch $@ $(VENV)/.installed

clients: $(VENV)/.installed-dev
	@$(MAKE) -s --no-print-directory $(CLIENTS)/.installed

# On top of our own environment, which has PyTorch and transformers: lm-eval brings 0.5 GB as it is.
$(CLIENTS)/.installed: tests/clients/constraints.txt | $(BIN)/python
	@$(BIN)/python -m venv --clear $(CLIENTS)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(CLIENTS)/bin/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --retries 1 \
		'lm-eval[api]' litellm langchain-openai trl -c tests/clients/constraints.txt
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "'$(PYTHON)' was not found. Python 3.11 or newer is needed. On Debian or Ubuntu:" >&2; \
		echo "    sudo apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed." >&2; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$$($(PYTHON) -V 2>&1) cannot make virtual environments. On Debian or Ubuntu:" >&2; \
		echo "    sudo apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

.PHONY: .why
.why:
	@echo >&2
	@echo "The packages could not be installed; pip says above why. The usual causes, most frequent first:" >&2
	@echo "  no network, or a slow one: 'make' again goes on where it stopped; a mirror near you is set with" >&2
	@echo "      $(BIN)/python -m pip config set global.index-url https://YOUR-MIRROR/simple" >&2
	@echo "  the disk is full: about 2 GB are needed for a CPU, 8 GB with CUDA ('df -h .')" >&2
	@echo "  a Python that is newer than the pinned packages know: make clean, then make PYTHON=python3.12 ..." >&2

clean:
	rm -rf $(VENV) $(CLIENTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
