# One file of short commands. `make help` lists them; everything runs inside .venv, which `make setup` builds.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= train,export,fast,dev
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
comma := ,
QUICKSTART := runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test lint format digits bench clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything that runs on this machine

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@
