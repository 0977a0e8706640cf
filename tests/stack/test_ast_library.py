# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests that nothing depends on which AST library lsst.images uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

DOUBLES = Path(__file__).parent / "doubles"
SCRIPT = """
import json, sys
from pathlib import Path

import astropy.wcs
import galsim
import numpy as np
from lsst.images import DetectorFrame, SkyProjection
from lsst.images._transforms import _ast
from lsst.meas.finalize.afw import read_exposure, read_exposure_catalog
from lsst.meas.finalize.afw.piff import celestial_wrapper, sky_origin, uv_wrapper
from lsst.meas.finalize.psf import as_batch_psf
from lsst.meas.finalize.simulate import VisitSimulation
from lsst.meas.finalize.simulate._camera import make_detector, make_sky_projection
from lsst.meas.finalize.stars._moments import local_cd_matrices

tiny = Path(sys.argv[1])
result = {"bridge": _ast.USING_STARLINK_PYAST}
exposure = read_exposure(next((tiny / "export/golden/inputs").glob("calexp/**/*S01*.fits")))
x, y = np.array([3.0, 400.5]), np.array([17.0, 250.25])
sky = exposure.sky_projection.pixel_to_sky(x=x, y=y)
result["sky"] = [sky.ra.deg.tolist(), sky.dec.deg.tolist()]
result["cd"] = local_cd_matrices(exposure.sky_projection, x, y).tolist()
field = exposure.detector.to_field_angle.apply_forward(x=x, y=y)
result["field"] = [np.asarray(field.x).tolist(), np.asarray(field.y).tolist()]
pointing = sky_origin(exposure)
result["pointing"] = [pointing.ra.rad, pointing.dec.rad]
for name, wrapper in (("uv", uv_wrapper), ("celestial", celestial_wrapper)):
    local = wrapper(exposure).local(galsim.PositionD(100.25, 200.5))
    result[name] = local.getMatrix().tolist()
for path in sorted((tiny / "expected").glob("*/detector_1/finalized_psf*.fits")):
    (psf,) = read_exposure_catalog(path).psfs
    result[path.parts[-3]] = as_batch_psf(psf).draw_kernel_images([100.25], [200.5], [0.5])[0, 10].tolist()
simulation = VisitSimulation(n_detectors=2, size=420)
detector = make_detector(simulation, 1)
frame = DetectorFrame(instrument="SynthCam", visit=1, detector=1, bbox=detector.bbox)
synthetic = make_sky_projection(simulation, detector, frame).pixel_to_sky(x=x, y=y)
result["synthetic"] = [synthetic.ra.deg.tolist(), synthetic.dec.deg.tolist()]
plane = detector.to_focal_plane.apply_forward(x=x, y=y)
result["plane"] = [np.asarray(plane.x).tolist(), np.asarray(plane.y).tolist()]
print(json.dumps(result))
"""


def run(tiny: Path, *path: Path) -> dict[str, Any]:
    """Run the script with these folders first on the path."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", SCRIPT, str(tiny)]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_both_libraries_give_the_same_numbers(tiny: Path) -> None:
    """Read images and PSFs with starlink-pyast and with astshim's names."""
    ours, stack = run(tiny), run(tiny, DOUBLES)
    assert ours.pop("bridge")
    assert not stack.pop("bridge")
    assert ours.keys() == stack.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(stack[name], value, rtol=1e-13, err_msg=name)
