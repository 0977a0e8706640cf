import lsst.pipe.tasks.finalizeCharacterization
assert type(config) is lsst.pipe.tasks.finalizeCharacterization.FinalizeCharacterizationDetectorConfig, f"config is of type {type(config).__module__}.{type(config).__name__} instead of lsst.pipe.tasks.finalizeCharacterization.FinalizeCharacterizationDetectorConfig"

import lsst.meas.finalize.apcorr
import lsst.meas.finalize.measure
import lsst.meas.finalize.psf
import lsst.meas.finalize.stars
import lsst.pipe.base.config
import lsst.pipe.tasks.reserveIsolatedStars
# Flag to enable/disable saving of log output for a task, enabled by default.
config.saveLogOutput=True

# Apply flux limit?
config.source_selector['science'].doFluxLimit=False

# Apply flag limitation?
config.source_selector['science'].doFlags=True

# Apply unresolved limitation?
config.source_selector['science'].doUnresolved=False

# Apply signal-to-noise limit?
config.source_selector['science'].doSignalToNoise=True

# Apply isolated limitation?
config.source_selector['science'].doIsolated=False

# Apply finite sky coordinate check?
config.source_selector['science'].doRequireFiniteRaDec=False

# Apply source is primary check?
config.source_selector['science'].doRequirePrimary=False

# Include sky sources, unioned with all other criteria?
config.source_selector['science'].doSkySources=False

# Apply limit on centroid errors?
config.source_selector['science'].doCentroidErrorLimit=False

# Select objects with value greater than this
config.source_selector['science'].fluxLimit.minimum=None

# Select objects with value less than this
config.source_selector['science'].fluxLimit.maximum=None

# Name of the source flux field to use.
config.source_selector['science'].fluxLimit.fluxField='slot_CalibFlux_instFlux'

# List of source flag fields that must be set for a source to be used.
config.source_selector['science'].flags.good=[]

# List of source flag fields that must NOT be set for a source to be used.
config.source_selector['science'].flags.bad=['base_PixelFlags_flag_edge', 'base_PixelFlags_flag_nodata', 'base_PixelFlags_flag_interpolatedCenter', 'base_PixelFlags_flag_saturatedCenter', 'base_PixelFlags_flag_crCenter', 'base_PixelFlags_flag_bad', 'base_PixelFlags_flag_interpolated', 'base_PixelFlags_flag_saturated', 'slot_Centroid_flag', 'base_GaussianFlux_flag']

# Select objects with value greater than this
config.source_selector['science'].unresolved.minimum=None

# Select objects with value less than this
config.source_selector['science'].unresolved.maximum=0.1

# Name of column for star/galaxy separation
config.source_selector['science'].unresolved.name='base_ClassificationSizeExtendedness_value'

# Select objects with value greater than this
config.source_selector['science'].signalToNoise.minimum=50.0

# Select objects with value less than this
config.source_selector['science'].signalToNoise.maximum=1000.0

# Name of the source flux field to use.
config.source_selector['science'].signalToNoise.fluxField='base_GaussianFlux_instFlux'

# Name of the source flux error field to use.
config.source_selector['science'].signalToNoise.errField='base_GaussianFlux_instFluxErr'

# Name of column for parent
config.source_selector['science'].isolated.parentName='parent'

# Name of column for nChild
config.source_selector['science'].isolated.nChildName='deblend_nChild'

# Name of column for RA coordinate
config.source_selector['science'].requireFiniteRaDec.raColName='coord_ra'

# Name of column for Dec coordinate
config.source_selector['science'].requireFiniteRaDec.decColName='coord_dec'

# Name of primary flag column
config.source_selector['science'].requirePrimary.primaryColName='detect_isPrimary'

# List of source flag fields that must be set for a source to be used.
config.source_selector['science'].skyFlag.good=['sky_source']

# List of source flag fields that must NOT be set for a source to be used.
config.source_selector['science'].skyFlag.bad=[]

# Select objects with value greater than this
config.source_selector['science'].centroidErrorLimit.minimum=None

# Select objects with value less than this
config.source_selector['science'].centroidErrorLimit.maximum=3.0

# Name of the source centroid field to use.
config.source_selector['science'].centroidErrorLimit.centroidField='slot_Centroid'

# Apply magnitude limit?
config.source_selector['references'].doMagLimit=False

# Apply flag limitation?
config.source_selector['references'].doFlags=False

# Apply unresolved limitation?
config.source_selector['references'].doUnresolved=False

# Apply signal-to-noise limit?
config.source_selector['references'].doSignalToNoise=False

# Apply magnitude error limit?
config.source_selector['references'].doMagError=False

# Apply finite sky coordinate check?
config.source_selector['references'].doRequireFiniteRaDec=True

# Apply image masked region culling?
config.source_selector['references'].doCullFromMaskedRegion=False

# Select objects with value greater than this
config.source_selector['references'].magLimit.minimum=None

# Select objects with value less than this
config.source_selector['references'].magLimit.maximum=None

# Name of the source flux field to use.
config.source_selector['references'].magLimit.fluxField='flux'

# List of source flag fields that must be set for a source to be used.
config.source_selector['references'].flags.good=[]

# List of source flag fields that must NOT be set for a source to be used.
config.source_selector['references'].flags.bad=[]

# Select objects with value greater than this
config.source_selector['references'].unresolved.minimum=None

# Select objects with value less than this
config.source_selector['references'].unresolved.maximum=0.1

# Name of column for star/galaxy separation
config.source_selector['references'].unresolved.name='base_ClassificationSizeExtendedness_value'

# Name of column for RA coordinate
config.source_selector['references'].requireFiniteRaDec.raColName='coord_ra'

# Name of column for Dec coordinate
config.source_selector['references'].requireFiniteRaDec.decColName='coord_dec'

# Select objects with value greater than this
config.source_selector['references'].signalToNoise.minimum=None

# Select objects with value less than this
config.source_selector['references'].signalToNoise.maximum=None

# Name of the source flux field to use.
config.source_selector['references'].signalToNoise.fluxField='flux'

# Name of the source flux error field to use.
config.source_selector['references'].signalToNoise.errField='flux_err'

# Select objects with value greater than this
config.source_selector['references'].magError.minimum=None

# Select objects with value less than this
config.source_selector['references'].magError.maximum=None

# Name of the source flux error field to use.
config.source_selector['references'].magError.magErrField='mag_err'

config.source_selector['references'].colorLimits={}
# List of mask planes for which sources should be removed if a bit is set.
config.source_selector['references'].cullFromMaskedRegion.badMaskNames=['NO_DATA', 'NOT_DEBLENDED']

# Name of column for image x coordinate.
config.source_selector['references'].cullFromMaskedRegion.xColName='centroid_x'

# Name of column for image y coordinate.
config.source_selector['references'].cullFromMaskedRegion.yColName='centroid_y'

# Name of a flag field that is True for Sources that should be used.
config.source_selector['flagged'].field='calib_psf_used'

# Apply flux limit to Psf Candidate selection?
config.source_selector['objectSize'].doFluxLimit=False

# Minimum flux value for good Psf Candidates.
config.source_selector['objectSize'].fluxMin=12500.0

# Maximum flux value for good Psf Candidates (ignored if == 0).
config.source_selector['objectSize'].fluxMax=0.0

# Apply signal-to-noise (i.e. flux/fluxErr) limit to Psf Candidate selection?
config.source_selector['objectSize'].doSignalToNoiseLimit=True

# Minimum signal-to-noise for good Psf Candidates (value should take into consideration the detection thresholds set for the catalog of interest).
config.source_selector['objectSize'].signalToNoiseMin=50.0

# Maximum signal-to-noise for good Psf Candidates (ignored if == 0).
config.source_selector['objectSize'].signalToNoiseMax=0.0

# Minimum width to include in histogram.
config.source_selector['objectSize'].widthMin=0.9

# Maximum width to include in histogram.
config.source_selector['objectSize'].widthMax=10.0

# Name of field in Source to use for flux measurement.
config.source_selector['objectSize'].sourceFluxField='base_PsfFlux_instFlux'

# Standard deviation of width allowed to be interpreted as good stars.
config.source_selector['objectSize'].widthStdAllowed=0.15

# Keep objects within this many sigma of cluster 0's median.
config.source_selector['objectSize'].nSigmaClip=2.0

# List of flags which cause a source to be rejected as bad.
config.source_selector['objectSize'].badFlags=['base_PixelFlags_flag_edge', 'base_PixelFlags_flag_nodata', 'base_PixelFlags_flag_interpolatedCenter', 'base_PixelFlags_flag_saturatedCenter', 'base_PixelFlags_flag_crCenter', 'base_PixelFlags_flag_bad', 'base_PixelFlags_flag_interpolated', 'slot_Centroid_flag']

config.source_selector.name='science'
# Name of column in isolated_star_sources with source id.
config.id_column='sourceId'

# Name to use for random seed selection hash.
config.reserve_selection.reserve_name='reserved'

# Fraction of stars to reserve.  None if == 0.
config.reserve_selection.reserve_fraction=0.1

# Size of the postage stamp in pixels (excluding the border) around each star that is extracted for fitting. Should be odd and preferably at least 25.
config.make_psf_candidates.kernelSize=27

# Number of pixels to ignore around the edge of PSF candidate postage stamps
config.make_psf_candidates.borderWidth=0

# Size of the postage stamp (in native pixels) to render the PSF model. Should be odd.
config.psf_determiner['piff'].stampSize=25

# Maximum number of candidates to consider. Will down-sample if given more.
config.psf_determiner['piff'].maxCandidates=300

# Random seed to use to downsample candidates.
config.psf_determiner['piff'].downsampleRandomSeed=98765

# Per-band spatial order for PSF kernel creation. Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].spatialOrderPerBand={}

# Spatial order for PSF kernel creation. Ignored if piffPsfConfigYaml is set or if the current band is in the spatialOrderPerBand dict config.
config.psf_determiner['piff'].spatialOrder=3

# Solver to solve linear algebra for the spatial interpolation of the PSF. Ignored if piffPsfConfigYaml is not None or if the structured fitter does the work.
config.psf_determiner['piff'].piffBasisPolynomialSolver='scipy'

# PixelGrid can re-estimate center if this option is True. Will use provided centroid if set to False. Depends on how input centroids can be trusted. Ignored if piffPsfConfigYaml is not None.
config.psf_determiner['piff'].piffPixelGridFitCenter=True

# Resolution of the internal PSF model relative to the pixel size; e.g. 0.5 is equal to 2x oversampling. This affects only the size of the PSF model stamp if piffPsfConfigYaml is set.
config.psf_determiner['piff'].samplingSize=1.0

# Internal model size for PIFF (typically odd, but not enforced). Partially ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].modelSize=25

# n sigma for chisq outlier rejection. Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].outlierNSigma=4.0

# Max fraction of stars to remove as outliers each iteration (a number of stars if at least 1). Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].outlierMaxRemove=0.05

# Rescale the weight of bright stars such that their SNR is less than this value.
config.psf_determiner['piff'].maxSNR=200.0

# List of mask bits for which to set pixel weights to zero.
config.psf_determiner['piff'].zeroWeightMaskBits=['BAD', 'CR', 'INTRP', 'SAT', 'SUSPECT', 'NO_DATA']

# Minimum fraction of unmasked pixels required to use star.
config.psf_determiner['piff'].minimumUnmaskedFraction=0.5

# Use color information to correct for atmospheric turbulence and differential chromatic refraction. Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].useColor=False

