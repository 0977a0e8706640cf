# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pyarrow.parquet
import pytest

from lsst.images import VisitImage
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, read_source_catalog
from lsst.meas.finalize.catalogs import PsfCandidates
from lsst.meas.finalize.psf import (
    PiffPsf,
    PiffPsfDeterminerConfig,
    PiffPsfDeterminerTask,
    PsfFit,
    as_batch_psf,
)

_VARIANTS = ("default", "color", "field", "lsstcam")


def _expected(root: Path, variant: str, detector: int) -> tuple[Any, dict[str, np.ndarray]]:
    """Read what the stack made: the record of a detector and the grid."""
    folder = root / "expected" / variant / f"detector_{detector}"
    catalog = read_exposure_catalog(folder / "finalized_psf_ap_corr_detector_catalog.fits")
    with np.load(folder / "grid.npz") as file:
        grid = {name: file[name] for name in file.files}
    return catalog.find(detector), grid


def _inputs(root: Path, variant: str, detector: int) -> tuple[VisitImage, PsfCandidates, np.ndarray]:
    """Read the image and the candidates; also return who was used."""
    export = root / "export"
    (calexp,) = export.glob(f"**/calexp_*_S{detector // 2}{detector % 2}_*.fits")
    (src_file,) = export.glob(f"**/src_*_S{detector // 2}{detector % 2}_*.fits")
    exposure, src = read_exposure(calexp), read_source_catalog(src_file)
    path = root / "expected" / variant / f"detector_{detector}" / "finalized_src_detector_table.parquet"
    names = [
        "id",
        "slot_Centroid_x",
        "slot_Centroid_y",
        "psf_color_value",
        "psf_color_type",
        "psf_max_value",
        "calib_psf_reserved",
        "calib_psf_used",
    ]
    columns = pyarrow.parquet.read_table(path, columns=names)
    table = astropy.table.Table({name: columns[name].to_numpy() for name in names})
    table = table[~table["calib_psf_reserved"] & np.isfinite(table["psf_max_value"])]
    candidates = PsfCandidates(
        exposure=exposure,
        id=np.asarray(table["id"]),
        x=np.asarray(table["slot_Centroid_x"]),
        y=np.asarray(table["slot_Centroid_y"]),
        color=np.asarray(table["psf_color_value"], dtype=float),
        color_type=np.asarray(table["psf_color_type"], dtype=str),
        width=27,
        footprints=src.footprints.take(np.searchsorted(src["id"], table["id"])),
    )
    return exposure, candidates, np.asarray(table["calib_psf_used"], dtype=bool)


def _config(root: Path, variant: str, fitter: str) -> PiffPsfDeterminerConfig:
    """Set options as in the stack's dump."""
    text = (root / "expected" / variant / "config.py").read_text()
    config = PiffPsfDeterminerConfig()
    for line in re.findall(r"^config\.psf_determiner\['piff'\](\.\w+=.*)$", text, re.MULTILINE):
        exec("config" + line, {"config": config})
    config.fitter = fitter
    return config


def _refit(root: Path, variant: str, detector: int, fitter: str) -> tuple[PsfFit, np.ndarray]:
    exposure, candidates, used = _inputs(root, variant, detector)
    task = PiffPsfDeterminerTask(config=_config(root, variant, fitter))
    return task.determine_psf(exposure, candidates), used


def _check(result: PsfFit, used: np.ndarray, grid: dict[str, np.ndarray], tolerance: float) -> None:
    np.testing.assert_array_equal(result.used, used)
    assert isinstance(result.psf, PiffPsf)
    x, y = grid["points"].T
    for name, images in (
        ("kernel_images", result.psf.draw_kernel_images(x, y)),
        ("star_images", result.psf.draw_star_images(x, y)[0]),
    ):
        np.testing.assert_allclose(images, grid[name], rtol=0, atol=tolerance * grid[name].max())


@pytest.mark.parametrize("detector", [0, 1])
@pytest.mark.parametrize("variant", _VARIANTS)
def test_images_are_the_stacks(tiny: Path, variant: str, detector: int) -> None:
    """PSFs made by the stack are drawn and measured as by the stack."""
    record, grid = _expected(tiny, variant, detector)
    psf = as_batch_psf(record.psf)
    x, y = grid["points"].T
    kernels, (stars, x0, y0) = psf.draw_kernel_images(x, y), psf.draw_star_images(x, y)
    # Rounding, amplified by cancellation in polynomials of high order.  For
    # field angles, AST's adaptive derivatives are reproducible to 1e-9 only.
    tolerance = (2e-9 if variant == "field" else 1e-12) * kernels.max()
    np.testing.assert_allclose(kernels, grid["kernel_images"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(stars, grid["star_images"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(psf.average_position, grid["average_position"], rtol=1e-14)
    # Sums are in float32, so that rounding of pixels can show up there.
    np.testing.assert_allclose(psf.compute_shapes(x, y), grid["shapes"], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(x0, np.floor(x + 0.5) - 12)
    np.testing.assert_array_equal(y0, np.floor(y + 0.5) - 12)


@pytest.mark.parametrize(
    ("variant", "tolerance"),
    # Conditioning of the normal equations; derivatives of field angles.
    [("default", 1e-9), ("color", 1e-9), ("lsstcam", 1e-8), ("field", 1e-8)],
)
def test_refit_is_the_stacks(tiny: Path, variant: str, tolerance: float) -> None:
    """A fit to the stack's image gives the stack's PSF and used stars."""
    result, used = _refit(tiny, variant, 1, "structured")
    _check(result, used, _expected(tiny, variant, 1)[1], tolerance)


def test_refit_of_a_large_image(golden_visit: Path) -> None:
    """Hundreds of stars among galaxies, blends and bad pixels, order 4."""
    result, used = _refit(golden_visit, "lsstcam", 2, "structured")
    _check(result, used, _expected(golden_visit, "lsstcam", 2)[1], 1e-8)
