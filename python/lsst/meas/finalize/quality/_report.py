# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Summary of a finished visit."""

from __future__ import annotations

__all__ = ("format_summary", "report_visit")

from collections.abc import Sequence
from pathlib import Path

import astropy.table

from lsst.daf.butler import Butler, MissingDatasetTypeError

from ..afw import as_ours
from ._metrics import DetectorQuality, measure_quality
from ._plots import plot_focal_plane, plot_residuals

# Heading, attribute, format and factor.
_COLUMNS = (
    ("detector", "detector", "8d", 1),
    ("stars", "n_candidates", "5d", 1),
    ("FWHM/arcsec", "fwhm", "11.4f", 1),
    ("apcorr sd", "ap_corr_scatter", "9.2f", 1000),
)
_SAMPLE_COLUMNS = (
    ("stars", "n_stars", "5d", 1),
    ("dT/T", "size", "6.2f", 1000),
    ("sd", "size_scatter", "5.2f", 1000),
    ("de1", "e1", "6.2f", 1000),
    ("de2", "e2", "6.2f", 1000),
    ("sd", "e_scatter", "5.2f", 1000),
)


def format_summary(qualities: Sequence[DetectorQuality]) -> str:
    """Return a table of metrics, a line per detector.

    Residuals and scatters ("sd") are in units of 0.001.

    Parameters
    ----------
    qualities
        Metrics of the detectors.
    """
    rows = [_COLUMNS, *((_SAMPLE_COLUMNS,) * 2)]
    headings = ["  ".join(f"{head:>{_width(spec)}}" for head, _, spec, _ in columns) for columns in rows]
    titles = ("", "reserved stars, 0.001", "used stars, 0.001")
    lines = ["   ".join(f"{title:^{len(head)}}" for title, head in zip(titles, headings, strict=True))]
    lines.append("   ".join(headings))
    for quality in qualities:
        parts = zip((quality, quality.reserved, quality.used), rows, strict=True)
        lines.append(
            "   ".join(
                "  ".join(f"{factor * getattr(source, name):{spec}}" for _, name, spec, factor in columns)
                for source, columns in parts
            )
        )
    return "\n".join(lines)


def _width(spec: str) -> int:
    return int(spec.rstrip("df").split(".")[0])


def report_visit(
    butler: Butler, visit: int, collections: str, directory: Path, *, instrument: str = "SynthCam"
) -> tuple[list[DetectorQuality], list[Path]]:
    """Judge a finished visit and plot its PSF.

    Parameters
    ----------
    butler
        Butler with the visit's outputs.
    visit
        Visit number.
    collections
        Collection with ``finalized_src_table`` and
        ``finalized_psf_ap_corr_catalog``; if it has ``simulated_truth``
        too, residuals are against the truth.
    directory
        Where to write plots; made if it doesn't exist.
    instrument
        Name of the instrument.

    Returns
    -------
    qualities : `list` [`DetectorQuality`]
        Metrics by detector.
    plots : `list` [`~pathlib.Path`]
        Files written.
    """
    data_id = {"instrument": instrument, "visit": visit}
    stars = butler.get("finalized_src_table", data_id, collections=collections)
    catalog = as_ours(butler.get("finalized_psf_ap_corr_catalog", data_id, collections=collections))
    truth = _read_truth(butler, data_id, collections)
    qualities = [measure_quality(record, stars[stars["detector"] == record.id], truth) for record in catalog]
    directory.mkdir(parents=True, exist_ok=True)
    plots = [directory / f"visit_{visit}_{name}.png" for name in ("focal_plane", "residuals")]
    plot_focal_plane(stars, plots[0], title=f"{instrument} visit {visit}")
    plot_residuals(stars, plots[1], truth=truth, title=f"{instrument} visit {visit}")
    return qualities, plots


def _read_truth(butler: Butler, data_id: dict, collections: str) -> astropy.table.Table | None:
    """Return the true objects of all detectors, if this is a simulation."""
    try:
        refs = butler.query_datasets(
            "simulated_truth", collections, data_id=data_id, explain=False, find_first=True
        )
    except MissingDatasetTypeError:
        return None
    tables = [butler.get(ref) for ref in refs]
    return astropy.table.vstack(tables, metadata_conflicts="silent") if tables else None