# The bands to use for calculating color. Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].color={}

# Color order for PSF kernel creation. Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].colorOrder=1

# GalSim interpolant name for Piff to use. Options include 'Lanczos(N)', where N is an integer, along with galsim.Cubic, galsim.Delta, galsim.Linear, galsim.Nearest, galsim.Quintic, and galsim.SincInterpolant. Ignored if piffPsfConfigYaml is set.
config.psf_determiner['piff'].interpolant='Lanczos(11)'

# If True, use zeroth order interpolation if not enough stars are found.
config.psf_determiner['piff'].zerothOrderInterpNotEnoughStars=False

# Stop the fit of zerothOrderInterpNotEnoughStars after one linear step from a Gaussian, as upstream does, before it has converged.
config.psf_determiner['piff'].zerothOrderInterpSingleStep=False

# Include star images used for fitting in PSF model object.
config.psf_determiner['piff'].debugStarData=False

# Which spatial coordinates to regress against in PSF modeling.
config.psf_determiner['piff'].useCoordinates='pixel'

# Maximum iteration while doing outlier rejection. 1 if zerothOrderInterpNotEnoughStars has to step in and zerothOrderInterpSingleStep is set. Ignored if piffPsfConfigYaml is not None.
config.psf_determiner['piff'].piffMaxIter=15

# PIFF-specific logging level, from 0 (least chatty) to 3 (very verbose); note that logs will come out with unrelated notations (e.g. WARNING does not imply a warning.)
config.psf_determiner['piff'].piffLoggingLevel=0

# Configuration file for PIFF in YAML format. This overrides many other settings in this config and is not validated ahead of runtime.
config.psf_determiner['piff'].piffPsfConfigYaml=None

# Who solves for the PSF. Both make the same Piff object.
config.psf_determiner['piff'].fitter='structured'

config.psf_determiner.name='piff'
# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_CircularApertureFlux'].doMeasure=True

# Radius (in pixels) of apertures.
config.measurement.plugins['base_CircularApertureFlux'].radii=[3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0]

# Maximum radius (in pixels) for which the sinc algorithm should be used instead of the faster naive algorithm.  For elliptical apertures, this is the minor axis radius.
config.measurement.plugins['base_CircularApertureFlux'].maxSincRadius=10.0

# Warping kernel used to shift Sinc photometry coefficients to different center positions
config.measurement.plugins['base_CircularApertureFlux'].shiftKernel='lanczos5'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_ScaledApertureFlux'].doMeasure=True

# Scaling factor of PSF FWHM for aperture radius.
config.measurement.plugins['base_ScaledApertureFlux'].scale=3.14

# Warping kernel used to shift Sinc photometry coefficients to different center positions
config.measurement.plugins['base_ScaledApertureFlux'].shiftKernel='lanczos5'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_PeakLikelihoodFlux'].doMeasure=True

# Name of warping kernel (e.g. "lanczos4") used to compute the peak
config.measurement.plugins['base_PeakLikelihoodFlux'].warpingKernelName='lanczos4'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_CompensatedTophatFlux'].doMeasure=True

# The aperture radii (in pixels) to measure the top-hats.
config.measurement.plugins['base_CompensatedTophatFlux'].apertures=[12]

# Inner background annulus scale (relative to aperture).
config.measurement.plugins['base_CompensatedTophatFlux'].inner_scale=1.0

# Outer background annulus scale (relative to aperture).
config.measurement.plugins['base_CompensatedTophatFlux'].outer_scale=1.7

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_CompensatedGaussianFlux'].doMeasure=True

# The widths (in pixels) of the kernels for which to measure compensated apertures.
config.measurement.plugins['base_CompensatedGaussianFlux'].kernel_widths=[3, 5]

# Scale parameter of outer Gaussian compared to inner Gaussian.
config.measurement.plugins['base_CompensatedGaussianFlux'].t=2.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_Blendedness'].doMeasure=True

# Whether to compute HeavyFootprint dot products (the old deblend.blendedness parameter)
config.measurement.plugins['base_Blendedness'].doOld=True

# Whether to compute quantities related to the Gaussian-weighted flux
config.measurement.plugins['base_Blendedness'].doFlux=True

# Whether to compute quantities related to the Gaussian-weighted shape
config.measurement.plugins['base_Blendedness'].doShape=True

# Radius factor that sets the maximum extent of the weight function (and hence the flux measurements)
config.measurement.plugins['base_Blendedness'].nSigmaWeightMax=3.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_ClassificationSizeExtendedness'].doMeasure=True

# Exponent to raise the PSF size squared (Ixx + Iyy) to, in the likelihood normalization
config.measurement.plugins['base_ClassificationSizeExtendedness'].exponent=0.5

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_GaussianFlux'].doMeasure=True

# Ignored, as upstream does.
config.measurement.plugins['base_GaussianFlux'].background=0.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_InputCount'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_LocalBackground'].doMeasure=True

# Mask planes of pixels to exclude.
config.measurement.plugins['base_LocalBackground'].badMaskPlanes=['BAD', 'SAT', 'NO_DATA']

# Inner radius of the annulus in sigma of the PSF.
config.measurement.plugins['base_LocalBackground'].annulusInner=7.0

# Outer radius of the annulus in sigma of the PSF.
config.measurement.plugins['base_LocalBackground'].annulusOuter=15.0

# Rejection threshold in standard deviations.
config.measurement.plugins['base_LocalBackground'].bgRej=3.0

# Number of sigma-clipping iterations.
config.measurement.plugins['base_LocalBackground'].bgIter=3

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_LocalPhotoCalib'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_LocalWcs'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_PixelFlags'].doMeasure=True

# Mask planes searched for in the centre of a source; flags are named after them.
config.measurement.plugins['base_PixelFlags'].masksFpCenter=['STREAK']

# Mask planes searched for anywhere in a source; flags are named after them.
config.measurement.plugins['base_PixelFlags'].masksFpAnywhere=['STREAK']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_PeakCentroid'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_FPPosition'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_Jacobian'].doMeasure=True

# Nominal pixel size (arcsec).
config.measurement.plugins['base_Jacobian'].pixelScale=0.5

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_SkyCoord'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_PsfFlux'].doMeasure=True

# Mask planes of pixels to exclude from the fit.
config.measurement.plugins['base_PsfFlux'].badMaskPlanes=[]

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_Variance'].doMeasure=True

# Scale factor to apply to shape for aperture
config.measurement.plugins['base_Variance'].scale=5.0

# Mask planes to ignore
config.measurement.plugins['base_Variance'].mask=['DETECTED', 'DETECTED_NEGATIVE', 'BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['modelfit_CModel'].doMeasure=True

# Prefix of the fields with the shapelet approximation of the PSF.
config.measurement.plugins['modelfit_CModel'].psfName='modelfit_DoubleShapeletPsfApprox'

# Radius of the first region in Kron radii.
config.measurement.plugins['modelfit_CModel'].region.nKronRadii=1.5

# A region smaller than this many PSF radii gives way to one of the footprint's area or of this radius, whichever is larger.
config.measurement.plugins['modelfit_CModel'].region.nPsfSigmaMin=4.0

# Grow the fitted ellipse by this many PSF radii.
config.measurement.plugins['modelfit_CModel'].region.nPsfSigmaGrow=2.0

# Least final region in fitted radii, before growing.
config.measurement.plugins['modelfit_CModel'].region.nFitRadiiMin=1.0

# Largest final region in fitted radii, before growing.
config.measurement.plugins['modelfit_CModel'].region.nFitRadiiMax=3.0

# Flag regions with more pixels than this.
config.measurement.plugins['modelfit_CModel'].region.maxArea=100000

# Mask planes of pixels that are left out.
config.measurement.plugins['modelfit_CModel'].region.badMaskPlanes=['EDGE', 'SAT', 'BAD', 'NO_DATA']

# Largest fraction of the region to be left out.
config.measurement.plugins['modelfit_CModel'].region.maxBadPixelFraction=0.1

# Radial profile to fit.
config.measurement.plugins['modelfit_CModel'].initial.profileName='lux'

# Number of Gaussians that approximate the profile.
config.measurement.plugins['modelfit_CModel'].initial.nComponents=3

# Radius up to which the profile is approximated (half-light radii; 0: its default).
config.measurement.plugins['modelfit_CModel'].initial.maxRadius=0

# Prior on the parameters.
config.measurement.plugins['modelfit_CModel'].initial.priorSource='EMPIRICAL'

# Name of a prior that is read from a file; not used.
config.measurement.plugins['modelfit_CModel'].initial.priorName=''

# Largest ellipticity (conformal shear).
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.ellipticityMaxOuter=2.001

# Ellipticity where the cut-off begins.
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.ellipticityMaxInner=2.0

# Least ln(radius).
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the lower cut-off begins.
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.logRadiusMinInner=-6.0

# Largest ln(radius).
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.logRadiusMaxOuter=3.001

# ln(radius) where the upper cut-off begins.
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.logRadiusMaxInner=3.0

# Density at logRadiusMinInner divided by that at logRadiusMaxInner.
config.measurement.plugins['modelfit_CModel'].initial.linearPriorConfig.logRadiusMinMaxRatio=1.0

# Width of the exponential distribution of ellipticity (conformal shear).
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.ellipticitySigma=0.3

# Width of the softened core of the distribution of ellipticity.
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.ellipticityCore=0.001

# Least ln(radius).
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the cut-off begins.
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusMinInner=-6.0

# ln(radius) where the flat distribution turns into a Student distribution with this mean.
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusMu=-1.0

# Width of the Student distribution.
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusSigma=0.45

# Degrees of freedom of the Student distribution.
config.measurement.plugins['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusNu=50.0

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.plugins['modelfit_CModel'].initial.optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.minTrustRadiusThreshold=0.01

# Converged if the largest component of the gradient is not above this.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.gradientThreshold=0.001

# Relative step of numerical derivatives.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.maxOuterIterations=500

# Save iterations for debugging?  Has no effect.
config.measurement.plugins['modelfit_CModel'].initial.optimizer.doSaveIterations=False

# Weight pixels by their variances in the non-linear fit?
config.measurement.plugins['modelfit_CModel'].initial.usePixelWeights=True

# Factor of the weights, that is of the likelihood's importance beside the prior.
config.measurement.plugins['modelfit_CModel'].initial.weightsMultiplier=1.0

# Record the number of steps?
config.measurement.plugins['modelfit_CModel'].initial.doRecordHistory=True

# Record the time a fit takes?
config.measurement.plugins['modelfit_CModel'].initial.doRecordTime=True

# Radial profile to fit.
config.measurement.plugins['modelfit_CModel'].exp.profileName='lux'

# Number of Gaussians that approximate the profile.
config.measurement.plugins['modelfit_CModel'].exp.nComponents=6

# Radius up to which the profile is approximated (half-light radii; 0: its default).
config.measurement.plugins['modelfit_CModel'].exp.maxRadius=0

# Prior on the parameters.
config.measurement.plugins['modelfit_CModel'].exp.priorSource='EMPIRICAL'

# Name of a prior that is read from a file; not used.
config.measurement.plugins['modelfit_CModel'].exp.priorName=''

# Largest ellipticity (conformal shear).
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.ellipticityMaxOuter=2.001

# Ellipticity where the cut-off begins.
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.ellipticityMaxInner=2.0

# Least ln(radius).
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the lower cut-off begins.
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.logRadiusMinInner=-6.0

# Largest ln(radius).
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.logRadiusMaxOuter=3.001

# ln(radius) where the upper cut-off begins.
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.logRadiusMaxInner=3.0

# Density at logRadiusMinInner divided by that at logRadiusMaxInner.
config.measurement.plugins['modelfit_CModel'].exp.linearPriorConfig.logRadiusMinMaxRatio=1.0

# Width of the exponential distribution of ellipticity (conformal shear).
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.ellipticitySigma=0.3

# Width of the softened core of the distribution of ellipticity.
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.ellipticityCore=0.001

# Least ln(radius).
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the cut-off begins.
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusMinInner=-6.0

# ln(radius) where the flat distribution turns into a Student distribution with this mean.
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusMu=-1.0

# Width of the Student distribution.
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusSigma=0.45

# Degrees of freedom of the Student distribution.
config.measurement.plugins['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusNu=50.0

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.plugins['modelfit_CModel'].exp.optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.minTrustRadiusThreshold=1e-05

# Converged if the largest component of the gradient is not above this.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.gradientThreshold=1e-05

# Relative step of numerical derivatives.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.maxOuterIterations=250

# Save iterations for debugging?  Has no effect.
config.measurement.plugins['modelfit_CModel'].exp.optimizer.doSaveIterations=False

# Weight pixels by their variances in the non-linear fit?
config.measurement.plugins['modelfit_CModel'].exp.usePixelWeights=False

# Factor of the weights, that is of the likelihood's importance beside the prior.
config.measurement.plugins['modelfit_CModel'].exp.weightsMultiplier=1.0

# Record the number of steps?
config.measurement.plugins['modelfit_CModel'].exp.doRecordHistory=True

# Record the time a fit takes?
config.measurement.plugins['modelfit_CModel'].exp.doRecordTime=True

# Radial profile to fit.
config.measurement.plugins['modelfit_CModel'].dev.profileName='luv'

# Number of Gaussians that approximate the profile.
config.measurement.plugins['modelfit_CModel'].dev.nComponents=8

# Radius up to which the profile is approximated (half-light radii; 0: its default).
config.measurement.plugins['modelfit_CModel'].dev.maxRadius=0

# Prior on the parameters.
config.measurement.plugins['modelfit_CModel'].dev.priorSource='EMPIRICAL'

# Name of a prior that is read from a file; not used.
config.measurement.plugins['modelfit_CModel'].dev.priorName=''

# Largest ellipticity (conformal shear).
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.ellipticityMaxOuter=2.001

# Ellipticity where the cut-off begins.
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.ellipticityMaxInner=2.0

# Least ln(radius).
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the lower cut-off begins.
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.logRadiusMinInner=-6.0

# Largest ln(radius).
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.logRadiusMaxOuter=3.001

# ln(radius) where the upper cut-off begins.
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.logRadiusMaxInner=3.0

# Density at logRadiusMinInner divided by that at logRadiusMaxInner.
config.measurement.plugins['modelfit_CModel'].dev.linearPriorConfig.logRadiusMinMaxRatio=1.0

# Width of the exponential distribution of ellipticity (conformal shear).
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.ellipticitySigma=0.3

# Width of the softened core of the distribution of ellipticity.
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.ellipticityCore=0.001

# Least ln(radius).
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the cut-off begins.
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusMinInner=-6.0

# ln(radius) where the flat distribution turns into a Student distribution with this mean.
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusMu=-1.0

# Width of the Student distribution.
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusSigma=0.45

# Degrees of freedom of the Student distribution.
config.measurement.plugins['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusNu=50.0

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.plugins['modelfit_CModel'].dev.optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.minTrustRadiusThreshold=1e-05

# Converged if the largest component of the gradient is not above this.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.gradientThreshold=1e-05

# Relative step of numerical derivatives.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.maxOuterIterations=500

# Save iterations for debugging?  Has no effect.
config.measurement.plugins['modelfit_CModel'].dev.optimizer.doSaveIterations=False

# Weight pixels by their variances in the non-linear fit?
config.measurement.plugins['modelfit_CModel'].dev.usePixelWeights=False

# Factor of the weights, that is of the likelihood's importance beside the prior.
config.measurement.plugins['modelfit_CModel'].dev.weightsMultiplier=1.0

# Record the number of steps?
config.measurement.plugins['modelfit_CModel'].dev.doRecordHistory=True

# Record the time a fit takes?
config.measurement.plugins['modelfit_CModel'].dev.doRecordTime=True

# Least radius to start from (pixels).
config.measurement.plugins['modelfit_CModel'].minInitialRadius=0.1

# Start from the PSF's ellipse times this if there is no shape; if not positive, fail instead.
config.measurement.plugins['modelfit_CModel'].fallbackInitialMomentsPsfFactor=1.5

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].doMeasure=True

# Order of the inner expansion (0: a Gaussian).
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].innerOrder=2

# Order of the outer expansion (0: a Gaussian).
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].outerOrder=1

# First outer radius divided by the inner one.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].radiusRatio=2.0

# First outer peak divided by the inner one.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].peakRatio=0.1

# Least minor semi-axis of a component (pixels).
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].minRadius=0.25

