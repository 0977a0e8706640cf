#!/usr/bin/env bash
# lsst.images takes the coordinates of any FITS WCS for ICRS.
#
# Versions: lsst-images 30.2026.4300, astropy 8.0.2, starlink-pyast 4.2.0.
# Behaviour: SkyProjection.from_fits_wcs() makes a projection to ICRS.  The
# system of the header isn't looked at: positions of FK5 at another equinox
# come out as they are, labelled ICRS, and galactic longitude and latitude as
# right ascension and declination, without an error or a warning.
# Output seen: FK5 J1975 off by 1239 arcsec, GALACTIC off by 86.4 deg
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    lsst-images==30.2026.4300 astropy==8.0.2 starlink-pyast==4.2.0

cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
from astropy.wcs import WCS
from lsst.images import Box, DetectorFrame, SkyProjection

frame = DetectorFrame(instrument="any", detector=0, bbox=Box.factory[0:1000, 0:1000])
offsets = {}
for name, axes in (("FK5 J1975", ("RA---TAN", "DEC--TAN")), ("GALACTIC", ("GLON-TAN", "GLAT-TAN"))):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = axes
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, 2.0], [1.0, 1.0], [-1e-4, 1e-4]
    if name.startswith("FK5"):
        wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 1975.0
    wcs.wcs.set()
    found = SkyProjection.from_fits_wcs(wcs, pixel_frame=frame).pixel_to_sky(x=np.zeros(1), y=np.zeros(1))
    offsets[name] = wcs.pixel_to_world(0, 0).icrs.separation(found)[0]
print(f"FK5 J1975 off by {offsets['FK5 J1975'].arcsec:.0f} arcsec, GALACTIC off by {offsets['GALACTIC'].deg:.1f} deg")
assert 1200 < offsets["FK5 J1975"].arcsec < 1300
assert 80 < offsets["GALACTIC"].deg < 90
PYTHON
