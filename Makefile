# `make` alone lists the targets. Nothing here names a package index: pip and uv use the one you configured.

.DEFAULT_GOAL := help
.PHONY: help install demo serve test check fix bench bench-full money evals chaos properties pictures
.DELETE_ON_ERROR:

PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
JOBS := $(wildcard jobs/*/requirements.txt)
FOR_RUNS := .[report,serve]
PINS := pyproject.toml constraints.txt $(JOBS)

help: ## list these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

install: .venv/.run ## what a run needs, into .venv

demo: .venv/.run ## run the companies job against the emulator: no key, no money
	.venv/bin/rowtide run jobs/companies --prefect

serve: .venv/.run ## Prefect's server, a worker, blocks, deployments and the webhook receiver, on this machine
	.venv/bin/python -m deploy.serve

test: .venv/.test ## run every test, three at a time: many of them wait for a server
	.venv/bin/python -m pytest -n 3 --dist worksteal

check: .venv/.test ## lint, format, types and the quick tests, in about a minute; changes nothing
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/basedpyright
	.venv/bin/python -m pytest -m "not slow" -n 2

fix: .venv/.test ## format the code, mend what ruff can mend, write the generated parts of the documents
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
	.venv/bin/python docs/generate.py

bench: .venv/.test ## what a row costs, in tables and in benchmarks.json: under ten minutes
	.venv/bin/python -m benchmarks

bench-full: .venv/.test ## the same with a million rows, many workers and other packages: half an hour, unattended
	.venv/bin/python -m benchmarks --full

money: .venv/.run ## one model live, in batches, and the ladder: what the companies job costs and how often it is right
	.venv/bin/python -m benchmarks.money

evals: .venv/.run ## what evals find: seven candidates whose worth is known, and plants that must be refused
	.venv/bin/python -m benchmarks.verdicts

pictures: .venv/.test ## photograph the report and the run's page in Prefect, for the documents
	.venv/bin/python docs/pictures.py

properties: .venv/.test ## a night's worth of generated sources, answers and replies: what comes in comes out, or is refused
	ROWTIDE_PROPERTIES=night .venv/bin/python -m pytest -n 2 -m properties

chaos: .venv/.test ## kill it at every effect, plan faults at random, and count what that cost: about ten minutes
	.venv/bin/python -m chaos

# Processes find the modules that earlier ones compiled: to compile them again takes each five seconds.
unexport PYTHONDONTWRITEBYTECODE

# The test stamp includes the run-time one, so a fresh `make test` installs once.
.venv/.run: $(PINS) | .venv/bin/python
	$(call install,$(FOR_RUNS))
	@touch $@

.venv/.test: $(PINS) | .venv/bin/python
	$(call install,.[test])
	@touch .venv/.run $@

# constraints.txt pins every package. Compiling is left to the first import of each module: most are never imported.
define install
@echo "installing into .venv: about a minute the first time" >&2
@$(if $(UV),true,.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null)
@$(if $(UV),uv pip install --quiet --python .venv/bin/python,.venv/bin/python -m pip install -qq --no-compile) \
	--constraint constraints.txt $(JOBS:%=--requirement %) --editable '$(1)'
endef

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Rowtide needs Python 3.11 or newer; name one: make PYTHON=python3.12 demo" >&2; exit 1; }
ifeq ($(UV),)
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(PYTHON) -c \
		'import sys; print("Python cannot make a .venv here; run: sudo apt install python3.%d-venv" % sys.version_info[1])' >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
else
	@uv venv --quiet --python $(PYTHON) .venv
endif
