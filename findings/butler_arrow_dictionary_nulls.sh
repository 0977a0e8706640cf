#!/usr/bin/env bash
# The butler's Arrow tables with a dictionary column don't become astropy
# tables if a value is missing.
#
# Versions: lsst-daf-butler 30.2026.4300, pyarrow 26.0.1, astropy 8.0.2.
# Behaviour: arrow_to_astropy(), which ArrowAstropy datasets are read with,
# decodes dictionary columns, as pandas writes categories, and masks missing
# values of all other columns; a dictionary column with a missing value raises
# an error of pyarrow about bytes and int that names no column.
# Output seen: ['g', 'r', 'g']; ArrowTypeError Expected bytes, got a 'int' object
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    lsst-daf-butler==30.2026.4300 pyarrow==26.0.1 astropy==8.0.2 pandas==3.1.1

cd "$folder"
venv/bin/python - <<'PYTHON'
import pyarrow
from lsst.daf.butler.formatters.parquet import arrow_to_astropy


def bands(values):
    return arrow_to_astropy(pyarrow.table({"band": pyarrow.array(values).dictionary_encode()}))["band"]


plain = arrow_to_astropy(pyarrow.table({"band": pyarrow.array(["g", None, "g"])}))["band"]
assert list(plain.mask) == [False, True, False]
print(list(bands(["g", "r", "g"])), end="; ")
try:
    found = bands(["g", None, "g"])
except pyarrow.ArrowTypeError as error:
    print(type(error).__name__, error)
else:
    raise SystemExit(f"A table now: {list(found)}.")
PYTHON
