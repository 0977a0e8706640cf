#!/usr/bin/env bash
# Outlier rejection of Piff that may remove no star removes them all.
#
# Version: Piff 1.7.0 (GalSim 2.8.5).
# Behaviour: max_remove of the outliers "Chisq" is a number of stars per
# iteration, or a fraction below 1 that is rounded up.  With 0, and one star
# above the threshold, every star is flagged and 0 are reported as removed: the
# limit is the difference to the threshold of the "0th largest" star, which is
# that of the smallest (index -0).  A fit then ends without stars.  To keep all
# stars, "outliers" must be left out.
# Output seen: max_remove None: 1 of 9 flagged, 1 reported; 1: 1 of 9, 1; 0.01: 1 of 9, 1; 0: 9 of 9, 0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check Piff==1.7.0 GalSim==2.8.5

"$folder/venv/bin/python" - <<'PYTHON'
import galsim
import piff


def star(chisq):
    data = piff.StarData(galsim.Image(11, 11, scale=0.2), galsim.PositionD(6, 6))
    return piff.Star(data, piff.StarFit(params=None, chisq=chisq, dof=100))


stars = [star(chisq) for chisq in (80, 85, 90, 95, 100, 105, 110, 115, 400)]
found = {}
for most in (None, 1, 0.01, 0):
    after, reported = piff.ChisqOutliers(nsigma=4, max_remove=most).removeOutliers(stars)
    found[most] = sum(s.is_flagged for s in after), reported
    print(f"max_remove {most}: {found[most][0]} of {len(stars)} flagged, {reported} reported")
assert found[None] == found[1] == found[0.01] == (1, 1), found
assert found[0] == (9, 0), "With max_remove 0 stars are kept now."
PYTHON
