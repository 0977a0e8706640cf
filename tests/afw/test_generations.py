# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Every kind of PSF, WCS wrapper and field through three generations of
reading and writing, each in a fresh process.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from lsst.images import Box, Polygon
from lsst.images.fields import ChebyshevField, ProductField
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog, write_exposure_catalog
from lsst.meas.finalize.afw.archive import ArchiveReader, StoredObject
from lsst.meas.finalize.afw.components import PhotoCalib, PixelAreaField, TransformField
from lsst.meas.finalize.afw.components._transmission import IdentityTransmissionCurve
from lsst.meas.finalize.afw.components._visit_info import VisitInfo, read_visit_info_cards
from lsst.meas.finalize.afw.fits import open_fits_in_memory
from lsst.meas.finalize.afw.piff._wcs import celestial_wrapper, uv_wrapper
from lsst.meas.finalize.afw.wcs import AfwTransform
from lsst.meas.finalize.catalogs import ExposureCatalog, Schema

from .conftest import RawRow

_GEOMETRY: list[tuple[str, str, Any]] = [
    ("dimensions_x", "I", 15),
    ("dimensions_y", "I", 13),
    ("center_x", "I", 7),
    ("center_y", "I", 6),
]
_BOX = Box.factory[0:520, 0:560]
_POLY_MAP = (
    "Begin PolyMap\n Nin = 2\n Nout = 1\n IsA Mapping\n MPF1 = 1\n MPF2 = 1\n NCF1 = 3\n CF1 = 2\n"
    " CF2 = 0.001\n CF3 = 1e-06\n PF3 = 1\n PF5 = 1\n PF6 = 1\n IterInv = 0\nEnd PolyMap\n"
)


def _kernel_psf(name: str, kernel: RawRow) -> RawRow:
    position = [("averagePosition_x", "D", 5.0), ("averagePosition_y", "D", 4.0)]
    return RawRow(name, [[("kernel", "I", kernel), *position]])


def _gaussian(name: str, width: int, height: int) -> RawRow:
    return RawRow(name, [[("dimensions_x", "I", width), ("dimensions_y", "I", height), ("sigma", "D", 1.7)]])


def _combination(name: str, kernels: list[RawRow], functions: list[RawRow]) -> RawRow:
    columns: list[tuple[str, str, Any]] = [("components", "ArrayI", kernels)]
    if functions:
        columns.insert(0, ("spatialfunctions", "ArrayI", functions))
    else:
        columns.append(("amplitudes", "ArrayD", [0.7] * len(kernels)))
    return _kernel_psf(name, RawRow("LinearCombinationKernel", [[*_GEOMETRY, *columns]]))


def _psfex() -> RawRow:
    components = np.random.default_rng(5).uniform(0.1, 1.0, size=(3, 21, 21)).astype(np.float32)
    first: list[tuple[str, str, Any]] = [
        ("ndim", "I", 2),
        ("ngroup", "I", 1),
        ("ncoeff", "I", 3),
        ("_size_size", "I", 3),
        ("_comp_size", "I", components.size),
        ("_context_size", "I", 2),
        ("averagePosition_x", "D", 90.0),
        ("averagePosition_y", "D", 40.0),
        ("_pixstep", "F", 0.77),
    ]
    second: list[tuple[str, str, Any]] = [
        ("group", "ArrayI", [0, 0]),
        ("degree", "ArrayI", [1]),
        ("basis", "ArrayD", np.zeros(3)),
        ("coeff", "ArrayD", np.zeros(3)),
        ("_size", "ArrayI*", np.array([21, 21, 3])),
        ("_comp", "ArrayF*", components.ravel()),
        ("_context_first", "ArrayD", [100.0, 50.0]),
        ("_context_second", "ArrayD", [100.0, 50.0]),
    ]
    return RawRow("PsfexPsf", [first, second])


