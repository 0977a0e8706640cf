#!/usr/bin/env bash
# Astropy takes ecliptic axes of a FITS WCS as right ascension and declination.
#
# Versions: astropy 8.0.2, starlink-pyast 4.2.0.
# Behaviour: CTYPE ELON/ELAT is one of the celestial systems of the FITS
# standard (paper II), and AST converts it.  In astropy pixel_to_world of such
# a header is a SkyCoord in ICRS whose ra and dec are the ecliptic longitude and
# latitude: there is no exception and no warning, and no other sign of it.
# GLON/GLAT is converted by both.
# Output seen: ELON astropy 10.0000 10.0000 AST 5.1744 13.1407; GLON astropy and AST 262.8929 -15.2080
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check astropy==8.0.2 starlink-pyast==4.2.0

"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
import starlink.Ast as Ast
from astropy.io import fits
from astropy.wcs import WCS


def first_pixel(system):
    header = fits.Header({"CTYPE1": f"{system}LON-TAN", "CTYPE2": f"{system}LAT-TAN"})
    for axis, scale in ((1, -1e-4), (2, 1e-4)):
        header.update({f"CRVAL{axis}": 10.0, f"CRPIX{axis}": 1.0, f"CD{axis}_{axis}": scale})
    sky = WCS(header).pixel_to_world(0, 0).icrs
    frames = Ast.FitsChan([card.image for card in header.cards]).read()
    frames.System = "ICRS"
    longitude, latitude = np.degrees(frames.tran([[1.0], [1.0]])).ravel()
    return (sky.ra.deg, sky.dec.deg), (longitude % 360, latitude)


astropy, ast = first_pixel("E")
print("ELON astropy {:.4f} {:.4f} AST {:.4f} {:.4f}".format(*astropy, *ast), end="; ")
assert np.allclose(astropy, 10.0, atol=1e-6), "It is converted now."
assert np.allclose(ast, (5.17435365, 13.14069434), atol=1e-4)
astropy, ast = first_pixel("G")
print("GLON astropy and AST {:.4f} {:.4f}".format(*ast))
assert np.allclose(astropy, ast, atol=1e-4)
PYTHON
