# %% [markdown]
# # Final characterization without a butler
#
# Run this in a checkout, as a script or cell by cell: Jupyter (with jupytext),
# VS Code and PyCharm open it as a notebook. In Jupyter, add a cell with
# `%matplotlib inline`.

# %%
import tempfile
from pathlib import Path

import galsim
import numpy as np
import pyarrow.parquet
from matplotlib.figure import Figure

from lsst.meas.finalize.afw import (
    read_exposure,
    read_exposure_catalog,
    read_source_catalog,
    write_exposure_catalog,
)
from lsst.meas.finalize.apcorr import (
    ApplyApCorrTask,
    MeasureApCorrTask,
    ap_corr_image,
    ap_corr_table,
    sourceSelectorRegistry,
)
from lsst.meas.finalize.arrays import find_sources, make_image
from lsst.meas.finalize.measure import SingleFrameMeasurementTask
from lsst.meas.finalize.psf import psfDeterminerRegistry
from lsst.meas.finalize.quality import plot_ap_corr, plot_psf
from lsst.meas.finalize.stars import MakePsfCandidatesTask, ReserveIsolatedStarsTask
from lsst.meas.finalize.tasks import OutputSchema
from lsst.pipe.base import InMemoryDatasetHandle
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorTask

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Step by step, from arrays
#
# Any pixels will do. These are stars that GalSim draws, whose PSF is an
# elliptical Moffat profile that widens to the right.

# %%
rng = np.random.default_rng(5)
size, sky, n_stars = 700, 400.0, 100
x_true, y_true = rng.uniform(30, size - 30, (2, n_stars))
flux_true = 10 ** rng.uniform(4.4, 5.4, n_stars)
drawn = galsim.ImageD(size, size, xmin=0, ymin=0)
for x, y, flux in zip(x_true, y_true, flux_true, strict=True):
    profile = galsim.Moffat(beta=3, fwhm=3.6 + 0.4 * x / size, flux=flux).shear(g1=0.04, g2=-0.02)
    stamp = profile.drawImage(nx=51, ny=51, scale=1, center=galsim.PositionD(x, y), dtype=float)
    inside = stamp.bounds & drawn.bounds
    drawn[inside] += stamp[inside]
pixels = drawn.array + rng.normal(0, np.sqrt(sky + drawn.array))
variance = sky + drawn.array

# %% [markdown]
# `make_image` also takes masks and a WCS. `find_sources` detects, splits
# blends and measures what is needed to choose stars.

# %%
image = make_image(pixels, variance, fwhm=4.0)
src = find_sources(image)
src

# %% [markdown]
# Choose stars as the tasks do by default, without neighbors; a fifth of them
# is held back.

# %%
selector = sourceSelectorRegistry["science"]()
selector.config.flags.bad = []
selector.config.doUnresolved = False
selector.config.doRequirePrimary = False
selector.config.doSignalToNoise = True
selector.config.signalToNoise.fluxField = "slot_ApFlux_instFlux"
selector.config.signalToNoise.errField = "slot_ApFlux_instFluxErr"
selector.config.signalToNoise.minimum = 50.0
selector.config.doIsolated = True
chosen = selector.selectSources(src).selected
reserve = ReserveIsolatedStarsTask()
reserve.config.reserve_fraction = 0.2
reserved = reserve.run(int(chosen.sum()), extra="notebook")

# %%
stars = src[np.flatnonzero(chosen)]
candidates = MakePsfCandidatesTask().run(stars, image).psfCandidates
fitted = candidates.take(~np.isin(candidates.id, stars["id"][reserved]))
fitted

# %%
determiner = psfDeterminerRegistry["piff"]()
fit = determiner.determine_psf(image, fitted)
fit.psf

# %%
plot_psf(fit.psf, [50, 350, 650], [350, 350, 350], title="From arrays").savefig(folder / "psf.png")

# %% [markdown]
# Measure the stars with that PSF. Each task adds its fields to the schema of
# the output, and the catalog is made when all have.

# %%
output = OutputSchema(src.schema, selection_fields=None)
config = SingleFrameMeasurementTask.ConfigClass()
config.plugins.names = [
    "base_PixelFlags",
    "base_PsfFlux",
    "base_CircularApertureFlux",
    "ext_shapeHSM_HsmSourceMoments",
]
config.plugins["base_CircularApertureFlux"].radii = [6.0, 9.0]
config.slots.shape = "ext_shapeHSM_HsmSourceMoments"
for slot in ("centroid", "psfShape", "apFlux", "modelFlux", "gaussianFlux", "calibFlux"):
    setattr(config.slots, slot, None)
