#!/usr/bin/env bash
# lsst-images writes PSFs of Piff 1.7 that it cannot read.
#
# Versions: lsst-images 30.2026.4300, Piff 1.7.0, GalSim 2.8.5.
# Behaviour: a PiffWrapper is serialized without complaint; reading the file
# raises AttributeError, as Piff 1.7 asks its reader for read_bandpass, which
# the reader of lsst-images (and its writer) knows nothing of.
# Output seen: '_ArchivePiffReader' object has no attribute 'read_bandpass'
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    lsst-images==30.2026.4300 piff==1.7.0 galsim==2.8.5 requests pyarrow starlink-pyast

cd "$folder"
venv/bin/python - <<'PYTHON'
import galsim
import numpy as np
import piff
from lsst.images import Box
from lsst.images.json import write
from lsst.images.psfs import PiffWrapper
from lsst.images.serialization import read_archive

rng = np.random.default_rng(1)
stars = []
for x, y in rng.uniform(50, 450, (12, 2)):
    image = galsim.Gaussian(sigma=1.6).drawImage(nx=25, ny=25, scale=1.0, dtype=float)
    image.setCenter(int(x), int(y))
    weight = galsim.ImageD(np.ones((25, 25)), xmin=image.xmin, ymin=image.ymin)
    stars.append(piff.Star(piff.StarData(image, galsim.PositionD(x, y), weight=weight), None))
psf = piff.PSF.process(
    {
        "type": "Simple",
        "model": {"type": "PixelGrid", "scale": 1.0, "size": 15, "interp": "Lanczos(5)"},
        "interp": {"type": "BasisPolynomial", "order": 1},
    }
)
psf.fit(stars, {0: galsim.PixelScale(1.0)}, None)
write(PiffWrapper(psf, Box.from_shape((500, 500)), 25), "psf.json")
try:
    read_archive("psf.json", PiffWrapper)
except AttributeError as error:
    print(error)
    assert "read_bandpass" in str(error)
else:
    raise SystemExit("It can be read now.")
PYTHON
