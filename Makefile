# Needs python3 (3.11 or 3.12), pip, make and git; everything else is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed-$(shell cat requirements.lock requirements-dev.txt | cksum | cut -d' ' -f1)

.PHONY: setup quickstart check test test-long test-slurm test-faults test-walks test-scale test-skypilot test-lowest test-chips test-exchange \
	lint bench docs clean

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements.lock requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] else "error: python 3.11 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c requirements.lock
	@rm -f $(VENV)/.installed-*
	@touch $@

# The whole of it on a CPU: trains a grid on real text, fits, plots, writes runs/quickstart/report/report.html.
quickstart: setup
	$(BIN)/python launch.py run quickstart
	$(BIN)/python -m analysis.report runs/quickstart

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy launch.py core experiments launchers planning training model data analysis bench

# While you work, under two minutes: linters, types, and the fast tests of the rooms that changed.
check: lint
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not long and not walk" $$($(BIN)/python -m tests.support.changed)

# Before you stop. Compiled programs are kept in .pytest_cache: the first call on a machine is the longest.
test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long and not walk"

# Kills, disk faults, several processes, published tables with resampling, the guides' code blocks.
test-long: setup
	$(BIN)/python -m pytest -n auto --dist worksteal -m long
	FAULT_KILLS=20 $(BIN)/python -m pytest -x -rP tests/faults/fifty_kills.py

# A sweep on a real Slurm of three nodes on the loopback address: needs root and apt, installs what is missing.
test-slurm: setup
	$(BIN)/python -m pytest -x tests/slurm/scenarios.py

# kill -9 of run, worker and launcher fifty times over a sweep; `make test-long` does it twenty times.
test-faults: setup
	$(BIN)/python -m pytest -x -rP tests/faults/fifty_kills.py

# Every file of a run by every damage, 2,000 command lines with faults, and what is marked `walk`: README as it is
# printed, every architecture lowered, every locale. An hour, nightly or before a release.
test-walks: setup
	$(BIN)/python -m pytest -n auto --dist worksteal -m walk
	DAMAGE_EVERY=1 FUZZ_CASES=2000 $(BIN)/python -m pytest -rP -m long tests/faults/test_damage.py tests/fuzz

# The bookkeeping of 10,000 simulated runs: plan, submit --dry-run, status, report, each within 10 s and 1 GB.
test-scale: setup
	$(BIN)/python -m pytest -rP tests/launchers/scale.py

# SkyPilot's own parser on the file that is generated for it, in an environment of its own (it is no requirement).
test-skypilot:
	$(PYTHON) -m venv .venv-skypilot
	.venv-skypilot/bin/python -m pip install --quiet --disable-pip-version-check skypilot pytest
	.venv-skypilot/bin/python -m pytest -q -p no:cacheprovider -c /dev/null --noconftest tests/launchers/skypilot_parser.py

# Every shipped step compiled by XLA for an H100 and a TPU v5e, on a machine with neither: some GB of wheels and half an
# hour, by hand or nightly.
test-chips:
	$(PYTHON) -m venv .venv-chips
	.venv-chips/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt "jax[cuda12,tpu]" -c requirements.lock
	.venv-chips/bin/python -m pytest -q -rP -p no:cacheprovider --noconftest tests/chips/compilers.py

# Beside transformers, peft and lm-evaluation-harness, in an environment of their own; it needs no JAX.
test-exchange: setup
	$(PYTHON) -m venv .venv-exchange
	.venv-exchange/bin/python -m pip install --quiet --disable-pip-version-check torch "transformers>=5,<6" peft accelerate \
		"lm-eval>=0.4.11,<0.5"
	HF_PYTHON=$(CURDIR)/.venv-exchange/bin/python $(BIN)/python -m pytest -rP -p no:cacheprovider tests/model/exchange/test_parity.py

# The oldest versions that requirements.txt allows, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	sed -n 's/^\([A-Za-z0-9_-]*\)>=\([0-9.]*\).*/\1==\2/p' requirements.txt > .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-lowest/requirements.txt \
		hypothesis pytest PyYAML
	.venv-lowest/bin/python -m pytest -p no:cacheprovider -m "not slow and not long and not walk" tests/data

# The site, into site/: no network, a broken link is an error. Opens from the disk; its search needs a server:
# python -m http.server --directory site
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

bench: setup
	$(BIN)/python launch.py bench

clean:
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache site