# Least difference of the two determinant radii (pixels).
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].minRadiusDiff=0.5

# Largest major semi-axis of a component in units of the width of the PSF image.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].maxRadiusBoxFraction=0.4

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.minTrustRadiusThreshold=1e-05

# Converged if the largest component of the gradient is not above this.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.gradientThreshold=1e-05

# Relative step of numerical derivatives.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.maxOuterIterations=500

# Save iterations for debugging?  Has no effect.
config.measurement.plugins['modelfit_DoubleShapeletPsfApprox'].optimizer.doSaveIterations=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_convolved_ConvolvedFlux'].doMeasure=True

# list of target seeings (FWHM, pixels)
config.measurement.plugins['ext_convolved_ConvolvedFlux'].seeing=[3.5, 5.0, 6.5, 8.0]

# scaling factor of kernel sigma for kernel size
config.measurement.plugins['ext_convolved_ConvolvedFlux'].kernelScale=4.0

# Radius (in pixels) of apertures.
config.measurement.plugins['ext_convolved_ConvolvedFlux'].aperture.radii=[3.3, 4.5, 6.0]

# Maximum radius (in pixels) for which the sinc algorithm should be used instead of the faster naive algorithm.  For elliptical apertures, this is the minor axis radius.
config.measurement.plugins['ext_convolved_ConvolvedFlux'].aperture.maxSincRadius=10.0

# Warping kernel used to shift Sinc photometry coefficients to different center positions
config.measurement.plugins['ext_convolved_ConvolvedFlux'].aperture.shiftKernel='lanczos5'

# name of Kron radius field in reference
config.measurement.plugins['ext_convolved_ConvolvedFlux'].kronRadiusName='ext_photometryKron_KronFlux_radius'

# Largest aperture for which to use the sinc aperture code for Kron (pixels)
config.measurement.plugins['ext_convolved_ConvolvedFlux'].maxSincRadius=10.0

# Number of Kron radii for Kron flux
config.measurement.plugins['ext_convolved_ConvolvedFlux'].kronRadiusForFlux=2.5

# Register measurements for aperture correction?
# The aperture correction registration is done when the plugin is
# instantiated because the column names are derived from the configuration
# rather than being static. Sometimes you want to turn this off, e.g.,
# when you will use aperture corrections derived from somewhere else
# through the 'proxy' mechanism.
config.measurement.plugins['ext_convolved_ConvolvedFlux'].registerForApCorr=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_gaap_GaapFlux'].doMeasure=True

# Sigmas (in arcseconds) of the circular Gaussian apertures; an aperture not larger than the target PSF cannot be measured.
config.measurement.plugins['ext_gaap_GaapFlux'].sigmas=[0.5, 0.7, 1.0, 1.5, 2.5, 3.0]

# Sigma of the target PSF in units of the PSF's trace radius, not below 1. Time is proportional to their number.
config.measurement.plugins['ext_gaap_GaapFlux'].scalingFactors=[1.15]

# Kernel to warp pixels with.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.warpingKernelName='lanczos3'

# Kernel to warp masks with; '': the same.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.maskWarpingKernelName='bilinear'

# Distance of exactly warped pixels.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.interpLength=10

# Number of kernel vectors to keep.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.cacheSize=1000000

# Mask bits to grow to the width of the kernel.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.growFullMask=16

# Statistic of each bin.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.statisticsProperty='MEANCLIP'

# What to do if bins are too few.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.undersampleStyle='REDUCE_INTERP_ORDER'

# Size of bins in pixels.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.binSize=128

# Width of bins in pixels; 0: binSize.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.binSizeX=0

# Height of bins in pixels; 0: binSize.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.binSizeY=0

# How to interpolate between bins.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.algorithm='AKIMA_SPLINE'

# Mask planes of pixels to leave out.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.ignoredPixelMask=['BAD', 'EDGE', 'DETECTED', 'DETECTED_NEGATIVE', 'NO_DATA']

# Leave out NaNs?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.isNanSafe=False

# Fit a polynomial to the bins?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.useApprox=True

# Order of the polynomial along x.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.approxOrderX=6

# Order of the polynomial along y; -1: as along x.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.approxOrderY=-1

# Weight bins with their variance?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.weighting=True

# Undo the photometric flat field?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.doApplyFlatBackgroundRatio=False

# Remove outliers among bins?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.doFilterSuperPixels=False

# Size of the median filter for that.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.superPixelFilterSize=3

# Subtract a background before the fit?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].useAfwBackground=False

# Fit a background together with the kernel?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].fitForBackground=False

# Kind of basis functions.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelBasisSet='alard-lupton'

# Size of the kernel in pixels, odd; a start if scaleByFwhm.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSize=21

# Derive size of kernel and Gaussian from the PSFs' widths?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].scaleByFwhm=True

# Kernel size in sigmas of the widest Gaussian.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSizeFwhmScaling=6.0

# Smallest kernel size in pixels.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSizeMin=21

# Largest kernel size in pixels.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSizeMax=35

# Kind of spatial variation.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialModelType='chebyshev1'

# Spatial order of the kernel.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialKernelOrder=0

# Spatial order of the background.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialBgOrder=1

# Width in pixels of cells of candidates.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].sizeCellX=128

# Height in pixels of cells of candidates.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].sizeCellY=128

# Largest number of candidates per cell.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].nStarPerCell=5

# Largest number of rejection rounds.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxSpatialIterations=3

# Reduce the basis to principal components?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].usePcaForSpatialKernel=False

# Subtract the mean before that?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].subtractMeanForPca=True

# Number of principal components.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].numPrincipalComponents=5

# Clip candidates by their residuals?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].singleKernelClipping=False

# Clip candidates by their kernel sums?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSumClipping=False

# Clip candidates after the spatial fit?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialKernelClipping=False

# Reject ill-conditioned fits?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].checkConditionNumber=False

# Mask planes of pixels without residuals.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].badMaskPlanes=['NO_DATA', 'EDGE', 'SAT']

# Largest mean residual in errors.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].candidateResidualMeanMax=0.25

# Largest scatter of residuals in errors.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].candidateResidualStdMax=1.5

# Look at residuals in the core only?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].useCoreStats=False

# Radius of the core in pixels.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].candidateCoreRadius=3

# Largest deviation of a kernel sum in sigmas.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxKsumSigma=3.0

# Largest condition number.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxConditionNumber=50000000.0

# What condition numbers are ratios of.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].conditionNumberType='EIGENVALUE'

