# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Time merging a visit's detectors, and reading one detector of the result.

The catalogue and star table of one detector are repeated under other ids,
as a butler writes them with the checkout in question.
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
_INPUTS = {
    "finalized_psf_ap_corr_detector_catalog": "ExposureCatalog",
    "finalized_src_detector_table": "ArrowAstropy",
}
_OUTPUTS = {"finalized_psf_ap_corr_catalog": "ExposureCatalog", "finalized_src_table": "ArrowAstropy"}


def _make_inputs(expected: Path, folder: Path, n: int) -> None:
    """Write one-row catalogues with ids 0 to n - 1."""
    from lsst.meas.finalize.afw import read_exposure_catalog, write_exposure_catalog

    for detector in range(n):
        catalog = read_exposure_catalog(expected / _CATALOG)
        catalog["id"] = detector
        write_exposure_catalog(catalog, folder / f"{detector}.fits")


def _read_one(path: Path, n: int) -> None:
    from lsst.meas.finalize.afw import read_exposure_catalog

    record = read_exposure_catalog(path).find(n // 2)
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


def _make_repository(folder: Path, expected: Path, n: int) -> Any:
    """Make a repository that refers to inputs of detectors 0 to n - 1."""
    import pyarrow.parquet

    from lsst.daf.butler import Butler, DatasetRef, DatasetType, FileDataset
    from lsst.daf.butler.formatters.parquet import arrow_to_astropy
    from lsst.meas.finalize.butler import SynthCam

    golden = next(parent for parent in expected.parents if (parent / "export").exists())
    Butler.makeRepo(str(folder / "repo"))
    butler = Butler.from_config(str(folder / "repo"), writeable=True, run="merged")
    SynthCam().register(butler.registry)
    butler.collections.register("written")
    butler.import_(
        directory=str(golden / "export"), filename=str(golden / "export/export.yaml"), transfer="direct"
    )
    [visit] = butler.registry.queryDataIds(["visit"])
    for detector in range(n):
        record = {"instrument": visit["instrument"], "id": detector, "full_name": f"D{detector}"}
        if not [*butler.registry.queryDimensionRecords("detector", instrument="SynthCam", detector=detector)]:
            butler.registry.insertDimensionData("detector", record | {"purpose": "SCIENCE"})
    for name, storage_class in _INPUTS.items():
        dimensions = ("instrument", "visit", "detector")
        dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
        butler.registry.registerDatasetType(dataset_type)
        files = []
        paths = [str(folder / f"{detector}.fits") for detector in range(n)]
        if storage_class != "ExposureCatalog":
            # As a detector's task writes it with this checkout.
            table = arrow_to_astropy(pyarrow.parquet.read_table(expected / _TABLE))
            ref = butler.put(table, name, visit, detector=0, run="written")
            paths = [butler.getURI(ref).ospath] * n
        for detector, path in enumerate(paths):
            data_id = butler.registry.expandDataId(visit, detector=detector)
            files.append(FileDataset(path, [DatasetRef(dataset_type, data_id, run="merged")]))
        butler.ingest(*files, transfer="direct")
    for name, storage_class in _OUTPUTS.items():
        dataset_type = DatasetType(name, ("instrument", "visit"), storage_class, universe=butler.dimensions)
        butler.registry.registerDatasetType(dataset_type)
    return butler, visit


def _get_handles(butler: Any, visit: Any, n: int) -> list[dict[int, Any]]:
    """Return what a quantum is given: nothing has to be looked up again."""
    refs = [[butler.find_dataset(name, visit, detector=d) for d in range(n)] for name in _INPUTS]
    return [dict(enumerate(map(butler.getDeferred, found))) for found in refs]


def _consolidate(butler: Any, visit: Any, handles: list[dict[int, Any]], run: str) -> None:
    """Merge detectors, from files to files, as a quantum does."""
    from lsst.pipe.tasks.finalizeCharacterization import ConsolidateFinalizeCharacterizationDetectorTask

    result = ConsolidateFinalizeCharacterizationDetectorTask().run(
        psf_ap_corr_detector_dict=handles[0], src_detector_table_dict=handles[1]
    )
    butler.collections.register(run)
    for name, output in zip(_OUTPUTS, (result.psf_ap_corr_cat, result.output_table), strict=True):
        butler.put(output, name, visit, run=run)


def _work(options: argparse.Namespace) -> None:
    """Do everything with the package of this process; print CPU times."""
    folder, n = options.worker, options.detectors
    _make_inputs(options.expected, folder, n)
    butler, visit = _make_repository(folder, options.expected, n)
    handles = _get_handles(butler, visit, n)
    stages: dict[str, Callable[[str], None]] = {
        _STAGES[2]: lambda run: _consolidate(butler, visit, handles, run),
        _STAGES[1]: lambda run: _merge_catalogues(folder, n),
        _STAGES[0]: lambda run: _read_one(folder / "merged.fits", n),
    }
    # Imports and first calls aren't what is compared.
    _consolidate(butler, visit, _get_handles(butler, visit, min(n, 2)), "first")
    _merge_catalogues(folder, min(n, 2))
    _read_one(folder / "merged.fits", min(n, 2))
    times = {}
    for name, function in stages.items():
        found = []
        for number in range(options.repeats):
            start = time.process_time()
            function(f"repeat_{number}")
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