def _raw_psfs() -> dict[str, RawRow]:
    """Return PSFs that only the stack makes, all that spec 02 §6 has."""
    image = np.random.default_rng(4).uniform(0.1, 1.0, size=195)
    fixed = RawRow("FixedKernel", [[*_GEOMETRY, ("image", "ArrayD", image)]])
    ellipse = [("sigma1", "D", 2.0), ("sigma2", "D", 1.0), ("angle", "D", 0.3)]
    analytic, double = (
        RawRow("AnalyticKernel", [[*_GEOMETRY, ("kernelfunction", "I", function)]])
        for function in (
            RawRow("GaussianFunction2F", [ellipse]),
            RawRow("DoubleGaussianFunction2D", [[*ellipse[:2], ("ampl2", "D", 0.3)]]),
        )
    )
    delta = RawRow("DeltaFunctionKernel", [[*_GEOMETRY, ("pixel_x", "I", 9), ("pixel_y", "I", 4)]])
    polynomials = [
        RawRow(f"PolynomialFunction2{letter}", [[("coefficients", "ArrayD", [1.0, 0.02, -0.01])]])
        for letter in "DF"
    ]
    limits = [("min_x", "D", 0.0), ("min_y", "D", -10.0), ("max_x", "D", 500.0), ("max_y", "D", 900.0)]
    chebyshevs = [
        RawRow(f"Chebyshev1Function2{letter}", [[("coefficients", "ArrayD", [2.0, 0.1, 0.2]), *limits]])
        for letter in "DF"
    ]
    double_gaussian = _gaussian("DoubleGaussianPsf", 21, 20)
    double_gaussian.tables[0][2:] = [("sigma1", "D", 1.5), ("sigma2", "D", 3.0), ("b", "D", 0.1)]
    return {
        "Gaussian": _gaussian("GaussianPsf", 21, 21),
        "Gaussian of unequal sides": _gaussian("GaussianPsf", 20, 23),
        "SingleGaussian": _gaussian("SingleGaussianPsf", 21, 21),
        "SingleGaussian of even sides": _gaussian("SingleGaussianPsf", 20, 22),
        "DoubleGaussian": double_gaussian,
        "fixed": _kernel_psf("KernelPsf", fixed),
        "analytic": _kernel_psf("KernelPsf", analytic),
        "delta": _kernel_psf("PcaPsf", delta),
        "constant combination": _combination("KernelPsf", [double, fixed, delta], []),
        "varying combination": _combination(
            "PcaPsf", [fixed, analytic, double, delta], polynomials + chebyshevs
        ),
        "Psfex": _psfex(),
        "Warped": RawRow("WarpedPsf", [[("psf", "I", _gaussian("GaussianPsf", 21, 21)), ("x", "D", 3.5)]]),
        "Coadd": RawRow("CoaddPsf", [[("x", "D", 1.25)], [("weight", "ArrayD", [1.0, 2.0, 3.0])]]),
    }