# Largest condition number, spatial fit.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxSpatialConditionNumber=10000000000.0

# Repeat the fit with better variances?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].iterateSingleKernel=False

# Give all pixels the same weight?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].constantVarianceWeighting=True

# Compute errors of the kernel?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].calculateKernelUncertainty=False

# Choose the basis by information criterion?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].useBicForKernelBasis=False

# Number of Gaussians.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardNGauss=1

# Degree of each Gaussian's polynomials.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardDegGauss=[4]

# Sigmas of the Gaussians in pixels, where they aren't derived from the PSFs.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardSigGauss=[0.7, 1.5, 3.0]

# Ratio of successive sigmas.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardGaussBeta=1.0

# Smallest sigma in pixels.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardMinSig=0.7

# Smallest sigma in pixels in deconvolution.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardMinSigDeconv=0.4

config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.kernel.name='AL'
# Pad small PSF images as autoPadPsfTo says?
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.doAutoPadPsf=True

# Smallest PSF image in units of kernelSize, if doAutoPadPsf.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.autoPadPsfTo=1.4

# Pixels (even) to pad PSF images by, unless doAutoPadPsf.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.padPsfBy=0

# How to convolve. Methods differ in which pixels a NaN spoils.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfMatch.convolutionMethod='auto'

# Width and height of the target PSF's image in pixels, odd. It is adapted to the PSF anyway.
config.measurement.plugins['ext_gaap_GaapFlux']._modelPsfDimension=65

# Measure with the target PSF as aperture, to check the Gaussianization? Colors of these fluxes are not consistent.
config.measurement.plugins['ext_gaap_GaapFlux'].doPsfPhotometry=True

# Measure with an elliptical aperture adapted to the source? Needs the slots Shape and PsfShape.
config.measurement.plugins['ext_gaap_GaapFlux'].doOptimalPhotometry=True

# Take part in aperture correction? The names depend on the options here, so they are registered when a plugin is made.
config.measurement.plugins['ext_gaap_GaapFlux'].registerForApCorr=True

# Apply the matching kernel as a correlation, which is how it is fitted? Upstream applies it as a convolution, which makes PSFs without point symmetry less Gaussian.
config.measurement.plugins['ext_gaap_GaapFlux'].doConvolveAsFitted=False

# Divide sums over 16 samples of each pixel, under weights of less than half a pixel, by 16? Upstream doesn't, and fluxes in apertures hardly larger than the target PSF are too large.
config.measurement.plugins['ext_gaap_GaapFlux'].doAverageSubpixels=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsSource'].doMeasure=True

# Minimum order of the higher order moments to compute
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsSource'].min_order=3

# Maximum order of the higher order moments to compute
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsSource'].max_order=4

# Mask planes used to reject bad pixels.
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsSource'].badMaskPlanes=['BAD', 'SAT']

# Set masked pixels to zero? If False, they are replaced by the scaled version of the adaptive weights.
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsSource'].setMaskedPixelsToZero=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsPSF'].doMeasure=True

# Minimum order of the higher order moments to compute
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsPSF'].min_order=3

# Maximum order of the higher order moments to compute
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsPSF'].max_order=4

# Use source centroid offset?
config.measurement.plugins['ext_shapeHSM_HigherOrderMomentsPSF'].useSourceCentroidOffset=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmSourceMoments'].doMeasure=True

# Use round weight function?
config.measurement.plugins['ext_shapeHSM_HsmSourceMoments'].roundMoments=False

# Store measured flux?
config.measurement.plugins['ext_shapeHSM_HsmSourceMoments'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.plugins['ext_shapeHSM_HsmSourceMoments'].subtractCenter=False

# Mask planes used to reject bad pixels.
config.measurement.plugins['ext_shapeHSM_HsmSourceMoments'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmSourceMomentsRound'].doMeasure=True

# Use round weight function?
config.measurement.plugins['ext_shapeHSM_HsmSourceMomentsRound'].roundMoments=True

# Store measured flux?
config.measurement.plugins['ext_shapeHSM_HsmSourceMomentsRound'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.plugins['ext_shapeHSM_HsmSourceMomentsRound'].subtractCenter=False

# Mask planes used to reject bad pixels.
config.measurement.plugins['ext_shapeHSM_HsmSourceMomentsRound'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmPsfMoments'].doMeasure=True

# Use round weight function?
config.measurement.plugins['ext_shapeHSM_HsmPsfMoments'].roundMoments=False

# Store measured flux?
config.measurement.plugins['ext_shapeHSM_HsmPsfMoments'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.plugins['ext_shapeHSM_HsmPsfMoments'].subtractCenter=True

# If True, then draw the PSF to be measured in the coordinate system of the original image (the PSF model origin - which is commonly the PSF centroid - may end up near a pixel edge or corner). If False, then draw the PSF to be measured in a shifted coordinate system such that the PSF model origin lands precisely in the center of the central pixel of the PSF image.
config.measurement.plugins['ext_shapeHSM_HsmPsfMoments'].useSourceCentroidOffset=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].doMeasure=True

# Use round weight function?
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].roundMoments=False

# Store measured flux?
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].subtractCenter=True

# If True, then draw the PSF to be measured in the coordinate system of the original image (the PSF model origin - which is commonly the PSF centroid - may end up near a pixel edge or corner). If False, then draw the PSF to be measured in a shifted coordinate system such that the PSF model origin lands precisely in the center of the central pixel of the PSF image.
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].useSourceCentroidOffset=True

# Noise source. How to choose variance of the zero-mean Gaussian noise added to image.
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].noiseSource='variance'

# Seed offset for random number generator.
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].seedOffset=0

