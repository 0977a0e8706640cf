# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Criteria that source selectors are made of."""

from __future__ import annotations

__all__ = (
    "BaseLimit",
    "CentroidErrorLimit",
    "ColorLimit",
    "CullFromMaskedRegion",
    "FluxLimit",
    "MagnitudeErrorLimit",
    "MagnitudeLimit",
    "RequireFiniteRaDec",
    "RequireFlags",
    "RequireIsolated",
    "RequirePrimary",
    "SignalToNoiseLimit",
    "StarGalaxyLimit",
)

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lsst.pex.config import Config, Field, ListField

from ._columns import get_column, get_optional_column, n_rows

if TYPE_CHECKING:
    from lsst.images import VisitImage

type Selection = npt.NDArray[np.bool_]

# AB magnitude of 1 nJy.
_NJY_ZERO_POINT = 31.4


def _magnitudes(flux: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Convert fluxes in nJy to AB magnitudes; NaN where not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _NJY_ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def _unflagged(catalog: Any, flux_field: str, option: str) -> Selection:
    """Select rows without ``<flux_field>_flag``.

    For ordinary ``…_instFlux`` fields there is no such column and nothing is
    tested, as upstream (spec 01 §3).
    """
    flag = get_optional_column(catalog, flux_field + "_flag", option)
    return np.ones(n_rows(catalog), dtype=bool) if flag is None else ~flag.astype(bool)


class BaseLimit(Config):
    """Strict bounds on a value; NaN fails as soon as there is a bound."""

    minimum: Field[float] = Field("Select objects with value greater than this", dtype=float, optional=True)
    maximum: Field[float] = Field("Select objects with value less than this", dtype=float, optional=True)

    def within(self, values: npt.NDArray[np.floating]) -> Selection:
        """Test values against the bounds.

        Parameters
        ----------
        values : `numpy.ndarray`
            Values, (N,).

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.
        """
        selected = np.ones(len(values), dtype=bool)
        with np.errstate(invalid="ignore"):
            if self.minimum is not None:
                selected &= values > self.minimum
            if self.maximum is not None:
                selected &= values < self.maximum
        return selected


class FluxLimit(BaseLimit):
    """Bounds on a flux."""

    fluxField: Field[str] = Field(
        "Name of the source flux field to use.", dtype=str, default="slot_CalibFlux_instFlux"
    )

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows within the bounds whose flux flag is unset.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        flux = get_column(catalog, self.fluxField, f"{option}.fluxField")
        return _unflagged(catalog, self.fluxField, option) & self.within(flux)


class MagnitudeLimit(BaseLimit):
    """Bounds on the AB magnitude of a flux in nJy."""

    fluxField: Field[str] = Field("Name of the source flux field to use.", dtype=str, default="flux")

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows within the bounds whose flux flag is unset.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        flux = get_column(catalog, self.fluxField, f"{option}.fluxField")
        return _unflagged(catalog, self.fluxField, option) & self.within(_magnitudes(flux))


class ColorLimit(BaseLimit):
    """Bounds on the colour of two fluxes in nJy."""

    primary: Field[str] = Field("Name of column with primary flux measurement", dtype=str)
    secondary: Field[str] = Field("Name of column with secondary flux measurement", dtype=str)

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows by magnitude(primary) minus magnitude(secondary).

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        primary = get_column(catalog, self.primary, f"{option}.primary")
        secondary = get_column(catalog, self.secondary, f"{option}.secondary")
        return self.within(_magnitudes(primary) - _magnitudes(secondary))


class SignalToNoiseLimit(BaseLimit):
    """Bounds on flux over error."""

    fluxField: Field[str] = Field("Name of the source flux field to use.", dtype=str, default="flux")
    errField: Field[str] = Field("Name of the source flux error field to use.", dtype=str, default="flux_err")

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows; one without a positive error never passes.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        flux = get_column(catalog, self.fluxField, f"{option}.fluxField")
        err = get_column(catalog, self.errField, f"{option}.errField")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(err > 0, flux / err, np.nan)
        return _unflagged(catalog, self.fluxField, option) & ~np.isnan(ratio) & self.within(ratio)


class MagnitudeErrorLimit(BaseLimit):
    """Bounds on a magnitude error."""

    magErrField: Field[str] = Field(
        "Name of the source flux error field to use.", dtype=str, default="mag_err"
    )

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows by their magnitude error.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        return self.within(get_column(catalog, self.magErrField, f"{option}.magErrField"))


class StarGalaxyLimit(BaseLimit):
    """Bounds on a star-galaxy classifier."""

    name: Field[str] = Field(
        "Name of column for star/galaxy separation",
        dtype=str,
        default="base_ClassificationSizeExtendedness_value",
    )

    def setDefaults(self) -> None:
        """Prefer unresolved objects."""
        self.maximum = 0.1

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows by their class.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        return self.within(get_column(catalog, self.name, f"{option}.name"))


class CentroidErrorLimit(BaseLimit):
    """Bounds on both centroid errors, in pixels."""

    centroidField: Field[str] = Field(
        "Name of the source centroid field to use.", dtype=str, default="slot_Centroid"
    )

    def setDefaults(self) -> None:
        """Refuse centroids worse than 3 pixels."""
        self.maximum = 3.0

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows with finite errors within the bounds.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        selected = np.ones(n_rows(catalog), dtype=bool)
        for suffix in ("_xErr", "_yErr"):
            err = get_column(catalog, self.centroidField + suffix, f"{option}.centroidField")
            selected &= np.isfinite(err) & self.within(err)
        return selected


class RequireFlags(Config):
    """Flags that must or must not be set."""

    good: ListField[str] = ListField(
        "List of source flag fields that must be set for a source to be used.", dtype=str, default=[]
    )
    bad: ListField[str] = ListField(
        "List of source flag fields that must NOT be set for a source to be used.", dtype=str, default=[]
    )

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows with all good and no bad flags.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        selected = np.ones(n_rows(catalog), dtype=bool)
        for flag in self.good:
            selected &= get_column(catalog, flag, f"{option}.good").astype(bool)
        for flag in self.bad:
            selected &= ~get_column(catalog, flag, f"{option}.bad").astype(bool)
        return selected


class RequireIsolated(Config):
    """Neither a child nor a parent of a blend."""

    parentName: Field[str] = Field("Name of column for parent", dtype=str, default="parent")
    nChildName: Field[str] = Field("Name of column for nChild", dtype=str, default="deblend_nChild")

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows without parent and children.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        parent = get_column(catalog, self.parentName, f"{option}.parentName")
        n_child = get_column(catalog, self.nChildName, f"{option}.nChildName")
        return (parent == 0) & (n_child == 0)


class RequireFiniteRaDec(Config):
    """Finite sky coordinates."""

    raColName: Field[str] = Field("Name of column for RA coordinate", dtype=str, default="coord_ra")
    decColName: Field[str] = Field("Name of column for Dec coordinate", dtype=str, default="coord_dec")

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select rows with finite coordinates.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        ra = get_column(catalog, self.raColName, f"{option}.raColName")
        dec = get_column(catalog, self.decColName, f"{option}.decColName")
        return np.isfinite(ra) & np.isfinite(dec)


class RequirePrimary(Config):
    """Primary sources."""

    primaryColName: Field[str] = Field("Name of primary flag column", dtype=str, default="detect_isPrimary")

    def apply(self, catalog: Any, option: str) -> Selection:
        """Select primary rows.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        """
        return get_column(catalog, self.primaryColName, f"{option}.primaryColName").astype(bool)


class CullFromMaskedRegion(Config):
    """Positions outside masked regions of an image."""

    badMaskNames: ListField[str] = ListField(
        "List of mask planes for which sources should be removed if a bit is set.",
        dtype=str,
        default=["NO_DATA", "NOT_DEBLENDED"],
    )
    xColName: Field[str] = Field("Name of column for image x coordinate.", dtype=str, default="centroid_x")
    yColName: Field[str] = Field("Name of column for image y coordinate.", dtype=str, default="centroid_y")

    def apply(self, catalog: Any, option: str, exposure: VisitImage | None) -> Selection:
        """Select rows whose pixel lies in the image and isn't masked.

        Parameters
        ----------
        catalog : any
            Table-like object, see `BaseSourceSelectorTask.run`.
        option : `str`
            Name of this configuration, for error messages.
        exposure : `lsst.images.VisitImage` or `None`
            Image whose mask is looked up.

        Returns
        -------
        selected : `numpy.ndarray`
            (N,) bool.

        Raises
        ------
        KeyError
            Raised if a column is missing.
        RuntimeError
            Raised if there is no exposure.
        """
        from ..catalogs import cut_stamps

        if exposure is None:
            raise RuntimeError(f"{option}: an exposure is needed to look up its mask.")
        x = get_column(catalog, self.xColName, f"{option}.xColName")
        y = get_column(catalog, self.yColName, f"{option}.yColName")
        selected = np.isfinite(x) & np.isfinite(y)
        ix, iy = (np.floor(np.where(selected, v, 0) + 0.5).astype(np.int64) for v in (x, y))
        stamps = cut_stamps(exposure, ix, iy, 1, 1)
        if stamps.valid is not None:
            selected &= stamps.valid[:, 0, 0]
        return selected & ~stamps.bad(list(self.badMaskNames))[:, 0, 0]