@pytest.fixture(scope="module")
def first(tiny: Path, stack_files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a catalogue with all kinds of components, and what its PSFs
    are.
    """
    psfs: dict[str, Any] = {
        variant: read_exposure_catalog(
            tiny / f"expected/{variant}/detector_0/finalized_psf_ap_corr_detector_catalog.fits"
        )[0].psf
        for variant in ("default", "color", "field", "lsstcam")
    }
    psfs["sky"] = read_exposure_catalog(stack_files / "expcat_piff_sky.fits")[0].psf
    (path,) = tiny.glob("export/**/calexp_*_S00_*.fits")
    # Wrappers made here, as fits make them, beside those of the stack.
    exposure = read_exposure(path)
    for name, make in (("our field", uv_wrapper), ("our sky", celestial_wrapper)):
        psfs[name] = copy.deepcopy(psfs[name.split()[1]])
        psfs[name].piff_psf.wcs = {0: make(exposure)}
    psfs |= _raw_psfs()
    catalog = ExposureCatalog(Schema.exposure_minimal(), len(psfs))
    catalog["id"] = np.arange(len(psfs))
    catalog.psfs = psfs.values()

    archive = ArchiveReader(open_fits_in_memory(path), 4)
    header = fits.getheader(path)
    components = {
        name: archive.get(header[f"ARCHIVE_ID_{key}"])
        for name, key in (
            ("wcs", "SKYWCS"),
            ("photoCalib", "PHOTOCALIB"),
            ("detector", "DETECTOR"),
            ("validPolygon", "VALID_POLYGON"),
        )
        if f"ARCHIVE_ID_{key}" in header
    }
    components.setdefault("validPolygon", Polygon(x_vertices=[0, 0, 9.5], y_vertices=[0, 9, 9]))
    components["visitInfo"] = VisitInfo(read_visit_info_cards(header))
    components["transmissionCurve"] = IdentityTransmissionCurve()
    for name, obj in components.items():
        catalog.components[name][0] = obj

    transform = TransformField(_BOX, AfwTransform("TransformPoint2ToGeneric", _POLY_MAP))
    area = PixelAreaField(_BOX, components["wcs"], 1e10)
    chebyshev = ChebyshevField(_BOX, np.array([[1.0, 0.25], [0.5, 0.0]]))
    mixed = open_fits_in_memory(stack_files / "exposure_apcorr_mixed.fits")
    map_id = fits.getheader(stack_files / "exposure_apcorr_mixed.fits")["AP_CORR_MAP_ID"]
    catalog.ap_corr_maps = [None] * len(psfs)
    catalog.ap_corr_maps[0] = {
        "area": area,
        "chebyshev": chebyshev,
        "product": ProductField([transform, chebyshev, area, ProductField([area, chebyshev])]),
        "scaled": transform * 2.5,
        "transform": transform,
    }
    catalog.ap_corr_maps[1] = StoredObject(ArchiveReader(mixed, 4), map_id, dict, "map")
    catalog.components["photoCalib"][1] = PhotoCalib(2.0, 0.1, ProductField([transform, chebyshev]))
    target = tmp_path_factory.mktemp("generations") / "0.fits"
    write_exposure_catalog(catalog, target)
    return target, list(psfs)


_GENERATION = """
import json, sys
import numpy as np
from lsst.meas.finalize.afw import (
    UnsupportedPersistableError, read_exposure_catalog, write_exposure_catalog
)
from lsst.meas.finalize.afw.fits import open_fits_in_memory
from lsst.meas.finalize.afw.archive import ArchiveReader

catalog = read_exposure_catalog(sys.argv[1])
archive = ArchiveReader(open_fits_in_memory(sys.argv[1]), 2)
found = {"names": sorted(set(archive.names.tolist())), "psfs": [], "maps": [], "components": {}}
for psf in catalog.raw_objects()["psf"]:
    try:
        made = psf.get()
    except UnsupportedPersistableError as error:
        found["psfs"].append([psf.name, str(error).split("/")[-1].partition(" ")[2]])
        continue
    kernel, star = (
        f(x=100.0, y=y).array
        for f, y in ((made.compute_kernel_image, 200.0), (made.compute_stellar_image, 200.4))
    )
    numbers = [kernel.max(), kernel[2, 3], star.max(), star[3, 2]]
    found["psfs"].append([psf.name, type(made).__name__, str(made.kernel_bbox), *map(float, numbers)])
for fields in catalog.ap_corr_maps[:2]:
    for name, field in fields.items():
        try:
            found["maps"].append([name, field(x=50.25, y=70.5)])
        except UnsupportedPersistableError:
            found["maps"].append([name, "unsupported"])
for name, objects in catalog.components.items():
    found["components"][name] = [type(obj).__name__ for obj in objects[:2]]
wcs, calib = catalog.components["wcs"][0], catalog.components["photoCalib"][1]
found["sky"] = np.ravel(wcs.pixel_to_sky(50.0, 70.0)).tolist()
found["calib"] = calib.field(x=50.0, y=70.0)
write_exposure_catalog(catalog, sys.argv[2])
print(json.dumps(found))
"""


def test_three_generations(first: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Draw and evaluate the same each time, and keep what can't be."""
    path, kinds = first
    generations = []
    for number in range(3):
        target = tmp_path / f"{number + 1}.fits"
        command = [sys.executable, "-c", _GENERATION, str(path), str(target)]
        generations.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        path = target
    one = generations[0]
    for kind, psf in zip(kinds, one["psfs"], strict=True):
        # Nothing is known about these, so that the whole archive is kept.
        if kind in ("Warped", "Coadd"):
            assert psf[0] == f"{kind}Psf"
            assert f"'{kind}Psf' can't be read" in psf[1]
        else:
            assert np.isfinite(psf[-4:]).all()
    peaks = {kind: psf[3] for kind, psf in zip(kinds, one["psfs"], strict=True) if len(psf) > 3}
    # What the stack draws.
    assert peaks["sky"] == pytest.approx(0.0449007254331, abs=1e-11)
    assert peaks["our sky"] == pytest.approx(peaks["sky"], rel=1e-9)
    assert peaks["our field"] == pytest.approx(peaks["field"], rel=1e-9)
    assert dict(one["maps"][:5])["transform"] == pytest.approx(2 + 0.05025 + 1e-6 * 50.25 * 70.5, rel=1e-14)
    assert dict(one["maps"][5:])["coadd"] == "unsupported"
    for other in generations[1:]:
        assert other == one