# Mask planes used to reject bad pixels.
config.measurement.plugins['ext_shapeHSM_HsmPsfMomentsDebiased'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmShapeBj'].doMeasure=True

# Field name for number of deblend children.
config.measurement.plugins['ext_shapeHSM_HsmShapeBj'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.plugins['ext_shapeHSM_HsmShapeBj'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmShapeLinear'].doMeasure=True

# Field name for number of deblend children.
config.measurement.plugins['ext_shapeHSM_HsmShapeLinear'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.plugins['ext_shapeHSM_HsmShapeLinear'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmShapeKsb'].doMeasure=True

# Field name for number of deblend children.
config.measurement.plugins['ext_shapeHSM_HsmShapeKsb'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.plugins['ext_shapeHSM_HsmShapeKsb'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_shapeHSM_HsmShapeRegauss'].doMeasure=True

# Field name for number of deblend children.
config.measurement.plugins['ext_shapeHSM_HsmShapeRegauss'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.plugins['ext_shapeHSM_HsmShapeRegauss'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['ext_photometryKron_KronFlux'].doMeasure=True

# if true, use existing shape and centroid measurements instead of fitting
config.measurement.plugins['ext_photometryKron_KronFlux'].fixed=False

# Multiplier of rms size for aperture used to initially estimate the Kron radius
config.measurement.plugins['ext_photometryKron_KronFlux'].nSigmaForRadius=6.0

# Number of times to iterate when setting the Kron radius
config.measurement.plugins['ext_photometryKron_KronFlux'].nIterForRadius=1

# Number of Kron radii for Kron flux
config.measurement.plugins['ext_photometryKron_KronFlux'].nRadiusForFlux=2.5

# Largest aperture for which to use the slow, accurate, sinc aperture code
config.measurement.plugins['ext_photometryKron_KronFlux'].maxSincRadius=10.0

# Minimum Kron radius (if == 0.0 use PSF's Kron radius) if enforceMinimumRadius. Also functions as fallback aperture radius if set.
config.measurement.plugins['ext_photometryKron_KronFlux'].minimumRadius=0.0

# If true check that the Kron radius exceeds some minimum
config.measurement.plugins['ext_photometryKron_KronFlux'].enforceMinimumRadius=True

# Use the Footprint size as part of initial estimate of Kron radius
config.measurement.plugins['ext_photometryKron_KronFlux'].useFootprintRadius=False

# Smooth image with N(0, smoothingSigma^2) Gaussian while estimating R_K
config.measurement.plugins['ext_photometryKron_KronFlux'].smoothingSigma=-1.0

# Name of field specifying reference Kron radius for forced measurement
config.measurement.plugins['ext_photometryKron_KronFlux'].refRadiusName='ext_photometryKron_KronFlux_radius'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_SdssCentroid'].doMeasure=True

# maximum allowed binning
config.measurement.plugins['base_SdssCentroid'].binmax=16

# if the peak's less than this insist on binning at least once
config.measurement.plugins['base_SdssCentroid'].peakMin=-1.0

# fiddle factor for adjusting the binning
config.measurement.plugins['base_SdssCentroid'].wfac=1.5

# Do check that the centroid is contained in footprint.
config.measurement.plugins['base_SdssCentroid'].doFootprintCheck=True

# If set > 0, Centroid Check distance to footprint peak in pixels.
config.measurement.plugins['base_SdssCentroid'].maxDistToPeak=1.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.plugins['base_SdssShape'].doMeasure=True

# Additional value to subtract from background
config.measurement.plugins['base_SdssShape'].background=0.0

# Maximum number of iterations
config.measurement.plugins['base_SdssShape'].maxIter=100

# Maximum centroid shift, limited to 2-10
config.measurement.plugins['base_SdssShape'].maxShift=0.0

# Convergence tolerance for e1,e2
config.measurement.plugins['base_SdssShape'].tol1=9.999999747378752e-06

# Convergence tolerance for FWHM
config.measurement.plugins['base_SdssShape'].tol2=9.999999747378752e-05

# Whether to also compute the shape of the PSF model
config.measurement.plugins['base_SdssShape'].doMeasurePsf=True

config.measurement.plugins.names=['base_FPPosition', 'base_GaussianFlux', 'base_PsfFlux', 'ext_convolved_ConvolvedFlux', 'ext_gaap_GaapFlux', 'ext_photometryKron_KronFlux', 'ext_shapeHSM_HigherOrderMomentsPSF', 'ext_shapeHSM_HigherOrderMomentsSource', 'ext_shapeHSM_HsmPsfMoments', 'ext_shapeHSM_HsmShapeRegauss', 'ext_shapeHSM_HsmSourceMoments', 'ext_shapeHSM_HsmSourceMomentsRound', 'modelfit_CModel', 'modelfit_DoubleShapeletPsfApprox']
# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_CircularApertureFlux'].doMeasure=True

# Radius (in pixels) of apertures.
config.measurement.undeblended['base_CircularApertureFlux'].radii=[3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0]

# Maximum radius (in pixels) for which the sinc algorithm should be used instead of the faster naive algorithm.  For elliptical apertures, this is the minor axis radius.
config.measurement.undeblended['base_CircularApertureFlux'].maxSincRadius=10.0

# Warping kernel used to shift Sinc photometry coefficients to different center positions
config.measurement.undeblended['base_CircularApertureFlux'].shiftKernel='lanczos5'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_ScaledApertureFlux'].doMeasure=True

# Scaling factor of PSF FWHM for aperture radius.
config.measurement.undeblended['base_ScaledApertureFlux'].scale=3.14

# Warping kernel used to shift Sinc photometry coefficients to different center positions
config.measurement.undeblended['base_ScaledApertureFlux'].shiftKernel='lanczos5'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_PeakLikelihoodFlux'].doMeasure=True

# Name of warping kernel (e.g. "lanczos4") used to compute the peak
config.measurement.undeblended['base_PeakLikelihoodFlux'].warpingKernelName='lanczos4'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_CompensatedTophatFlux'].doMeasure=True

# The aperture radii (in pixels) to measure the top-hats.
config.measurement.undeblended['base_CompensatedTophatFlux'].apertures=[12]

# Inner background annulus scale (relative to aperture).
config.measurement.undeblended['base_CompensatedTophatFlux'].inner_scale=1.0

# Outer background annulus scale (relative to aperture).
config.measurement.undeblended['base_CompensatedTophatFlux'].outer_scale=1.7

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_CompensatedGaussianFlux'].doMeasure=True

# The widths (in pixels) of the kernels for which to measure compensated apertures.
config.measurement.undeblended['base_CompensatedGaussianFlux'].kernel_widths=[3, 5]

# Scale parameter of outer Gaussian compared to inner Gaussian.
config.measurement.undeblended['base_CompensatedGaussianFlux'].t=2.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_Blendedness'].doMeasure=True

# Whether to compute HeavyFootprint dot products (the old deblend.blendedness parameter)
config.measurement.undeblended['base_Blendedness'].doOld=True

# Whether to compute quantities related to the Gaussian-weighted flux
config.measurement.undeblended['base_Blendedness'].doFlux=True

# Whether to compute quantities related to the Gaussian-weighted shape
config.measurement.undeblended['base_Blendedness'].doShape=True

# Radius factor that sets the maximum extent of the weight function (and hence the flux measurements)
config.measurement.undeblended['base_Blendedness'].nSigmaWeightMax=3.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_ClassificationSizeExtendedness'].doMeasure=True

# Exponent to raise the PSF size squared (Ixx + Iyy) to, in the likelihood normalization
config.measurement.undeblended['base_ClassificationSizeExtendedness'].exponent=0.5

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_GaussianFlux'].doMeasure=True

# Ignored, as upstream does.
config.measurement.undeblended['base_GaussianFlux'].background=0.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_InputCount'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_LocalBackground'].doMeasure=True

# Mask planes of pixels to exclude.
config.measurement.undeblended['base_LocalBackground'].badMaskPlanes=['BAD', 'SAT', 'NO_DATA']

# Inner radius of the annulus in sigma of the PSF.
config.measurement.undeblended['base_LocalBackground'].annulusInner=7.0

# Outer radius of the annulus in sigma of the PSF.
config.measurement.undeblended['base_LocalBackground'].annulusOuter=15.0

# Rejection threshold in standard deviations.
config.measurement.undeblended['base_LocalBackground'].bgRej=3.0

# Number of sigma-clipping iterations.
config.measurement.undeblended['base_LocalBackground'].bgIter=3

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_LocalPhotoCalib'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_LocalWcs'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_PixelFlags'].doMeasure=True

# Mask planes searched for in the centre of a source; flags are named after them.
config.measurement.undeblended['base_PixelFlags'].masksFpCenter=[]

# Mask planes searched for anywhere in a source; flags are named after them.
config.measurement.undeblended['base_PixelFlags'].masksFpAnywhere=[]

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_PeakCentroid'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_FPPosition'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_Jacobian'].doMeasure=True

# Nominal pixel size (arcsec).
config.measurement.undeblended['base_Jacobian'].pixelScale=0.5

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_SkyCoord'].doMeasure=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_PsfFlux'].doMeasure=True

# Mask planes of pixels to exclude from the fit.
config.measurement.undeblended['base_PsfFlux'].badMaskPlanes=[]

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_Variance'].doMeasure=True

# Scale factor to apply to shape for aperture
config.measurement.undeblended['base_Variance'].scale=5.0

# Mask planes to ignore
config.measurement.undeblended['base_Variance'].mask=['DETECTED', 'DETECTED_NEGATIVE', 'BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['modelfit_CModel'].doMeasure=True

# Prefix of the fields with the shapelet approximation of the PSF.
config.measurement.undeblended['modelfit_CModel'].psfName='modelfit_DoubleShapeletPsfApprox'

# Radius of the first region in Kron radii.
config.measurement.undeblended['modelfit_CModel'].region.nKronRadii=1.5

# A region smaller than this many PSF radii gives way to one of the footprint's area or of this radius, whichever is larger.
config.measurement.undeblended['modelfit_CModel'].region.nPsfSigmaMin=4.0

# Grow the fitted ellipse by this many PSF radii.
config.measurement.undeblended['modelfit_CModel'].region.nPsfSigmaGrow=2.0

# Least final region in fitted radii, before growing.
config.measurement.undeblended['modelfit_CModel'].region.nFitRadiiMin=1.0

# Largest final region in fitted radii, before growing.
config.measurement.undeblended['modelfit_CModel'].region.nFitRadiiMax=3.0

# Flag regions with more pixels than this.
config.measurement.undeblended['modelfit_CModel'].region.maxArea=100000

# Mask planes of pixels that are left out.
config.measurement.undeblended['modelfit_CModel'].region.badMaskPlanes=['EDGE', 'SAT', 'BAD', 'NO_DATA']

# Largest fraction of the region to be left out.
config.measurement.undeblended['modelfit_CModel'].region.maxBadPixelFraction=0.1

# Radial profile to fit.
config.measurement.undeblended['modelfit_CModel'].initial.profileName='lux'

# Number of Gaussians that approximate the profile.
config.measurement.undeblended['modelfit_CModel'].initial.nComponents=3

# Radius up to which the profile is approximated (half-light radii; 0: its default).
config.measurement.undeblended['modelfit_CModel'].initial.maxRadius=0

# Prior on the parameters.
config.measurement.undeblended['modelfit_CModel'].initial.priorSource='EMPIRICAL'

# Name of a prior that is read from a file; not used.
config.measurement.undeblended['modelfit_CModel'].initial.priorName=''

# Largest ellipticity (conformal shear).
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.ellipticityMaxOuter=2.001

# Ellipticity where the cut-off begins.
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.ellipticityMaxInner=2.0

# Least ln(radius).
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the lower cut-off begins.
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.logRadiusMinInner=-6.0

# Largest ln(radius).
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.logRadiusMaxOuter=3.001

# ln(radius) where the upper cut-off begins.
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.logRadiusMaxInner=3.0

# Density at logRadiusMinInner divided by that at logRadiusMaxInner.
config.measurement.undeblended['modelfit_CModel'].initial.linearPriorConfig.logRadiusMinMaxRatio=1.0

# Width of the exponential distribution of ellipticity (conformal shear).
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.ellipticitySigma=0.3

# Width of the softened core of the distribution of ellipticity.
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.ellipticityCore=0.001

# Least ln(radius).
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the cut-off begins.
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusMinInner=-6.0

# ln(radius) where the flat distribution turns into a Student distribution with this mean.
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusMu=-1.0

# Width of the Student distribution.
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusSigma=0.45

# Degrees of freedom of the Student distribution.
config.measurement.undeblended['modelfit_CModel'].initial.empiricalPriorConfig.logRadiusNu=50.0

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.minTrustRadiusThreshold=0.01

# Converged if the largest component of the gradient is not above this.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.gradientThreshold=0.001

# Relative step of numerical derivatives.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.maxOuterIterations=500

# Save iterations for debugging?  Has no effect.
config.measurement.undeblended['modelfit_CModel'].initial.optimizer.doSaveIterations=False

# Weight pixels by their variances in the non-linear fit?
config.measurement.undeblended['modelfit_CModel'].initial.usePixelWeights=True

# Factor of the weights, that is of the likelihood's importance beside the prior.
config.measurement.undeblended['modelfit_CModel'].initial.weightsMultiplier=1.0

# Record the number of steps?
config.measurement.undeblended['modelfit_CModel'].initial.doRecordHistory=True

# Record the time a fit takes?
config.measurement.undeblended['modelfit_CModel'].initial.doRecordTime=True

# Radial profile to fit.
config.measurement.undeblended['modelfit_CModel'].exp.profileName='lux'

# Number of Gaussians that approximate the profile.
config.measurement.undeblended['modelfit_CModel'].exp.nComponents=6

# Radius up to which the profile is approximated (half-light radii; 0: its default).
config.measurement.undeblended['modelfit_CModel'].exp.maxRadius=0

# Prior on the parameters.
config.measurement.undeblended['modelfit_CModel'].exp.priorSource='EMPIRICAL'

# Name of a prior that is read from a file; not used.
config.measurement.undeblended['modelfit_CModel'].exp.priorName=''

# Largest ellipticity (conformal shear).
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.ellipticityMaxOuter=2.001

# Ellipticity where the cut-off begins.
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.ellipticityMaxInner=2.0

# Least ln(radius).
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the lower cut-off begins.
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.logRadiusMinInner=-6.0

# Largest ln(radius).
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.logRadiusMaxOuter=3.001

# ln(radius) where the upper cut-off begins.
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.logRadiusMaxInner=3.0

# Density at logRadiusMinInner divided by that at logRadiusMaxInner.
config.measurement.undeblended['modelfit_CModel'].exp.linearPriorConfig.logRadiusMinMaxRatio=1.0

# Width of the exponential distribution of ellipticity (conformal shear).
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.ellipticitySigma=0.3

# Width of the softened core of the distribution of ellipticity.
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.ellipticityCore=0.001

# Least ln(radius).
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the cut-off begins.
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusMinInner=-6.0

# ln(radius) where the flat distribution turns into a Student distribution with this mean.
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusMu=-1.0

# Width of the Student distribution.
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusSigma=0.45

# Degrees of freedom of the Student distribution.
config.measurement.undeblended['modelfit_CModel'].exp.empiricalPriorConfig.logRadiusNu=50.0

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.minTrustRadiusThreshold=1e-05

# Converged if the largest component of the gradient is not above this.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.gradientThreshold=1e-05

# Relative step of numerical derivatives.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.maxOuterIterations=250

# Save iterations for debugging?  Has no effect.
config.measurement.undeblended['modelfit_CModel'].exp.optimizer.doSaveIterations=False

# Weight pixels by their variances in the non-linear fit?
config.measurement.undeblended['modelfit_CModel'].exp.usePixelWeights=False

# Factor of the weights, that is of the likelihood's importance beside the prior.
config.measurement.undeblended['modelfit_CModel'].exp.weightsMultiplier=1.0

# Record the number of steps?
config.measurement.undeblended['modelfit_CModel'].exp.doRecordHistory=True

# Record the time a fit takes?
config.measurement.undeblended['modelfit_CModel'].exp.doRecordTime=True

# Radial profile to fit.
config.measurement.undeblended['modelfit_CModel'].dev.profileName='luv'

# Number of Gaussians that approximate the profile.
config.measurement.undeblended['modelfit_CModel'].dev.nComponents=8

# Radius up to which the profile is approximated (half-light radii; 0: its default).
config.measurement.undeblended['modelfit_CModel'].dev.maxRadius=0

# Prior on the parameters.
config.measurement.undeblended['modelfit_CModel'].dev.priorSource='EMPIRICAL'

# Name of a prior that is read from a file; not used.
config.measurement.undeblended['modelfit_CModel'].dev.priorName=''

# Largest ellipticity (conformal shear).
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.ellipticityMaxOuter=2.001

# Ellipticity where the cut-off begins.
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.ellipticityMaxInner=2.0

# Least ln(radius).
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the lower cut-off begins.
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.logRadiusMinInner=-6.0

# Largest ln(radius).
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.logRadiusMaxOuter=3.001

# ln(radius) where the upper cut-off begins.
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.logRadiusMaxInner=3.0

# Density at logRadiusMinInner divided by that at logRadiusMaxInner.
config.measurement.undeblended['modelfit_CModel'].dev.linearPriorConfig.logRadiusMinMaxRatio=1.0

# Width of the exponential distribution of ellipticity (conformal shear).
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.ellipticitySigma=0.3

# Width of the softened core of the distribution of ellipticity.
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.ellipticityCore=0.001

# Least ln(radius).
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusMinOuter=-6.001

# ln(radius) where the cut-off begins.
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusMinInner=-6.0

# ln(radius) where the flat distribution turns into a Student distribution with this mean.
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusMu=-1.0

# Width of the Student distribution.
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusSigma=0.45

# Degrees of freedom of the Student distribution.
config.measurement.undeblended['modelfit_CModel'].dev.empiricalPriorConfig.logRadiusNu=50.0

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.minTrustRadiusThreshold=1e-05

# Converged if the largest component of the gradient is not above this.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.gradientThreshold=1e-05

# Relative step of numerical derivatives.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.maxOuterIterations=500

# Save iterations for debugging?  Has no effect.
config.measurement.undeblended['modelfit_CModel'].dev.optimizer.doSaveIterations=False

# Weight pixels by their variances in the non-linear fit?
config.measurement.undeblended['modelfit_CModel'].dev.usePixelWeights=False

# Factor of the weights, that is of the likelihood's importance beside the prior.
config.measurement.undeblended['modelfit_CModel'].dev.weightsMultiplier=1.0

# Record the number of steps?
config.measurement.undeblended['modelfit_CModel'].dev.doRecordHistory=True

# Record the time a fit takes?
config.measurement.undeblended['modelfit_CModel'].dev.doRecordTime=True

# Least radius to start from (pixels).
config.measurement.undeblended['modelfit_CModel'].minInitialRadius=0.1

# Start from the PSF's ellipse times this if there is no shape; if not positive, fail instead.
config.measurement.undeblended['modelfit_CModel'].fallbackInitialMomentsPsfFactor=1.5

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].doMeasure=True

# Order of the inner expansion (0: a Gaussian).
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].innerOrder=2

# Order of the outer expansion (0: a Gaussian).
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].outerOrder=1

# First outer radius divided by the inner one.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].radiusRatio=2.0

# First outer peak divided by the inner one.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].peakRatio=0.1

# Least minor semi-axis of a component (pixels).
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].minRadius=0.25

# Least difference of the two determinant radii (pixels).
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].minRadiusDiff=0.5

# Largest major semi-axis of a component in units of the width of the PSF image.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].maxRadiusBoxFraction=0.4

# Leave the symmetric rank-1 update out of the Hessian (Levenberg-Marquardt-like)?
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.noSR1Term=False

# Skip the SR1 update if v.s / (norm(v) norm(s)) is less.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.skipSR1UpdateThreshold=1e-08

# Converged if the trust radius is not above this.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.minTrustRadiusThreshold=1e-05

# Converged if the largest component of the gradient is not above this.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.gradientThreshold=1e-05

# Relative step of numerical derivatives.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.numDiffRelStep=0.0

# Absolute step of numerical derivatives, added to the others.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.numDiffAbsStep=0.0

# Step of numerical derivatives in units of the trust radius, added to the others.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.numDiffTrustRadiusStep=0.1

# Accept steps with a larger reduction ratio.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.stepAcceptThreshold=0.0

# First trust radius.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionInitialSize=1.0

# Steps with a larger reduction ratio may increase the trust radius.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionGrowReductionRatio=0.75

# Steps longer than this times the trust radius may increase it.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionGrowStepFraction=0.8

# Factor by which the trust radius grows.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionGrowFactor=2.0

# Steps with a smaller reduction ratio decrease the trust radius.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionShrinkReductionRatio=0.25

# Factor by which the trust radius shrinks.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionShrinkFactor=0.3333333333333333

# Relative accuracy of the length of steps to the edge of the trust region.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.trustRegionSolverTolerance=1e-08

# Largest number of rejected steps in a row.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.maxInnerIterations=20

# Largest number of accepted steps.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.maxOuterIterations=500

# Save iterations for debugging?  Has no effect.
config.measurement.undeblended['modelfit_DoubleShapeletPsfApprox'].optimizer.doSaveIterations=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].doMeasure=True

# list of target seeings (FWHM, pixels)
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].seeing=[3.5, 5.0, 6.5]

# scaling factor of kernel sigma for kernel size
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].kernelScale=4.0

