# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Batched single-frame measurement: framework, and a folder per family.

At the top is what the author of a plugin needs: plugin, batch of stars,
configuration and task.  Families use the shared folders (`pixels`,
`geometry`, `moments`, `convolution`, `noise`) and one another through what
they export.  Compiled kernels are in modules named ``*_numba``.
"""

from .._stored_names import publish as _publish
from . import _plugin
from ._batch import *
from ._config import *
from ._errors import *
from ._plugin import *
from ._psf import *
from ._task import *
from .apertures import (
    ApertureFlux,
    CircularApertureFluxConfig,
    CircularApertureFluxPlugin,
    CircularApertures,
    CompensatedGaussianFluxConfig,
    CompensatedGaussianFluxPlugin,
    CompensatedTophatFluxConfig,
    CompensatedTophatFluxPlugin,
    PeakLikelihoodFluxConfig,
    PeakLikelihoodFluxPlugin,
    ScaledApertureFluxConfig,
    ScaledApertureFluxPlugin,
    aperture_flux,
    kernel_order,
    naive_flux,
    quadrupole_diagonal,
    sinc_coefficients,
    sinc_flux,
    sinc_half_size,
    store_aperture,
)
from .base import (
    BlendednessConfig,
    BlendednessPlugin,
    ClassificationExtendednessConfig,
    ClassificationExtendednessPlugin,
    ClassificationSizeExtendednessConfig,
    ClassificationSizeExtendednessPlugin,
    FootprintAreaPlugin,
    FPPositionPlugin,
    GaussianFluxConfig,
    GaussianFluxPlugin,
    InputCountPlugin,
    JacobianConfig,
    JacobianPlugin,
    LocalBackgroundConfig,
    LocalBackgroundPlugin,
    LocalPhotoCalibPlugin,
    LocalWcsPlugin,
    PeakCentroidPlugin,
    PixelFlagsConfig,
    PixelFlagsPlugin,
    PsfFluxConfig,
    PsfFluxPlugin,
    SkyCoordPlugin,
    VarianceConfig,
    VariancePlugin,
    add_centroid_fields,
    denoised_absolute,
    fit_psf_fluxes,
    photometric_calibration,
)
from .cmodel import (
    FLUX_FACTOR,
    MAX_ORDER,
    CModelConfig,
    CModelPlugin,
    CModelRegionConfig,
    CModelStageConfig,
    DoubleShapeletFit,
    DoubleShapeletPsfApproxConfig,
    DoubleShapeletPsfApproxPlugin,
    OptimizerConfig,
    RadialMixture,
    SemiEmpiricalPriorConfig,
    SoftenedLinearPriorConfig,
    convolve_with_gaussian,
    fit_double_shapelet,
    radial_mixture,
    shapelet_basis,
    shapelet_moments,
    shapelet_size,
)
from .convolved import ConvolvedApertureConfig, ConvolvedFluxConfig, ConvolvedFluxPlugin
from .gaap import (
    GaapFluxConfig,
    GaapFluxPlugin,
    GaussianizePsfConfig,
    GaussianizePsfTask,
    MatchingBackgroundConfig,
    MatchingKernelConfig,
    MatchingWarperConfig,
    check_matching_options,
    fit_matching_kernels,
    gaap_result_name,
)
from .hsm import (
    HigherOrderMomentsConfig,
    HigherOrderMomentsPsfConfig,
    HigherOrderMomentsPsfPlugin,
    HigherOrderMomentsSourceConfig,
    HigherOrderMomentsSourcePlugin,
    HsmMoments,
    HsmMomentsConfig,
    HsmPsfMomentsConfig,
    HsmPsfMomentsDebiasedConfig,
    HsmPsfMomentsDebiasedPlugin,
    HsmPsfMomentsPlugin,
    HsmShapeBjConfig,
    HsmShapeBjPlugin,
    HsmShapeConfig,
    HsmShapeKsbConfig,
    HsmShapeKsbPlugin,
    HsmShapeLinearConfig,
    HsmShapeLinearPlugin,
    HsmShapeRegaussConfig,
    HsmShapeRegaussPlugin,
    HsmSourceMomentsConfig,
    HsmSourceMomentsPlugin,
    HsmSourceMomentsRoundConfig,
    HsmSourceMomentsRoundPlugin,
    HsmStatus,
    hsm_moments,
    standardized_moments,
)
from .kron import KronFluxConfig, KronFluxPlugin
from .moments import AdaptiveMoments, adaptive_moments, fixed_moments_flux, valid_boxes
from .noise import (
    DetectedFootprints,
    NoiseReplacer,
    NoiseReplacerConfig,
    find_rows,
    get_footprints_from_catalog,
)
from .pixels import (
    CutOut,
    PixelRegions,
    box_batches,
    clipped_mean_std,
    clipped_mean_std_rows,
    ellipse_boxes,
    inside_bounds,
    pixel_regions,
)
from .sdss import SdssCentroidConfig, SdssCentroidPlugin, SdssShapeConfig, SdssShapePlugin

_publish(__name__, globals(), bases=(_plugin.SingleFramePlugin,))