measurement = SingleFrameMeasurementTask(config=config, schema=output.schema)
ap_corr_config = MeasureApCorrTask.ConfigClass()
ap_corr_config.refFluxName = "base_CircularApertureFlux_12_0"
ap_corr_config.sourceSelector["science"].doUnresolved = False
measure_ap_corr = MeasureApCorrTask(ap_corr_config, schema=output.schema)
apply_ap_corr = ApplyApCorrTask(schema=output.schema)

measured = output.make_catalog(stars)
measurement.run(measured, image, footprints=src, psf=fit.psf)
measured

# %% [markdown]
# Aperture corrections make a flux that of the reference, here in a circle of
# 12 pixels. They are functions of position: a table, an image, a figure.

# %%
ap_corr_map = measure_ap_corr.run(image, measured).apCorrMap
apply_ap_corr.run(measured, ap_corr_map)
ap_corr_table(ap_corr_map, x=[100, 350, 600], y=[350, 350, 350])

# %%
correction = ap_corr_image(ap_corr_map["base_PsfFlux_instFlux"], image.bbox, step=10)
plot_ap_corr(ap_corr_map, image.bbox).savefig(folder / "ap_corr.png")
correction.shape

# %% [markdown]
# Everything is a NumPy array or an Astropy table from here on.

# %%
table = measured.to_astropy()
table["id", "base_SdssCentroid_x", "base_SdssCentroid_y", "base_PsfFlux_instFlux", "base_PsfFlux_flag"][:5]

# %%
figure = Figure(figsize=(6, 4), layout="constrained")
axes = figure.subplots()
ratio = table["base_PsfFlux_instFlux"] / table["base_CircularApertureFlux_12_0_instFlux"]
axes.scatter(table["base_PsfFlux_instFlux"], ratio, c=reserved, s=12)
axes.set(xscale="log", xlabel="PSF flux (electrons)", ylabel="PSF flux / aperture flux")
figure.savefig(folder / "fluxes.png")

# %% [markdown]
# ## All at once, from files
#
# The files are those of a visit of two small detectors that the LSST Science
# Pipelines wrote. The task does all of the above, with the options of the
# pipeline; here its plugins are the ones from above and some more.

# %%
# Notebooks run in their own folder.
data, here = "tests/data/tiny/export/golden/inputs", Path.cwd()
checkout = next((above for above in (here, *here.parents) if (above / data).is_dir()), None)
if checkout is None:
    raise FileNotFoundError(f"Run this in a checkout: there is no {data} in or above {here}.")
inputs = checkout / data
exposure = read_exposure(next(inputs.glob("calexp/**/*S01*.fits")))
sources = read_source_catalog(next(inputs.glob("src/**/*S01*.fits")))


def read_tracts(name):
    """Return the tables of a kind by tract."""
    paths = {int(path.parent.name): path for path in inputs.glob(f"{name}/*/*.parq")}
    return {tract: InMemoryDatasetHandle(pyarrow.parquet.read_table(path)) for tract, path in paths.items()}


# %%
config = FinalizeCharacterizationDetectorTask.ConfigClass()
config.psf_determiner["piff"].spatialOrder = 1  # what so few stars allow
config.measurement.plugins.names = [
    "base_FPPosition",
    "base_GaussianFlux",
    "base_PixelFlags",
    "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments",
    "ext_shapeHSM_HsmSourceMoments",
]
config.measurement.slots.modelFlux = None
task = FinalizeCharacterizationDetectorTask(config=config)
result = task.run(
    visit=20260304011,
    band="r",
    detector=1,
    isolated_star_cat_dict=read_tracts("isolated_star_presource_associations"),
    isolated_star_source_dict=read_tracts("isolated_star_presources"),
    src=sources,
    exposure=exposure,
)
result.psf_ap_corr_cat

# %% [markdown]
# The stack reads the file that this writes, and the catalog of a visit is read
# in the same way.

# %%
path = folder / "finalized_psf_ap_corr_catalog.fits"
write_exposure_catalog(result.psf_ap_corr_cat, path)
catalog = read_exposure_catalog(path)
record = catalog.find(1)
record

# %%
box = exposure.bbox
plot_psf(record.psf, [100, 450], [250, 250], title="Detector 1").savefig(folder / "record-psf.png")
plot_ap_corr(record.ap_corr_map, box).savefig(folder / "record-ap_corr.png")
ap_corr_table(record.ap_corr_map, x=[100.0, 450.0], y=[250.0, 250.0])

# %%
finalized = result.output_table
used = finalized["calib_psf_used"]
print(f"{len(finalized)} stars, {used.sum()} used; figures are in {folder}")
