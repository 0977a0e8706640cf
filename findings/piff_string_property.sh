#!/usr/bin/env bash
# Piff can't write a PSF whose stars have a text property.
#
# Versions: Piff 1.7.0, GalSim 2.8.5.
# Behaviour: properties of stars may be anything when a PSF is fitted,
# and the LSST stack sets one that is text ("colorType", the name of the color
# a chromatic fit was made with).  write() converts all properties to float and
# raises; the same PSF without that property is written.
# Output seen: color 0.5 written; colorType 'g-i' ValueError: could not convert string to float: 'g-i'
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check piff==1.7.0 galsim==2.8.5

cd "$folder"
venv/bin/python - <<'PYTHON'
import galsim
import numpy as np
import piff


def write(**properties):
    stars = []
    for x, y in np.random.default_rng(0).uniform(0, 1000, (6, 2)):
        image = galsim.Gaussian(sigma=1).drawImage(nx=25, ny=25, scale=0.2)
        weight = galsim.Image(np.ones((25, 25)))
        position = galsim.PositionD(x, y)
        data = piff.StarData(image, position, weight=weight, properties=dict(properties))
        stars.append(piff.Star(data, None))
    psf = piff.SimplePSF(piff.Gaussian(), piff.Mean())
    psf.fit(stars, {0: galsim.PixelScale(0.2)}, None)
    psf.write("psf.piff")


write(color=0.5)
print("color 0.5 written", end="; ")
try:
    write(colorType="g-i")
except ValueError as error:
    print(f"colorType 'g-i' {type(error).__name__}: {error}")
else:
    raise SystemExit("It is written now.")
PYTHON
