#!/bin/sh
# What both images do: install a checkout into a new virtual environment,
# compile the measurement kernels, and check what pipelines would run.
# Usage: install.sh CHECKOUT PREFIX, with $PYTHON or python3 being Python >= 3.12.
set -eu
"${PYTHON:-python3}" -m venv "$2"
"$2/bin/python" -m pip install -qq --disable-pip-version-check "$1[parsl,postgres]"
"$2/bin/python" -m lsst.meas.finalize.precompile
"$2/bin/python" -m lsst.meas.finalize.check