# Radius (in pixels) of apertures.
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].aperture.radii=[3.3, 4.5, 6.0]

# Maximum radius (in pixels) for which the sinc algorithm should be used instead of the faster naive algorithm.  For elliptical apertures, this is the minor axis radius.
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].aperture.maxSincRadius=10.0

# Warping kernel used to shift Sinc photometry coefficients to different center positions
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].aperture.shiftKernel='lanczos5'

# name of Kron radius field in reference
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].kronRadiusName='ext_photometryKron_KronFlux_radius'

# Largest aperture for which to use the sinc aperture code for Kron (pixels)
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].maxSincRadius=10.0

# Number of Kron radii for Kron flux
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].kronRadiusForFlux=2.5

# Register measurements for aperture correction?
# The aperture correction registration is done when the plugin is
# instantiated because the column names are derived from the configuration
# rather than being static. Sometimes you want to turn this off, e.g.,
# when you will use aperture corrections derived from somewhere else
# through the 'proxy' mechanism.
config.measurement.undeblended['ext_convolved_ConvolvedFlux'].registerForApCorr=True

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_gaap_GaapFlux'].doMeasure=True

# Sigmas (in arcseconds) of the circular Gaussian apertures; an aperture not larger than the target PSF cannot be measured.
config.measurement.undeblended['ext_gaap_GaapFlux'].sigmas=[0.7, 1.0]

# Sigma of the target PSF in units of the PSF's trace radius, not below 1. Time is proportional to their number.
config.measurement.undeblended['ext_gaap_GaapFlux'].scalingFactors=[1.15]

# Kernel to warp pixels with.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.warpingKernelName='lanczos3'

# Kernel to warp masks with; '': the same.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.maskWarpingKernelName='bilinear'

# Distance of exactly warped pixels.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.interpLength=10

# Number of kernel vectors to keep.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.cacheSize=1000000

# Mask bits to grow to the width of the kernel.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].warpingConfig.growFullMask=16

# Statistic of each bin.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.statisticsProperty='MEANCLIP'

# What to do if bins are too few.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.undersampleStyle='REDUCE_INTERP_ORDER'

# Size of bins in pixels.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.binSize=128

# Width of bins in pixels; 0: binSize.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.binSizeX=0

# Height of bins in pixels; 0: binSize.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.binSizeY=0

# How to interpolate between bins.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.algorithm='AKIMA_SPLINE'

# Mask planes of pixels to leave out.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.ignoredPixelMask=['BAD', 'EDGE', 'DETECTED', 'DETECTED_NEGATIVE', 'NO_DATA']

# Leave out NaNs?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.isNanSafe=False

# Fit a polynomial to the bins?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.useApprox=True

# Order of the polynomial along x.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.approxOrderX=6

# Order of the polynomial along y; -1: as along x.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.approxOrderY=-1

# Weight bins with their variance?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.weighting=True

# Undo the photometric flat field?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.doApplyFlatBackgroundRatio=False

# Remove outliers among bins?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.doFilterSuperPixels=False

# Size of the median filter for that.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].afwBackgroundConfig.superPixelFilterSize=3

# Subtract a background before the fit?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].useAfwBackground=False

# Fit a background together with the kernel?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].fitForBackground=False

# Kind of basis functions.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelBasisSet='alard-lupton'

# Size of the kernel in pixels, odd; a start if scaleByFwhm.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSize=21

# Derive size of kernel and Gaussian from the PSFs' widths?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].scaleByFwhm=True

# Kernel size in sigmas of the widest Gaussian.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSizeFwhmScaling=6.0

# Smallest kernel size in pixels.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSizeMin=21

# Largest kernel size in pixels.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSizeMax=35

# Kind of spatial variation.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialModelType='chebyshev1'

# Spatial order of the kernel.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialKernelOrder=0

# Spatial order of the background.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialBgOrder=1

# Width in pixels of cells of candidates.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].sizeCellX=128

# Height in pixels of cells of candidates.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].sizeCellY=128

# Largest number of candidates per cell.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].nStarPerCell=5

# Largest number of rejection rounds.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxSpatialIterations=3

# Reduce the basis to principal components?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].usePcaForSpatialKernel=False

# Subtract the mean before that?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].subtractMeanForPca=True

# Number of principal components.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].numPrincipalComponents=5

# Clip candidates by their residuals?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].singleKernelClipping=False

# Clip candidates by their kernel sums?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].kernelSumClipping=False

# Clip candidates after the spatial fit?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].spatialKernelClipping=False

# Reject ill-conditioned fits?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].checkConditionNumber=False

# Mask planes of pixels without residuals.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].badMaskPlanes=['NO_DATA', 'EDGE', 'SAT']

# Largest mean residual in errors.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].candidateResidualMeanMax=0.25

# Largest scatter of residuals in errors.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].candidateResidualStdMax=1.5

# Look at residuals in the core only?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].useCoreStats=False

# Radius of the core in pixels.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].candidateCoreRadius=3

# Largest deviation of a kernel sum in sigmas.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxKsumSigma=3.0

# Largest condition number.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxConditionNumber=50000000.0

# What condition numbers are ratios of.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].conditionNumberType='EIGENVALUE'

# Largest condition number, spatial fit.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].maxSpatialConditionNumber=10000000000.0

# Repeat the fit with better variances?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].iterateSingleKernel=False

# Give all pixels the same weight?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].constantVarianceWeighting=True

# Compute errors of the kernel?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].calculateKernelUncertainty=False

# Choose the basis by information criterion?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].useBicForKernelBasis=False

# Number of Gaussians.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardNGauss=1

# Degree of each Gaussian's polynomials.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardDegGauss=[4]

# Sigmas of the Gaussians in pixels, where they aren't derived from the PSFs.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardSigGauss=[0.7, 1.5, 3.0]

# Ratio of successive sigmas.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardGaussBeta=1.0

# Smallest sigma in pixels.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardMinSig=0.7

# Smallest sigma in pixels in deconvolution.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel['AL'].alardMinSigDeconv=0.4

config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.kernel.name='AL'
# Pad small PSF images as autoPadPsfTo says?
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.doAutoPadPsf=True

# Smallest PSF image in units of kernelSize, if doAutoPadPsf.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.autoPadPsfTo=1.4

# Pixels (even) to pad PSF images by, unless doAutoPadPsf.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.padPsfBy=0

# How to convolve. Methods differ in which pixels a NaN spoils.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfMatch.convolutionMethod='auto'

# Width and height of the target PSF's image in pixels, odd. It is adapted to the PSF anyway.
config.measurement.undeblended['ext_gaap_GaapFlux']._modelPsfDimension=65

# Measure with the target PSF as aperture, to check the Gaussianization? Colors of these fluxes are not consistent.
config.measurement.undeblended['ext_gaap_GaapFlux'].doPsfPhotometry=False

# Measure with an elliptical aperture adapted to the source? Needs the slots Shape and PsfShape.
config.measurement.undeblended['ext_gaap_GaapFlux'].doOptimalPhotometry=True

# Take part in aperture correction? The names depend on the options here, so they are registered when a plugin is made.
config.measurement.undeblended['ext_gaap_GaapFlux'].registerForApCorr=True

