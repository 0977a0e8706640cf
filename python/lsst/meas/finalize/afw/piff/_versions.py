# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""What PSFs pickled by other versions of Piff lack, or have otherwise
(spec 02 §7.1).
"""

from __future__ import annotations

__all__ = ("update_psf",)

from typing import Any

_ADDED: dict[str, dict[str, Any]] = {
    # Piff 1.4: _num, niter, _fit_flux, _init, degenerate_points and
    # quadratic_chisq; 1.5: solver; 1.6: min_iter, _maxk, _stepk.
    "psf": {
        "_num": None,
        "niter": None,
        "min_iter": 2,
        "pointing": None,
        "degenerate_points": False,
        "quadratic_chisq": False,
    },
    "model": {"_num": None, "_fit_flux": None, "_init": None, "_maxk": 0.0, "_stepk": 0.0},
    "interp": {"_num": None, "_max_order": None, "degenerate_points": False},
}
"""Attributes by object, with the values that draw as the older version did."""


def update_psf(psf: Any) -> None:
    """Bring a PSF restored from a pickle up to date.

    Parameters
    ----------
    psf : `piff.SimplePSF`
        PSF pickled by Piff 1.1 or later, its parts of the classes they should
        be; modified in place.
    """
    for part, obj in (("psf", psf), ("model", psf.model), ("interp", psf.interp)):
        for name, value in _ADDED[part].items():
            obj.__dict__.setdefault(name, value)
    # Piff 1.5 replaced a switch by a name.
    use_qr = psf.interp.__dict__.pop("use_qr", False)
    psf.interp.__dict__.setdefault("solver", "qr" if use_qr else "scipy")
    if psf.interp.kwargs.pop("use_qr", None) is not None:
        psf.interp.kwargs.setdefault("solver", psf.interp.solver)
    # Piff 1.7 made one object a list of them.
    outliers = psf.__dict__.get("outliers")
    if not isinstance(outliers, list | tuple):
        psf.outliers = [] if outliers is None else [outliers]
    for outlier in psf.outliers:
        # Piff 1.4 removed the option.
        outlier.__dict__.pop("include_reserve", None)
        outlier.kwargs.pop("include_reserve", None)
