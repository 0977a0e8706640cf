# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time merging a visit's detectors, and reading one detector of the result.

The catalogue and star table of one detector are repeated under other ids.
With ``--against`` the same is done by another checkout of this package, in
turn, and ratios of CPU time are printed.

Usage: python benchmarks/bench_visit.py [--detectors N] [--repeats N]
       python benchmarks/bench_visit.py --against PATH_OF_ANOTHER_CHECKOUT
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import GOLDEN, print_table

_HERE = Path(__file__).parents[1]
_STAGES = ("read catalogue, one detector", "merge catalogues", "merge catalogues and tables")
_CATALOG, _TABLE = "finalized_psf_ap_corr_detector_catalog.fits", "finalized_src_detector_table.parquet"


class _Handle:
    """A deferred dataset of a file, as far as the consolidation uses it."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def get(self, **parameters: Any) -> Any:
        return self._read()


def _read_table(path: Path) -> Any:
    import pyarrow.parquet

    from lsst.daf.butler.formatters.parquet import arrow_to_astropy

    return arrow_to_astropy(pyarrow.parquet.read_table(path))


def _write_table(table: Any, path: Path) -> None:
    import pyarrow.parquet

    from lsst.daf.butler.formatters.parquet import astropy_to_arrow

    pyarrow.parquet.write_table(astropy_to_arrow(table), path)


def _make_inputs(expected: Path, folder: Path, n: int) -> None:
    """Write one-row catalogues with ids 0 to n - 1."""
    from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog

    for detector in range(n):
        catalog = read_exposure_catalog(expected / _CATALOG)
        catalog["id"] = detector
        write_exposure_catalog(catalog, folder / f"{detector}.fits")


def _read_one(folder: Path, n: int) -> None:
    from lsst.meas.finalize.afw import read_exposure_catalog

    record = read_exposure_catalog(folder / "visit.fits").find(n // 2)
    assert record is not None
    image = record.psf.compute_kernel_image(x=100.0, y=200.0)
    assert abs(image.array.sum() - 1) < 1e-6
    for field in record.ap_corr_map.values():
        assert field.coefficients.size


def _merge_catalogues(folder: Path, n: int) -> None:
    from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog

    catalog = read_exposure_catalog(folder / "0.fits")
    for detector in range(1, n):
        catalog.append(read_exposure_catalog(folder / f"{detector}.fits").find(detector))
    write_exposure_catalog(catalog, folder / "merged.fits")


def _consolidate(folder: Path, expected: Path, n: int) -> None:
    from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog
    from lsst.pipe.tasks.finalizeCharacterization import ConsolidateFinalizeCharacterizationDetectorTask

    def handles(read: Callable[[int], Any]) -> dict[int, Any]:
        return {detector: _Handle(lambda detector=detector: read(detector)) for detector in range(n)}

    result = ConsolidateFinalizeCharacterizationDetectorTask().run(
        psf_ap_corr_detector_dict=handles(lambda i: read_exposure_catalog(folder / f"{i}.fits")),
        src_detector_table_dict=handles(lambda i: _read_table(expected / _TABLE)),
    )
    write_exposure_catalog(result.psf_ap_corr_cat, folder / "visit.fits")
    _write_table(result.output_table, folder / "visit.parq")


def _work(options: argparse.Namespace) -> None:
    """Do everything with the package of this process; print CPU times."""
    folder, n = options.worker, options.detectors
    stages: dict[str, Callable[[], None]] = {
        _STAGES[2]: lambda: _consolidate(folder, options.expected, n),
        _STAGES[1]: lambda: _merge_catalogues(folder, n),
        _STAGES[0]: lambda: _read_one(folder, n),
    }
    _make_inputs(options.expected, folder, min(n, 2))
    # Imports and first calls aren't what is compared.
    _consolidate(folder, options.expected, min(n, 2))
    _read_one(folder, min(n, 2))
    _make_inputs(options.expected, folder, n)
    times = {}
    for name, function in stages.items():
        found = []
        for _ in range(options.repeats):
            start = time.process_time()
            function()
            found.append(time.process_time() - start)
        times[name] = min(found)
    print(json.dumps(times))


def _run_worker(checkout: Path, options: argparse.Namespace) -> dict[str, float]:
    python = checkout / ".venv" / "bin" / "python"
    environment = dict(
        os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONPATH=str(checkout / "python")
    )
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [
                str(python) if python.exists() else sys.executable,
                __file__,
                f"--worker={folder}",
                f"--expected={options.expected}",
                f"--detectors={options.detectors}",
                f"--repeats={options.repeats}",
            ],
            env=environment,
            capture_output=True,
            text=True,
        )
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Print the times, and those of the other checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--detectors", type=int, default=189, help="number of detectors")
    parser.add_argument("--repeats", type=int, default=2, help="repetitions, of which the best counts")
    parser.add_argument("--against", type=Path, help="folder of another checkout of this package")
    parser.add_argument(
        "--expected",
        type=Path,
        default=GOLDEN / "visit/expected/default/detector_0",
        help="folder with catalogue and star table of one detector",
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        _work(options)
        return
    ours = _run_worker(_HERE, options)
    theirs = _run_worker(options.against, options) if options.against else {}
    other = ("other CPU s", "ratio") if theirs else ()
    rows: list[tuple[str, ...]] = [(f"{options.detectors} detectors", "CPU s", *other)]
    for name in _STAGES:
        ratio = (f"{theirs[name]:.3f}", f"{theirs[name] / ours[name]:.1f}") if theirs else ()
        rows.append((name, f"{ours[name]:.3f}", *ratio))
    print_table(rows)


if __name__ == "__main__":
    main()