# Apply the matching kernel as a correlation, which is how it is fitted? Upstream applies it as a convolution, which makes PSFs without point symmetry less Gaussian.
config.measurement.undeblended['ext_gaap_GaapFlux'].doConvolveAsFitted=False

# Divide sums over 16 samples of each pixel, under weights of less than half a pixel, by 16? Upstream doesn't, and fluxes in apertures hardly larger than the target PSF are too large.
config.measurement.undeblended['ext_gaap_GaapFlux'].doAverageSubpixels=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsSource'].doMeasure=True

# Minimum order of the higher order moments to compute
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsSource'].min_order=3

# Maximum order of the higher order moments to compute
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsSource'].max_order=4

# Mask planes used to reject bad pixels.
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsSource'].badMaskPlanes=['BAD', 'SAT']

# Set masked pixels to zero? If False, they are replaced by the scaled version of the adaptive weights.
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsSource'].setMaskedPixelsToZero=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsPSF'].doMeasure=True

# Minimum order of the higher order moments to compute
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsPSF'].min_order=3

# Maximum order of the higher order moments to compute
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsPSF'].max_order=4

# Use source centroid offset?
config.measurement.undeblended['ext_shapeHSM_HigherOrderMomentsPSF'].useSourceCentroidOffset=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmSourceMoments'].doMeasure=True

# Use round weight function?
config.measurement.undeblended['ext_shapeHSM_HsmSourceMoments'].roundMoments=False

