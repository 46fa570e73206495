# clipshift: few verbs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env img2dataset storage browser mini mini-all test test-scaled test-slurm test-kills fuzz faults edits lint format plan check bench rehearsal lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BUILD ?= cpu# or gpu: faiss for CUDA
CORES ?= $(shell nproc)
BIN := $(CURDIR)/.venv/bin
MARK := .venv/installed-$(BUILD)
# Two waiting OpenMP threads on busy cores slow each other down several times.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(BIN):$(PATH)

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(MARK) ## make the environment .venv (clipshift, snakemake and everything they need)

$(MARK): envs/$(BUILD).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "clipshift needs Python 3.11 to 3.13, found " + sys.version.split()[0] + "; give another one: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned environment (about 6 GB, several minutes)"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r envs/$(BUILD).txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@$(BIN)/python -m pip check
	@rm -f .venv/installed-* && touch $@

DOWNLOADS := .venv-img2dataset
img2dataset: $(DOWNLOADS)/installed ## make the environment of downloads from lists of URLs

$(DOWNLOADS)/installed: envs/img2dataset.txt
	@test -x $(DOWNLOADS)/bin/python || $(PYTHON) -m venv $(DOWNLOADS)
	@echo "Installing img2dataset (about 800 MB)"
	@$(DOWNLOADS)/bin/python -m pip install --quiet --require-hashes --no-deps -r envs/img2dataset.txt
	@$(DOWNLOADS)/bin/python -m pip check
	@touch $@

STORAGE := .venv-storage
storage: $(STORAGE)/installed ## make the folder of Snakemake's plugin for pools in object storage

$(STORAGE)/installed: envs/storage.txt | $(MARK)
	@rm -rf $(STORAGE)
	@echo "Installing Snakemake's plugin for S3 (120 MB)"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --target $(STORAGE) -r envs/storage.txt
	@touch $@

mini: env ## environment, data, the mini study A, its report (about 15 minutes)
	snakemake --cores $(CORES) --profile profiles/local
	@echo "Open results/report.html"

STUDIES := $(addprefix config/,mini.yaml mini-domains.yaml mini-causes.yaml)
mini-all: env ## the same with the studies B and C on top (about 40 minutes in all)
	snakemake --cores $(CORES) --profile profiles/local --configfile $(STUDIES)
	@echo "Open results/report.html"

test: env img2dataset storage browser ## environments, a browser for its tests, and all tests
	pytest $(ARGS)

test-scaled: env ## the three full-scale plans, made small by the block scale, from end to end (about 10 minutes)
	pytest -m scaled tests/workflow/test_scaled.py $(ARGS)

# A private cluster on loopback, in a temporary folder; it is stopped whatever happens.
STUDY ?= test
ACCOUNTING ?= 0
test-slurm: env ## the slurm profile on a real Slurm (STUDY=mini ACCOUNTING=1; installs Slurm where it may)
	@SLT_DIR=/ SLT_ACCT=$(ACCOUNTING) tests/slurm/cluster.sh install
	@place=$$(mktemp -d); chmod 755 $$place; \
	trap 'for c in $$place/*/etc/slurm.conf; do if [ -e "$$c" ]; then SLT_DIR=$${c%/etc/slurm.conf} tests/slurm/cluster.sh stop; fi; done; rm -rf $$place' EXIT; \
	trap 'exit 130' INT TERM HUP; \
	TMPDIR=$$place CLIPSHIFT_SLURM_STUDY=$(STUDY) pytest tests/slurm -p no:cacheprovider $(ARGS)

KILLS ?= 50
SEED ?= 0
test-kills: env ## kill the small study at random moments and compare (KILLS=50 SEED=0 ARGS=--slurm; about 10 minutes)
	@place=$$(mktemp -d); trap "rm -rf $$place" EXIT; \
	python -m tests.workflow.kills --kills $(KILLS) --seed $(SEED) --folder $$place $(ARGS)

MUTANTS ?= 2000
fuzz: env ## read so many mutated inputs and print the table of verdicts (MUTANTS=2000 SEED=0)
	@python -m tests.fuzz --mutants $(MUTANTS) --seed $(SEED) $(ARGS)

TIMES ?= 5
faults: env ## kill, fill the disk, change inputs ... in every command and count (TIMES=5 SEED=0)
	@python -m tests.faults --times $(TIMES) --seed $(SEED) $(ARGS)

edits: env ## what an edit of the finished mini study would make again: a table (20 dry runs)
	@python -m tests.workflow.edits --configfile config/mini.yaml

# Root or a sudo without password installs Debian's; else the tests of the page are skipped, which
# CLIPSHIFT_NEEDS_BROWSER=1 turns into a failure.
browser: ## find Chromium, or install Debian's where that is allowed
	@if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then run=; elif sudo -n true 2>/dev/null; then run="sudo -n"; else run=no; fi; \
	if [ "$$run" != no ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the tests of the audit's page"; \
	  $$run apt-get -qq update && DEBIAN_FRONTEND=noninteractive $$run apt-get -qq install -y --no-install-recommends chromium >/dev/null && exit 0; \
	fi; \
	if [ -n "$$CLIPSHIFT_NEEDS_BROWSER" ]; then echo "No Chromium, and none could be installed" >&2; exit 1; fi; \
	echo "No Chromium: the tests of the audit's page will be skipped. Install chromium or google-chrome to run them." >&2

lint: env ## formatting, lint, types, workflow lint
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile workflow/rules
	mypy
	snakemake --lint

format: env ## format everything
	ruff format .
	ruff check --fix .
	snakefmt Snakefile workflow/rules

CONFIG ?= config/mini.yaml
plan: env ## what would run and what it costs, without running it (CONFIG=FILE TARGET=FILE)
	clipshift plan --configfile $(CONFIG) -- $(TARGET)

# Peers get the best kernels of their BLAS, which by itself takes old ones for new processors.
BEST := env -u OPENBLAS_L2_SIZE $(if $(shell grep -m1 -o avx512f /proc/cpuinfo),OPENBLAS_CORETYPE=SkylakeX)
check: env ## validate a configuration and open its data, before anything runs (CONFIG=FILE)
	clipshift check $(CONFIG)

bench: env ## time the similarity engine against its peers (about 15 minutes, quiet machine)
	cd benchmarks && $(BEST) python margins.py && $(BEST) python dedup.py && $(BEST) python growth.py && python reshard.py
	cd benchmarks && $(BEST) python margins.py --pool 4000000 --peers --out results/margins_4M.json

rehearsal: env ## everything but training on synthetic pools up to 4 million points (about 35 minutes)
	cd benchmarks && python rehearsal.py && python rehearsal_growth.py

lock: ## compile the lock files again from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra cpu --extra dev --generate-hashes --python-version 3.11 --no-annotate --no-header -q -o envs/cpu.txt
	uv pip compile pyproject.toml --extra gpu --generate-hashes --python-version 3.11 --no-annotate --no-header -q -o envs/gpu.txt
	uv pip compile envs/img2dataset.in --generate-hashes --python-version 3.11 --no-annotate --no-header -q -o envs/img2dataset.txt
	uv pip compile envs/storage.in --constraint <(sed -nE '/^python-dateutil/!s/^([A-Za-z0-9._-]+==[^ ]+).*/\1/p' envs/cpu.txt) --generate-hashes --python-version 3.11 --no-annotate --no-header -q -o envs/storage.txt

clean: ## remove what the workflow made (the environment and the package cache stay)
	git clean -fdxq results .snakemake
