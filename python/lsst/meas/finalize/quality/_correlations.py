# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Correlations of PSF residuals: the rho statistics."""

from __future__ import annotations

__all__ = ("RHO_NAMES", "RhoStatistics", "make_patches", "rho_statistics")

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._sphere import unit_vectors
from ._moments import distortion
from ._pair_sums import PairSums, sum_with_treecorr
from ._star_statistics import size_residuals

type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

RHO_NAMES = ("rho1", "rho2", "rho3", "rho4", "rho5", "rho3alt")
"""The rho statistics, in the order of their results."""

_MIN_SEPARATION, _MAX_SEPARATION, _N_BINS = 0.01, 100.0, 21  # arcmin, as upstream
_ARCMIN = 60 * 180 / np.pi
_STARS_PER_PATCH = 20
_MIN_PATCHES = 4
_PAIRS = {
    "rho1": ("de",),
    "rho2": ("e", "de"),
    "rho3": ("et",),
    "rho4": ("de", "et"),
    "rho5": ("e", "et"),
}
_PRODUCTS = (("de", "et", ("rho1", "rho3", "rho4")), ("e", "de", ("rho2",)), ("e", "et", ("rho5",)))
"""Fields that are correlated at once, and what that gives."""


@dataclass(frozen=True)
class RhoStatistics:
    """Rho statistics as functions of separation.

    Parameters
    ----------
    r_min, r_max
        Edges of the bins in arcmin, shape (bins,).
    mean_r
        Mean separation of the pairs; NaN where there are none.
    n_pairs
        Number of pairs.
    values, errors
        By name of the statistic; NaN where there are no pairs.
    error_method
        ``jackknife`` over patches of the sky, or ``shot`` noise for too few
        stars for that.
    """

    r_min: Floats
    r_max: Floats
    mean_r: Floats
    n_pairs: Floats
    values: dict[str, Floats]
    errors: dict[str, Floats]
    error_method: str


