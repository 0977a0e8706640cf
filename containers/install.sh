#!/bin/sh
# What both images do: install a checkout and compile the measurement kernels.
# Usage: install.sh CHECKOUT, with python3 being Python >= 3.12.
set -eu
python3 -m pip install --no-cache-dir "$1[parsl,postgres]"
python3 -m lsst.meas.finalize.precompile
