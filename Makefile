# Everything there is to do; `make` alone says what. Each verb prepares what it needs.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Pinned: the tool that makes the environment decides what the lock file means.
UV_VERSION := 0.13.9
TOOLS := .tools
.DEFAULT_GOAL := help

.PHONY: help setup run demo smoke check test test-cloud bench chaos docs release clean

help: ## say what each verb does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/ready ## make the environment: Python packages, locked
run: setup ## run a whole store here: Kafka, three replicas, gateway, workers
	@exec $(BIN)/tidestore run $(ARGS)
demo: setup ## write a real data set and prove it on every replica
	@$(BIN)/tidestore demo $(ARGS)
smoke: setup ## prove the whole path on a stack of its own; the last line is JSON
	@$(BIN)/tidestore smoke
check: setup ## format, lint, types, import rules, house rules
	@scripts/check
test: setup ## everything, on real Kafka and real store servers
	@scripts/test
test-cloud: setup ## the suite of all adapters on your own buckets (docs/configuration.md)
	@$(BIN)/pytest -m cloud tests/cloud $(ARGS)
bench: setup ## side by side with MinIO bucket replication (QUICK=1: one round); last line JSON
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)
chaos: setup ## the kill tests alone, longer
	@$(BIN)/pytest -m chaos tests/chaos $(ARGS)
docs: setup ## check that the documents' links and names exist
	@$(BIN)/pytest -q tests/unit/test_documents.py
release: check test ## build the packages and prove the wheel in a bare environment
	@scripts/release
clean: ## remove the environment and all local data of this checkout
	rm -rf $(VENV) $(TOOLS) .tidestore dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/ready: pyproject.toml uv.lock scripts/setup
	@PYTHON="$(PYTHON)" UV_VERSION="$(UV_VERSION)" VENV="$(VENV)" TOOLS="$(TOOLS)" scripts/setup
	@touch $@