def make_patches(x: Floats, y: Floats, number: int = 16) -> Integers | None:
    """Divide stars into patches of equally many.

    Parameters
    ----------
    x, y
        Positions, shape (N,).
    number
        Largest number of patches; a power of two.

    Returns
    -------
    `numpy.ndarray` or `None`
        Patch of each star, shape (N,); `None` if there are too few stars
        for four patches of 20.
    """
    x, y = (np.where(np.isfinite(v), v, 0.0) for v in (x, y))
    while number >= _MIN_PATCHES and len(x) < number * _STARS_PER_PATCH:
        number //= 2
    if number < _MIN_PATCHES:
        return None
    patch = np.zeros(len(x), dtype=np.int64)
    done = 1
    while done < number:  # halve each patch along its longer side
        for p in range(done):
            rows = np.flatnonzero(patch == p)
            along = x if np.ptp(x[rows]) > np.ptp(y[rows]) else y
            order = rows[np.argsort(along[rows], kind="stable")]
            patch[order[len(order) // 2 :]] += done
        done *= 2
    return patch


def rho_statistics(
    x: Floats,
    y: Floats,
    star: Floats,
    psf: Floats,
    *,
    bin_slop: float | None = None,
    n_patches: int = 16,
    spherical: bool = False,
) -> RhoStatistics:
    """Measure rho1 to rho5 and rho3' (``rho3alt``).

    Parameters
    ----------
    x, y
        Positions in arcmin in a plane, or with ``spherical`` right ascension
        and declination in radians; shape (N,).
    star, psf
        Second moments xx, yy, xy of stars and model along these axes,
        shape (N, 3).
    bin_slop
        TreeCorr's tolerance at the edges of bins: 0 for exact sums over
        pairs, `None` for its default.
    n_patches
        Number of patches for the jackknife, a power of two; 0 for shot noise.
    spherical
        Whether positions are on a sphere, and arcs the distances.

    Returns
    -------
    `RhoStatistics`
        In upstream's bins, 21 from 0.01 to 100 arcmin.  Stars without finite
        position or moments are left out.

    Notes
    -----
    Spec 07 §7, with upstream's options for TreeCorr.  Ellipticities are
    distortions divided by two, sizes trace radii: with the residual δe =
    e_star − e_psf and t = (T_star − T_psf)/T_star, rho1 is ⟨δe* δe⟩, rho2
    ⟨e* δe⟩, rho3 ⟨(et)* et⟩, rho4 ⟨δe* et⟩, rho5 ⟨e* et⟩ and rho3alt ⟨t t⟩
    (Rowe 2010, MNRAS 404, 350; Jarvis et al. 2016, MNRAS 460, 2245).
    Jackknife errors are those of `PairSums`.
    """
    good = np.isfinite(x) & np.isfinite(y)
    with np.errstate(invalid="ignore"):
        e, t = distortion(star) / 2, size_residuals(star, psf)
        de = e - distortion(psf) / 2
    good &= np.isfinite(e).all(axis=1) & np.isfinite(de).all(axis=1) & np.isfinite(t)
    x, y, e, de, t = x[good], y[good], e[good], de[good], t[good]
    if len(x) < 2:
        return _no_pairs()
    patch = make_patches(*(_plane(x, y) if spherical else (x, y)), n_patches) if n_patches else None
    options = _options(bin_slop, spherical)
    if patch is None:
        rho = _measure(_catalogs(x, y, e, de, t, spherical), options)
    else:
        rows = [np.flatnonzero(patch == p) for p in range(int(patch.max()) + 1)]
        if spherical:
            fields = [_catalogs(x[r], y[r], e[r], de[r], t[r], spherical) for r in rows]
            rho = _measure_patches(fields, options)
        else:
            rho = _measure_plane(x, y, e, de, t, rows, options)
    if bin_slop == 0 and not spherical:
        # TreeCorr keeps values at single precision.
        rho.values.update(_exact_values(x, y, e, de, t))
    return rho


def _catalogs(x: Floats, y: Floats, e: Floats, de: Floats, t: Floats, spherical: bool) -> dict[str, Any]:
    import treecorr

    where: dict[str, Any] = {"x": x, "y": y}
    if spherical:
        where = {"ra": x, "dec": y, "ra_units": "rad", "dec_units": "rad"}
    return {
        name: treecorr.Catalog(**where, g1=g[:, 0], g2=g[:, 1], k=t)
        for name, g in (("e", e), ("de", de), ("et", e * t[:, None]))
    }


def _options(bin_slop: float | None, spherical: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "nbins": _N_BINS,
        "min_sep": _MIN_SEPARATION,
        "max_sep": _MAX_SEPARATION,
        "bin_type": "Log",
        "bin_slop": bin_slop,
        "angle_slop": bin_slop,
        "verbose": 0,
        "num_threads": 1,  # a quantum is one core
        "var_method": "shot",
    }
    if spherical:
        options.update(sep_units="arcmin", metric="Arc")
    return options


def _measure(fields: dict[str, Any], options: dict[str, Any]) -> RhoStatistics:
    """Correlate everything, with errors of shot noise."""
    import treecorr

    values, errors = {}, {}
    scalar = treecorr.KKCorrelation(**options)
    scalar.process(fields["e"])
    for name, names in _PAIRS.items():
        correlation = treecorr.GGCorrelation(**options)
        correlation.process(*(fields[n] for n in names))
        values[name], errors[name] = correlation.xip, _error(correlation.varxip)
    values["rho3alt"], errors["rho3alt"] = scalar.xi, _error(scalar.varxi)
    return _result(np.array(scalar.meanr), np.array(scalar.npairs), values, errors, "shot")


def _measure_patches(fields: list[dict[str, Any]], options: dict[str, Any]) -> RhoStatistics:
    """Correlate patch by patch, with errors of the jackknife."""
    import treecorr

    by_name = {name: [patch[name] for patch in fields] for name in fields[0]}
    scalar = treecorr.KKCorrelation(**options)
    sums = sum_with_treecorr(scalar, by_name["e"], None, ("xi", "meanr", "npairs"))
    found = {"rho3alt": sums["xi"]}
    for name, (first, *others) in _PAIRS.items():
        correlation = treecorr.GGCorrelation(**options)
        second = by_name[others[0]] if others else None
        found[name] = sum_with_treecorr(correlation, by_name[first], second, ("xip",))["xip"]
    return _collect(found, sums, _ARCMIN if options.get("metric") == "Arc" else 1.0)


def _collect(found: dict[str, PairSums], sums: dict[str, PairSums], unit: float = 1.0) -> RhoStatistics:
    values = {name: found[name].mean() for name in RHO_NAMES}
    errors = {name: found[name].jackknife_error() for name in RHO_NAMES}
    mean_r, n_pairs = sums["meanr"].mean() * unit, sums["npairs"].products.sum(axis=0)
    return _result(mean_r, n_pairs, values, errors, "jackknife")


def _measure_plane(
    x: Floats, y: Floats, e: Floats, de: Floats, t: Floats, rows: Sequence[Integers], options: dict[str, Any]
) -> RhoStatistics:
    """Correlate patch by patch in a plane, where ⟨a* b⟩ is ⟨a1 b1⟩ + ⟨a2 b2⟩.

    With complex z = a + ib, ⟨z z*⟩ is ⟨a a⟩ + ⟨b b⟩, ⟨z z⟩ is
    ⟨a a⟩ − ⟨b b⟩ + 2i ⟨a b⟩: one walk through the pairs for three products.
    """
    import treecorr

    # Of like size, as sums and differences are at single precision.
    scale = {"e": _rms(e), "de": _rms(de), "et": _rms(e * t[:, None])}
    fields = {name: v / scale[name] for name, v in (("e", e), ("de", de), ("et", e * t[:, None]))}
    found: dict[str, PairSums] = {}
    for a, b, names in _PRODUCTS:
        parts = []
        for axis in (0, 1):
            z1, z2 = fields[a][:, axis], fields[b][:, axis]
            catalogs = [treecorr.Catalog(x=x[r], y=y[r], z1=z1[r], z2=z2[r]) for r in rows]
            correlation = treecorr.ZZCorrelation(**options)
            parts.append(sum_with_treecorr(correlation, catalogs, None, ("xip", "xim", "xim_im")))
        plus, minus, cross = (
            parts[0][name].products + parts[1][name].products for name in ("xip", "xim", "xim_im")
        )
        whole = parts[0]["xip"]
        products = {(a, a): (plus + minus) / 2, (b, b): (plus - minus) / 2, (a, b): cross / 2}
        for name in names:
            one, other = _PAIRS[name][0], _PAIRS[name][-1]
            size = scale[one] * scale[other]
            values = products[one, other] * size
            found[name] = PairSums(whole.first, whole.second, values, whole.weight)
    catalogs = [treecorr.Catalog(x=x[r], y=y[r], k=t[r]) for r in rows]
    sums = sum_with_treecorr(treecorr.KKCorrelation(**options), catalogs, None, ("xi", "meanr", "npairs"))
    return _collect(found | {"rho3alt": sums["xi"]}, sums)


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) or 1.0


def _result(
    mean_r: Floats, n_pairs: Floats, values: dict[str, Floats], errors: dict[str, Floats], method: str
) -> RhoStatistics:
    """Say what there is no pair for."""
    for array in (mean_r, *values.values(), *errors.values()):
        array[n_pairs == 0] = np.nan
    edges = _edges()
    return RhoStatistics(edges[:-1], edges[1:], mean_r, n_pairs, values, errors, method)


def _exact_values(x: Floats, y: Floats, shape: Floats, residual: Floats, t: Floats) -> dict[str, Floats]:
    """Sum over all pairs at double precision."""
    e, de = shape[:, 0] + 1j * shape[:, 1], residual[:, 0] + 1j * residual[:, 1]
    fields = {"e": e, "de": de, "et": e * t, "t": t + 0j}
    pairs = {**_PAIRS, "rho3alt": ("t",)}
    sums = {name: np.zeros(_N_BINS + 2) for name in pairs}
    counts = np.zeros(_N_BINS + 2)
    # Blocks of rows, so that memory stays small.
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) ** 2 // 1_000_000)):
        distance = np.hypot(x[rows, None] - x, y[rows, None] - y).ravel()
        bins = np.searchsorted(_edges(), distance, side="right")
        counts += np.bincount(bins, minlength=_N_BINS + 2)
        for name, names in pairs.items():
            products = (fields[names[0]][rows, None].conj() * fields[names[-1]]).real.ravel()
            sums[name] += np.bincount(bins, weights=products, minlength=_N_BINS + 2)
    with np.errstate(invalid="ignore"):
        return {name: (total / counts)[1:-1] for name, total in sums.items()}


def _edges() -> Floats:
    return np.geomspace(_MIN_SEPARATION, _MAX_SEPARATION, _N_BINS + 1)


def _error(variance: Floats) -> Floats:
    """Return errors; none where patches gave no variance."""
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def _no_pairs() -> RhoStatistics:
    values = {name: np.full(_N_BINS, np.nan) for name in RHO_NAMES}
    errors = {name: np.full(_N_BINS, np.nan) for name in RHO_NAMES}
    edges, nothing = _edges(), np.zeros(_N_BINS)
    return RhoStatistics(edges[:-1], edges[1:], nothing * np.nan, nothing, values, errors, "shot")


def _plane(ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Return positions in some plane, good enough to make patches."""
    vectors = unit_vectors(ra, dec)
    axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2]
    return vectors @ axes[0], vectors @ axes[1]
