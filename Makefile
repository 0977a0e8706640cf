# make demo | test | lint | docs | clean
#
# The environment is made in .venv by the first of them, with $(PYTHON) or the
# first working Python >= 3.12, and updated when pyproject.toml has changed.

VENV := .venv
RUN := $(VENV)/bin/python
# One process per core is what runs in parallel, so BLAS needn't be.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help demo test lint docs clean
.DELETE_ON_ERROR:

help:
	@sed -n '1s/^# //p' Makefile

demo: $(VENV)/.with-base
	$(RUN) -m lsst.meas.finalize.quality.demo $(DEMO_ARGS)

# Tests start many processes: none of them should compile the package again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.with-test
	$(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.with-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.with-docs
	$(RUN) -m sphinx -W --keep-going -b html doc doc/_build/html

clean:
	rm -rf $(VENV) build dist doc/_build doc/api demo .mypy_cache .pytest_cache .ruff_cache
	find python tests -name __pycache__ -prune -exec rm -rf {} +

# A .venv whose Python has gone (its base was removed) is made anew.
$(VENV)/pyvenv.cfg:
	@python=$$(.ci/find-python) && { $(RUN) -c pass 2>/dev/null || "$$python" -m venv --clear $(VENV); }

# .with-X: the package is installed with the extra X.
$(VENV)/.with-%: pyproject.toml setup.py | $(VENV)/pyvenv.cfg
	@echo "Installing meas_finalize ($*) into $(VENV); the first time takes a few minutes."
	@$(RUN) -m pip install -qq --disable-pip-version-check --editable $(if $(filter base,$*),.,'.[$*]') \
		|| { echo "pip could not install the dependencies (see above): is a package index reachable?" >&2; exit 1; }
	@touch $@
