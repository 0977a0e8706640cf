# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Status of visits as a table."""

from __future__ import annotations

__all__ = ("format_status",)

from collections.abc import Iterable, Mapping, Sequence

from ._status import VisitStatus

_COLUMNS = ("visit", "expected", "done", "no PSF", "no apcorr", "no work", "failed", "missing", "merged")
_MOST_REASONS = 20  # per visit


def format_status(visits: Sequence[VisitStatus]) -> str:
    """Make a table of visits, and tell reasons below.

    Parameters
    ----------
    visits
        What became of them.

    Returns
    -------
    `str`
        Lines of text.
    """
    rows = [_COLUMNS, *(_row(status) for status in visits)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    for status in visits:
        lines += _reasons(status)
    return "\n".join(lines)


def _row(status: VisitStatus) -> tuple[str, ...]:
    numbers = (
        status.expected,
        status.done,
        status.without_psf,
        status.without_ap_corr,
        status.no_work,
        status.failed,
        status.missing,
    )
    return (
        str(status.visit),
        *(str(len(detectors)) for detectors in numbers),
        "yes" if status.merged else "no",
    )


def _reasons(status: VisitStatus) -> list[str]:
    lines = []
    for what, detectors in (
        ("without PSF", status.without_psf),
        ("without aperture corrections", status.without_ap_corr),
        ("missing", status.missing),
    ):
        if detectors:
            lines.append(f"{_detectors(detectors)} {what}")
    for what, reasons in (("no work", status.no_work), ("failed", status.failed)):
        groups = _by_reason(reasons)
        lines += [f"{_detectors(group)} {what}: {reason}" for reason, group in groups[:_MOST_REASONS]]
        if len(groups) > _MOST_REASONS:
            lines.append(f"{what} for {len(groups) - _MOST_REASONS} other reasons (--json has them)")
    if status.merge_failure:
        lines.append(f"not merged: {status.merge_failure}")
    return [f"visit {status.visit}: {line}" for line in lines]


def _by_reason(reasons: Mapping[int, str]) -> list[tuple[str, list[int]]]:
    groups: dict[str, list[int]] = {}
    for detector in sorted(reasons):
        groups.setdefault(reasons[detector], []).append(detector)
    return list(groups.items())


def _detectors(detectors: Iterable[int]) -> str:
    """Write numbers as ranges, like ``detectors 0-3, 7``."""
    ranges: list[list[int]] = []
    for detector in sorted(detectors):
        if ranges and detector == ranges[-1][1] + 1:
            ranges[-1][1] = detector
        else:
            ranges.append([detector, detector])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
    return f"detector{'s' if ',' in text or '-' in text else ''} {text}"
