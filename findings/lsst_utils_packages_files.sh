#!/usr/bin/env bash
# Naming the versions of imported packages asks for every file that is installed.
#
# Version: lsst-utils 30.2026.4300 (numpy 2.5.5, astropy 8.0.2, Python 3.12 or later).
# Behaviour: Packages.fromSystem(), which every "pipetask run" calls for its
# provenance, learns which distribution a module is of from
# importlib.metadata.packages_distributions(); that looks for each file of all
# distributions without a top_level.txt, be they imported or not.  With
# little more than NumPy these are 1,500 os.stat calls; with what pipelines need
# (SciPy, Arrow, matplotlib and so on) 18,000, which take 0.3 s of CPU time where
# a small pipeline takes 4 s, and longer on a network's disk.
# Output seen: 6 packages named after asking for 1517 files, 1477 of them listed in 6 RECORDs
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check lsst-utils==30.2026.4300 numpy==2.5.5 astropy==8.0.2

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import os

import lsst.utils.packages

named = [d for d in importlib.metadata.distributions() if not d.read_text("top_level.txt")]
listed = sum(len(d.files or ()) for d in named)

asked = 0
stat = os.stat


def counting(*args, **kwargs):
    global asked
    asked += 1
    return stat(*args, **kwargs)


os.stat = counting
packages = lsst.utils.packages.Packages.fromSystem()
os.stat = stat
print(f"{len(packages)} packages named after asking for {asked} files, {listed} of them listed in {len(named)} RECORDs")
assert listed > 1000, "The distributions tell now what their modules are."
assert asked >= listed, "Not every file is looked for now."
PYTHON
