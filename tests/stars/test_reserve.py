# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import numpy as np
import pytest

from lsst.meas.finalize.stars import ReserveIsolatedStarsConfig, ReserveIsolatedStarsTask


@pytest.mark.parametrize(
    ("nstar", "extra", "reserved"),
    [
        (20, "i_0", [7, 18]),
        (100, "r_9813", [12, 22, 27, 36, 37, 40, 44, 62, 87, 99]),
        (57, "g_3828", [7, 30, 34, 43, 56]),
        (
            250,
            "y_16968",
            [19, 43, 49, 52, 54, 60, 70, 89, 98, 110, 125, 128, 144, 152, 159, 162, 186, 191, 222, 226]
            + [234, 237, 238, 239, 243],
        ),
    ],
)
def test_worked_examples(nstar: int, extra: str, reserved: list[int]) -> None:
    """Reserve the stars of upstream's worked examples (spec 01 §2)."""
    chosen = ReserveIsolatedStarsTask().run(nstar, extra=extra)
    assert chosen.dtype == bool
    assert len(chosen) == nstar
    assert np.flatnonzero(chosen).tolist() == reserved


@pytest.mark.parametrize(("fraction", "n"), [(0.0, 0), (1.0, 37), (0.5, 18)])
def test_fractions(fraction: float, n: int) -> None:
    """Reserve none, all, and the truncated number."""
    config = ReserveIsolatedStarsConfig(reserve_fraction=fraction)
    assert ReserveIsolatedStarsTask(config=config).run(37, "r_1").sum() == n


def test_no_stars() -> None:
    """Return an empty array for no stars."""
    assert ReserveIsolatedStarsTask().run(0).shape == (0,)


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_fractions_out_of_range(fraction: float) -> None:
    """Refuse fractions outside [0, 1]."""
    with pytest.raises(ValueError, match="reserve_fraction"):
        ReserveIsolatedStarsConfig(reserve_fraction=fraction)
