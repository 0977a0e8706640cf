#!/usr/bin/env bash
# astropy takes a card "CONTINUE=" for a continuation; CFITSIO doesn't.
#
# Versions: astropy 8.0.2, fitsio 1.4.2 (bundled CFITSIO 4.6).
# Behaviour: the FITS standard (4.0, section 4.2.1.2) has no value indicator in
# columns 9 and 10 of a CONTINUE card.  With one it is a keyword like others,
# without a value here; catalogues that the LSST stack has read and written
# again carry such cards.  CFITSIO returns the card in front of it intact.
# astropy glues the two together and can parse neither, whichever text card is
# in front.
# Output seen: fitsio 'x:y'; astropy VerifyError
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check astropy==8.0.2 fitsio==1.4.2

cd "$folder"
venv/bin/python - <<'PYTHON'
import fitsio
from astropy.io import fits

cards = [
    "SIMPLE  =                    T",
    "BITPIX  =                    8",
    "NAXIS   =                    0",
    "ALIAS   = 'x:y     '",
    "CONTINUE=                      / a comment",
    "LAST    =                    1",
    "END",
]
with open("cards.fits", "wb") as file:
    file.write("".join(card.ljust(80) for card in cards).ljust(2880).encode())
value = fitsio.read_header("cards.fits")["ALIAS"]
print(f"fitsio {value!r}", end="; ")
assert value == "x:y"
try:
    value = fits.getheader("cards.fits")["ALIAS"]
except fits.VerifyError as error:
    print("astropy", type(error).__name__)
else:
    raise SystemExit(f"astropy now gives {value!r}.")
PYTHON