# Store measured flux?
config.measurement.undeblended['ext_shapeHSM_HsmSourceMoments'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.undeblended['ext_shapeHSM_HsmSourceMoments'].subtractCenter=False

# Mask planes used to reject bad pixels.
config.measurement.undeblended['ext_shapeHSM_HsmSourceMoments'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmSourceMomentsRound'].doMeasure=True

# Use round weight function?
config.measurement.undeblended['ext_shapeHSM_HsmSourceMomentsRound'].roundMoments=True

# Store measured flux?
config.measurement.undeblended['ext_shapeHSM_HsmSourceMomentsRound'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.undeblended['ext_shapeHSM_HsmSourceMomentsRound'].subtractCenter=False

# Mask planes used to reject bad pixels.
config.measurement.undeblended['ext_shapeHSM_HsmSourceMomentsRound'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMoments'].doMeasure=True

# Use round weight function?
config.measurement.undeblended['ext_shapeHSM_HsmPsfMoments'].roundMoments=False

# Store measured flux?
config.measurement.undeblended['ext_shapeHSM_HsmPsfMoments'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.undeblended['ext_shapeHSM_HsmPsfMoments'].subtractCenter=True

# If True, then draw the PSF to be measured in the coordinate system of the original image (the PSF model origin - which is commonly the PSF centroid - may end up near a pixel edge or corner). If False, then draw the PSF to be measured in a shifted coordinate system such that the PSF model origin lands precisely in the center of the central pixel of the PSF image.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMoments'].useSourceCentroidOffset=False

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].doMeasure=True

# Use round weight function?
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].roundMoments=False

# Store measured flux?
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].addFlux=False

# Subtract starting center from x/y outputs?
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].subtractCenter=True

# If True, then draw the PSF to be measured in the coordinate system of the original image (the PSF model origin - which is commonly the PSF centroid - may end up near a pixel edge or corner). If False, then draw the PSF to be measured in a shifted coordinate system such that the PSF model origin lands precisely in the center of the central pixel of the PSF image.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].useSourceCentroidOffset=True

# Noise source. How to choose variance of the zero-mean Gaussian noise added to image.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].noiseSource='variance'

# Seed offset for random number generator.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].seedOffset=0

# Mask planes used to reject bad pixels.
config.measurement.undeblended['ext_shapeHSM_HsmPsfMomentsDebiased'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmShapeBj'].doMeasure=True

# Field name for number of deblend children.
config.measurement.undeblended['ext_shapeHSM_HsmShapeBj'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.undeblended['ext_shapeHSM_HsmShapeBj'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmShapeLinear'].doMeasure=True

# Field name for number of deblend children.
config.measurement.undeblended['ext_shapeHSM_HsmShapeLinear'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.undeblended['ext_shapeHSM_HsmShapeLinear'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmShapeKsb'].doMeasure=True

# Field name for number of deblend children.
config.measurement.undeblended['ext_shapeHSM_HsmShapeKsb'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.undeblended['ext_shapeHSM_HsmShapeKsb'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_shapeHSM_HsmShapeRegauss'].doMeasure=True

# Field name for number of deblend children.
config.measurement.undeblended['ext_shapeHSM_HsmShapeRegauss'].deblendNChild=''

# Mask planes that indicate pixels that should be excluded from the fit.
config.measurement.undeblended['ext_shapeHSM_HsmShapeRegauss'].badMaskPlanes=['BAD', 'SAT']

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['ext_photometryKron_KronFlux'].doMeasure=True

# if true, use existing shape and centroid measurements instead of fitting
config.measurement.undeblended['ext_photometryKron_KronFlux'].fixed=False

# Multiplier of rms size for aperture used to initially estimate the Kron radius
config.measurement.undeblended['ext_photometryKron_KronFlux'].nSigmaForRadius=6.0

# Number of times to iterate when setting the Kron radius
config.measurement.undeblended['ext_photometryKron_KronFlux'].nIterForRadius=1

# Number of Kron radii for Kron flux
config.measurement.undeblended['ext_photometryKron_KronFlux'].nRadiusForFlux=2.5

# Largest aperture for which to use the slow, accurate, sinc aperture code
config.measurement.undeblended['ext_photometryKron_KronFlux'].maxSincRadius=10.0

# Minimum Kron radius (if == 0.0 use PSF's Kron radius) if enforceMinimumRadius. Also functions as fallback aperture radius if set.
config.measurement.undeblended['ext_photometryKron_KronFlux'].minimumRadius=0.0

# If true check that the Kron radius exceeds some minimum
config.measurement.undeblended['ext_photometryKron_KronFlux'].enforceMinimumRadius=True

# Use the Footprint size as part of initial estimate of Kron radius
config.measurement.undeblended['ext_photometryKron_KronFlux'].useFootprintRadius=False

# Smooth image with N(0, smoothingSigma^2) Gaussian while estimating R_K
config.measurement.undeblended['ext_photometryKron_KronFlux'].smoothingSigma=-1.0

# Name of field specifying reference Kron radius for forced measurement
config.measurement.undeblended['ext_photometryKron_KronFlux'].refRadiusName='ext_photometryKron_KronFlux_radius'

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_SdssCentroid'].doMeasure=True

# maximum allowed binning
config.measurement.undeblended['base_SdssCentroid'].binmax=16

# if the peak's less than this insist on binning at least once
config.measurement.undeblended['base_SdssCentroid'].peakMin=-1.0

# fiddle factor for adjusting the binning
config.measurement.undeblended['base_SdssCentroid'].wfac=1.5

# Do check that the centroid is contained in footprint.
config.measurement.undeblended['base_SdssCentroid'].doFootprintCheck=True

# If set > 0, Centroid Check distance to footprint peak in pixels.
config.measurement.undeblended['base_SdssCentroid'].maxDistToPeak=1.0

# Run the plugin? If not, its fields are made but never filled.
config.measurement.undeblended['base_SdssShape'].doMeasure=True

# Additional value to subtract from background
config.measurement.undeblended['base_SdssShape'].background=0.0

# Maximum number of iterations
config.measurement.undeblended['base_SdssShape'].maxIter=100

# Maximum centroid shift, limited to 2-10
config.measurement.undeblended['base_SdssShape'].maxShift=0.0

# Convergence tolerance for e1,e2
config.measurement.undeblended['base_SdssShape'].tol1=9.999999747378752e-06

# Convergence tolerance for FWHM
config.measurement.undeblended['base_SdssShape'].tol2=9.999999747378752e-05

# Whether to also compute the shape of the PSF model
config.measurement.undeblended['base_SdssShape'].doMeasurePsf=True

config.measurement.undeblended.names=[]
# Prefix of the names of undeblended plugins.
config.measurement.undeblendedPrefix='undeblended_'

# Replace other sources than the measured one by noise?
config.measurement.doReplaceWithNoise=True

# How to choose mean and variance of the noise.
config.measurement.noiseReplacer.noiseSource='measure'

# Offset to add to the noise.
config.measurement.noiseReplacer.noiseOffset=0.0

# The seed is this times the exposure ID, or this if there is no ID. 0: the generator's default seed.
config.measurement.noiseReplacer.noiseSeedMultiplier=1

# Plugin that measures the centroids.
config.measurement.slots.centroid=None

# Plugin that measures the second moments.
config.measurement.slots.shape='ext_shapeHSM_HsmSourceMoments'

# Prefix of the second moments of the PSF.
config.measurement.slots.psfShape='ext_shapeHSM_HsmPsfMoments'

# Prefix of the aperture flux.
config.measurement.slots.apFlux=None

# Prefix of the model flux.
config.measurement.slots.modelFlux='modelfit_CModel'

# Prefix of the PSF flux.
config.measurement.slots.psfFlux='base_PsfFlux'

# Prefix of the Gaussian flux.
config.measurement.slots.gaussianFlux='base_GaussianFlux'

# Prefix of the flux used in calibration.
config.measurement.slots.calibFlux=None

# Field name prefix for the flux other measurements should be aperture corrected to match
config.measure_ap_corr.refFluxName='slot_CalibFlux'

# Apply flux limit?
config.measure_ap_corr.sourceSelector['science'].doFluxLimit=False

# Apply flag limitation?
config.measure_ap_corr.sourceSelector['science'].doFlags=False

# Apply unresolved limitation?
config.measure_ap_corr.sourceSelector['science'].doUnresolved=False

# Apply signal-to-noise limit?
config.measure_ap_corr.sourceSelector['science'].doSignalToNoise=True

# Apply isolated limitation?
config.measure_ap_corr.sourceSelector['science'].doIsolated=False

# Apply finite sky coordinate check?
config.measure_ap_corr.sourceSelector['science'].doRequireFiniteRaDec=False

# Apply source is primary check?
config.measure_ap_corr.sourceSelector['science'].doRequirePrimary=False

# Include sky sources, unioned with all other criteria?
config.measure_ap_corr.sourceSelector['science'].doSkySources=False

# Apply limit on centroid errors?
config.measure_ap_corr.sourceSelector['science'].doCentroidErrorLimit=False

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['science'].fluxLimit.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['science'].fluxLimit.maximum=None

# Name of the source flux field to use.
config.measure_ap_corr.sourceSelector['science'].fluxLimit.fluxField='slot_CalibFlux_instFlux'

# List of source flag fields that must be set for a source to be used.
config.measure_ap_corr.sourceSelector['science'].flags.good=[]

# List of source flag fields that must NOT be set for a source to be used.
config.measure_ap_corr.sourceSelector['science'].flags.bad=['base_PixelFlags_flag_edge', 'base_PixelFlags_flag_nodata', 'base_PixelFlags_flag_interpolatedCenter', 'base_PixelFlags_flag_saturatedCenter', 'base_PixelFlags_flag_crCenter', 'base_PixelFlags_flag_bad', 'base_PixelFlags_flag_interpolated', 'base_PixelFlags_flag_saturated']

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['science'].unresolved.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['science'].unresolved.maximum=0.1

# Name of column for star/galaxy separation
config.measure_ap_corr.sourceSelector['science'].unresolved.name='base_ClassificationSizeExtendedness_value'

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['science'].signalToNoise.minimum=200.0

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['science'].signalToNoise.maximum=None

# Name of the source flux field to use.
config.measure_ap_corr.sourceSelector['science'].signalToNoise.fluxField='base_PsfFlux_instFlux'

# Name of the source flux error field to use.
config.measure_ap_corr.sourceSelector['science'].signalToNoise.errField='base_PsfFlux_instFluxErr'

# Name of column for parent
config.measure_ap_corr.sourceSelector['science'].isolated.parentName='parent'

# Name of column for nChild
config.measure_ap_corr.sourceSelector['science'].isolated.nChildName='deblend_nChild'

# Name of column for RA coordinate
config.measure_ap_corr.sourceSelector['science'].requireFiniteRaDec.raColName='coord_ra'

# Name of column for Dec coordinate
config.measure_ap_corr.sourceSelector['science'].requireFiniteRaDec.decColName='coord_dec'

# Name of primary flag column
config.measure_ap_corr.sourceSelector['science'].requirePrimary.primaryColName='detect_isPrimary'

# List of source flag fields that must be set for a source to be used.
config.measure_ap_corr.sourceSelector['science'].skyFlag.good=['sky_source']

# List of source flag fields that must NOT be set for a source to be used.
config.measure_ap_corr.sourceSelector['science'].skyFlag.bad=[]

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['science'].centroidErrorLimit.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['science'].centroidErrorLimit.maximum=3.0

# Name of the source centroid field to use.
config.measure_ap_corr.sourceSelector['science'].centroidErrorLimit.centroidField='slot_Centroid'

# Apply magnitude limit?
config.measure_ap_corr.sourceSelector['references'].doMagLimit=False

# Apply flag limitation?
config.measure_ap_corr.sourceSelector['references'].doFlags=False

# Apply unresolved limitation?
config.measure_ap_corr.sourceSelector['references'].doUnresolved=False

# Apply signal-to-noise limit?
config.measure_ap_corr.sourceSelector['references'].doSignalToNoise=False

# Apply magnitude error limit?
config.measure_ap_corr.sourceSelector['references'].doMagError=False

# Apply finite sky coordinate check?
config.measure_ap_corr.sourceSelector['references'].doRequireFiniteRaDec=True

# Apply image masked region culling?
config.measure_ap_corr.sourceSelector['references'].doCullFromMaskedRegion=False

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['references'].magLimit.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['references'].magLimit.maximum=None

# Name of the source flux field to use.
config.measure_ap_corr.sourceSelector['references'].magLimit.fluxField='flux'

# List of source flag fields that must be set for a source to be used.
config.measure_ap_corr.sourceSelector['references'].flags.good=[]

# List of source flag fields that must NOT be set for a source to be used.
config.measure_ap_corr.sourceSelector['references'].flags.bad=[]

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['references'].unresolved.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['references'].unresolved.maximum=0.1

# Name of column for star/galaxy separation
config.measure_ap_corr.sourceSelector['references'].unresolved.name='base_ClassificationSizeExtendedness_value'

# Name of column for RA coordinate
config.measure_ap_corr.sourceSelector['references'].requireFiniteRaDec.raColName='coord_ra'

# Name of column for Dec coordinate
config.measure_ap_corr.sourceSelector['references'].requireFiniteRaDec.decColName='coord_dec'

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['references'].signalToNoise.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['references'].signalToNoise.maximum=None

# Name of the source flux field to use.
config.measure_ap_corr.sourceSelector['references'].signalToNoise.fluxField='flux'

# Name of the source flux error field to use.
config.measure_ap_corr.sourceSelector['references'].signalToNoise.errField='flux_err'

# Select objects with value greater than this
config.measure_ap_corr.sourceSelector['references'].magError.minimum=None

# Select objects with value less than this
config.measure_ap_corr.sourceSelector['references'].magError.maximum=None

# Name of the source flux error field to use.
config.measure_ap_corr.sourceSelector['references'].magError.magErrField='mag_err'

config.measure_ap_corr.sourceSelector['references'].colorLimits={}
# List of mask planes for which sources should be removed if a bit is set.
config.measure_ap_corr.sourceSelector['references'].cullFromMaskedRegion.badMaskNames=['NO_DATA', 'NOT_DEBLENDED']

# Name of column for image x coordinate.
config.measure_ap_corr.sourceSelector['references'].cullFromMaskedRegion.xColName='centroid_x'

# Name of column for image y coordinate.
config.measure_ap_corr.sourceSelector['references'].cullFromMaskedRegion.yColName='centroid_y'

# Name of a flag field that is True for Sources that should be used.
config.measure_ap_corr.sourceSelector['flagged'].field='calib_psf_used'

# Apply flux limit to Psf Candidate selection?
config.measure_ap_corr.sourceSelector['objectSize'].doFluxLimit=False

# Minimum flux value for good Psf Candidates.
config.measure_ap_corr.sourceSelector['objectSize'].fluxMin=12500.0

# Maximum flux value for good Psf Candidates (ignored if == 0).
config.measure_ap_corr.sourceSelector['objectSize'].fluxMax=0.0

# Apply signal-to-noise (i.e. flux/fluxErr) limit to Psf Candidate selection?
config.measure_ap_corr.sourceSelector['objectSize'].doSignalToNoiseLimit=True

# Minimum signal-to-noise for good Psf Candidates (value should take into consideration the detection thresholds set for the catalog of interest).
config.measure_ap_corr.sourceSelector['objectSize'].signalToNoiseMin=50.0

# Maximum signal-to-noise for good Psf Candidates (ignored if == 0).
config.measure_ap_corr.sourceSelector['objectSize'].signalToNoiseMax=0.0

# Minimum width to include in histogram.
config.measure_ap_corr.sourceSelector['objectSize'].widthMin=0.9

# Maximum width to include in histogram.
config.measure_ap_corr.sourceSelector['objectSize'].widthMax=10.0

# Name of field in Source to use for flux measurement.
config.measure_ap_corr.sourceSelector['objectSize'].sourceFluxField='base_PsfFlux_instFlux'

# Standard deviation of width allowed to be interpreted as good stars.
config.measure_ap_corr.sourceSelector['objectSize'].widthStdAllowed=0.15

# Keep objects within this many sigma of cluster 0's median.
config.measure_ap_corr.sourceSelector['objectSize'].nSigmaClip=2.0

# List of flags which cause a source to be rejected as bad.
config.measure_ap_corr.sourceSelector['objectSize'].badFlags=['base_PixelFlags_flag_edge', 'base_PixelFlags_flag_nodata', 'base_PixelFlags_flag_interpolatedCenter', 'base_PixelFlags_flag_saturatedCenter', 'base_PixelFlags_flag_crCenter', 'base_PixelFlags_flag_bad', 'base_PixelFlags_flag_interpolated', 'slot_Centroid_flag']

config.measure_ap_corr.sourceSelector.name='science'
# Minimum number of degrees of freedom (# of valid data points - # of parameters); if this is exceeded, the order of the fit is decreased (in both dimensions), and if we can't decrease it enough, we'll raise ValueError.
config.measure_ap_corr.minDegreesOfFreedom=1

# maximum Chebyshev function order in x
config.measure_ap_corr.fitConfig.orderX=2

# maximum Chebyshev function order in y
config.measure_ap_corr.fitConfig.orderY=2

# if true, only include terms where the sum of the x and y order is less than or equal to max(orderX, orderY)
config.measure_ap_corr.fitConfig.triangular=True

# Number of iterations for robust MAD sigma clipping.
config.measure_ap_corr.numIter=4

# Number of robust MAD sigma to do clipping.
config.measure_ap_corr.numSigmaClip=4.0

# Do final shift to ensure medians match.
config.measure_ap_corr.doFinalMedianShift=True

# Allow these measurement algorithms to fail without an exception.
config.measure_ap_corr.allowFailure=['ext_convolved_ConvolvedFlux_0_3_3', 'ext_convolved_ConvolvedFlux_0_4_5', 'ext_convolved_ConvolvedFlux_0_6_0', 'ext_convolved_ConvolvedFlux_1_3_3', 'ext_convolved_ConvolvedFlux_1_4_5', 'ext_convolved_ConvolvedFlux_1_6_0', 'ext_convolved_ConvolvedFlux_2_3_3', 'ext_convolved_ConvolvedFlux_2_4_5', 'ext_convolved_ConvolvedFlux_2_6_0', 'ext_convolved_ConvolvedFlux_3_3_3', 'ext_convolved_ConvolvedFlux_3_4_5', 'ext_convolved_ConvolvedFlux_3_6_0', 'ext_convolved_ConvolvedFlux_0_kron', 'ext_convolved_ConvolvedFlux_1_kron', 'ext_convolved_ConvolvedFlux_2_kron', 'ext_convolved_ConvolvedFlux_3_kron', 'ext_gaap_GaapFlux_1_15x_0_5', 'ext_gaap_GaapFlux_1_15x_0_7', 'ext_gaap_GaapFlux_1_15x_1_0', 'ext_gaap_GaapFlux_1_15x_1_5', 'ext_gaap_GaapFlux_1_15x_2_5', 'ext_gaap_GaapFlux_1_15x_3_0', 'ext_gaap_GaapFlux_1_15x_PsfFlux', 'ext_gaap_GaapFlux_1_15x_Optimal']

# flux measurement algorithms in getApCorrNameSet() to ignore; if a name is listed that does not appear in getApCorrNameSet() then a warning is logged
config.apply_ap_corr.ignoreList=[]

# set the general failure flag for a flux when it cannot be aperture-corrected?
config.apply_ap_corr.doFlagApCorrFailures=True

# flux measurement algorithms to be aperture-corrected by reference to another algorithm; this is a mapping alg1:alg2, where 'alg1' is the algorithm being corrected, and 'alg2' is the algorithm supplying the corrections
config.apply_ap_corr.proxies={}

# name of the x coordinate column in the catalog
config.apply_ap_corr.xColumn='slot_Centroid_x'

# name of the y coordinate column in the catalog
config.apply_ap_corr.yColumn='slot_Centroid_y'

# write the applied correction to <name>_apCorr and 0 to <name>_apCorrErr? If False both stay NaN for all rows, as upstream leaves them since July 2025 (a switch that is never set).
config.apply_ap_corr.doWriteApCorr=True

# Add second moments of stars and PSF models in sky and in alt/az coordinates (arcsec^2) to the output table?
config.do_add_sky_moments=False

# Add FGCM photometry for all bands to the output table.
config.do_add_fgcm_photometry=False

# List of bands to include for FGCM photometry (telescope-dependent).
config.fgcmPhotometryBands=['g', 'r', 'i', 'z', 'y']

# name for connection src_schema
config.connections.src_schema='src_schema'

# name for connection isolated_star_cats
config.connections.isolated_star_cats='isolated_star_presource_associations'

# name for connection isolated_star_sources
config.connections.isolated_star_sources='isolated_star_presources'

# name for connection fgcm_standard_star
config.connections.fgcm_standard_star='fgcm_standard_star'

# name for connection src
config.connections.src='src'

# name for connection calexp
config.connections.calexp='calexp'

# name for connection finalized_psf_ap_corr_detector_cat
config.connections.finalized_psf_ap_corr_detector_cat='finalized_psf_ap_corr_detector_catalog'

# name for connection finalized_src_detector_table
config.connections.finalized_src_detector_table='finalized_src_detector_table'

