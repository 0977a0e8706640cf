#!/usr/bin/env bash
# TreeCorr's correlations hold seven digits, however exactly they are asked for.
#
# Version: TreeCorr 5.1.4.
# Behaviour: with brute force (or bin_slop = 0) pairs, separations and weights
# are those of a direct sum in double precision to 1e-13, the correlation isn't:
# fields (k, g) are kept in single precision in the tree.  Nothing in the
# interface tells: inputs and outputs are float64.
# Output seen: separations differ by 3e-15, correlations by 1e-8
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check treecorr==5.1.4

cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PYTHON'
import numpy as np
import treecorr

rng = np.random.default_rng(1)
x, y = rng.uniform(0, 100, (2, 300))
k = rng.normal(size=300)
found = treecorr.KKCorrelation(min_sep=1, max_sep=50, nbins=10, brute=True)
found.process(treecorr.Catalog(x=x, y=y, k=k))

i, j = np.triu_indices(300, 1)
separation = np.hypot(x[i] - x[j], y[i] - y[j])
in_bin = np.digitize(np.log(separation), np.linspace(0, np.log(50), 11)) - 1
ok = (in_bin >= 0) & (in_bin < 10)
n_pairs = np.bincount(in_bin[ok], minlength=10)
mean_separation = np.bincount(in_bin[ok], separation[ok]) / n_pairs
correlation = np.bincount(in_bin[ok], (k[i] * k[j])[ok]) / n_pairs
assert np.array_equal(found.npairs, n_pairs)
assert found.xi.dtype == np.float64
of_separations = np.abs(found.meanr / mean_separation - 1).max()
of_correlations = np.abs(found.xi - correlation).max()
print(f"separations differ by {of_separations:.0e}, correlations by {of_correlations:.0e}")
assert of_separations < 1e-13
assert 1e-10 < of_correlations < 1e-6
PYTHON
