#!/usr/bin/env bash
# daf_butler stores the metadata of an astropy table and leaves it out on get.
#
# Versions: lsst-daf-butler 30.2026.4300, astropy 8.0.2, pyarrow 26.0.1.
# Behaviour: Table.meta is written to the Parquet file; Butler.get returns a
# table with units and descriptions but an empty meta, unless the undocumented
# read parameter strip_astropy_meta_yaml=False is given.  Columns' formats are
# lost in the same way.
# Output seen: default {} None; asked {'SEED': 7} %.3f
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    lsst-daf-butler==30.2026.4300 astropy==8.0.2 pyarrow==26.0.1 pandas

cd "$folder"
venv/bin/python - <<'PYTHON'
from astropy.table import Table
from lsst.daf.butler import Butler, DatasetType

Butler.makeRepo("repo")
with Butler.from_config("repo", writeable=True, run="run") as butler:
    butler.registry.registerDatasetType(DatasetType("table", butler.dimensions.empty, "ArrowAstropy"))
    table = Table({"flux": [1.0, 2.0]}, meta={"SEED": 7})
    table["flux"].unit, table["flux"].format = "nJy", "%.3f"
    butler.put(table, "table")
    default = butler.get("table")
    asked = butler.get("table", parameters={"strip_astropy_meta_yaml": False})
print("default", dict(default.meta), default["flux"].format, end="; ")
print("asked", {"SEED": asked.meta["SEED"]}, asked["flux"].format)
assert str(default["flux"].unit) == "nJy"
assert not default.meta and default["flux"].format is None
assert asked.meta["SEED"] == 7 and asked["flux"].format == "%.3f"
PYTHON
