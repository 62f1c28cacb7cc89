# Two commands: `make demo` and `make test`. Everything else is a part of them.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PEERS := .venv-peers/.installed
LITELLM := .venv-litellm/.installed
CONCRETE := .venv-concrete/.installed

.PHONY: demo test lint types imports unit bench bench-concrete serve clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

test: lint types imports unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports --no-cache

unit: $(INSTALLED)
	$(BIN)/python -m pytest

bench: $(INSTALLED) $(PEERS) $(LITELLM)
	$(BIN)/python bench/sdk_import.py
	$(BIN)/python bench/plaintext_rps.py
	$(BIN)/python bench/encrypted_lr.py
	$(BIN)/python bench/encrypted_cnn.py
	$(BIN)/python bench/encrypted_mlp.py
	$(BIN)/python bench/encrypted_calls.py
	$(BIN)/python bench/encrypted_theft.py
	$(BIN)/python bench/encrypted_workers.py
	$(BIN)/python bench/encrypted_hostile.py
	$(BIN)/python bench/ledger_rows.py
	$(BIN)/python bench/ledger_rps.py
	$(BIN)/python bench/ledger_kill9.py

# Concrete-ML is measured too where it is installed. It brings 6 GB along, so it is only when asked for.
bench-concrete: $(INSTALLED) $(CONCRETE)
	$(BIN)/python bench/encrypted_mlp.py

serve: $(INSTALLED)
	$(BIN)/cloakwork serve

clean:
	rm -rf build .venv .venv-peers .venv-litellm .venv-concrete

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# What we are measured against, kept away from what we ship.
$(PEERS): bench/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement bench/peers/requirements.txt
	touch $@

# LiteLLM wants another version of openai than the one our SDK is measured against.
$(LITELLM): bench/peers/requirements-litellm.txt
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/pip install --quiet --requirement bench/peers/requirements-litellm.txt
	touch $@

$(CONCRETE): bench/peers/requirements-concrete.txt
	$(PYTHON) -m venv .venv-concrete
	.venv-concrete/bin/pip install --quiet --requirement bench/peers/requirements-concrete.txt
	touch $@
