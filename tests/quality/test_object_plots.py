# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of figures of one PSF and of aperture corrections."""

from __future__ import annotations

import numpy as np
import pytest

from lsst.images import Box
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.meas.finalize.quality.plots import plot_ap_corr, plot_psf

BOX = Box.factory[0:400, 0:600]
SLOPE = {"a_instFlux": ChebyshevField(BOX, np.array([[1.0, 0.1]])), "a_instFluxErr": None}


def test_psf_is_drawn_at_each_position() -> None:
    """Draw a logarithmic image per position, on a scale of its maximum."""
    psf = GaussianPointSpreadFunction(2.0, bounds=BOX, stamp_size=25)
    figure = plot_psf(psf, [100, 300], [50, 60], title="Detector 1")
    images = [ax.get_images()[0] for ax in figure.axes if ax.get_images()]
    assert [ax.get_title() for ax in figure.axes[:2]] == ["(100, 50)", "(300, 60)"]
    assert [image.get_array().shape for image in images] == [(25, 25)] * 2
    drawn = np.asarray(images[0].get_array())
    # The logarithm of a Gaussian, three pixels beside its center.
    assert drawn[12, 15] - drawn[12, 12] == pytest.approx(-9 / 8 * np.log10(np.e), abs=1e-3)
    assert "Detector 1" in figure.get_suptitle()
    assert len(plot_psf(psf, 5.0, 6.0).axes) == 2  # with the color bar
    with pytest.raises(ValueError, match="There is no PSF"):
        plot_psf(None, 5.0, 6.0)


def test_corrections_are_drawn_over_the_detector() -> None:
    """Draw fluxes, with x to the right; name what isn't there."""
    figure = plot_ap_corr(SLOPE, BOX)
    (image,) = [ax.get_images()[0] for ax in figure.axes if ax.get_images() and ax.get_title()]
    drawn = np.asarray(image.get_array())
    assert image.axes.get_title() == "a"
    assert drawn[0, 0] == pytest.approx(0.9, abs=1e-3)
    assert np.all(np.diff(drawn, axis=1) > 0)
    assert np.all(np.diff(drawn, axis=0) == 0)
    assert image.get_extent() == [-0.5, 599.5, -0.5, 399.5]
    assert plot_ap_corr({}, BOX).axes[0].texts[0].get_text() == "no corrections"
    with pytest.raises(KeyError, match="no aperture corrections \\['b'\\]"):
        plot_ap_corr(SLOPE, BOX, names=["b"])
    with pytest.raises(ValueError, match="There are no aperture corrections"):
        plot_ap_corr(None, BOX)
