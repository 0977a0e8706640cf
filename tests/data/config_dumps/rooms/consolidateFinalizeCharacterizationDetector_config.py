import lsst.pipe.tasks.finalizeCharacterization
assert type(config) is lsst.pipe.tasks.finalizeCharacterization.ConsolidateFinalizeCharacterizationDetectorConfig, f"config is of type {type(config).__module__}.{type(config).__name__} instead of lsst.pipe.tasks.finalizeCharacterization.ConsolidateFinalizeCharacterizationDetectorConfig"

import lsst.pipe.base.config
# Flag to enable/disable saving of log output for a task, enabled by default.
config.saveLogOutput=True

# name for connection finalized_psf_ap_corr_detector_cats
config.connections.finalized_psf_ap_corr_detector_cats='finalized_psf_ap_corr_detector_catalog'

# name for connection finalized_src_detector_tables
config.connections.finalized_src_detector_tables='finalized_src_detector_table'

# name for connection finalized_psf_ap_corr_cat
config.connections.finalized_psf_ap_corr_cat='finalized_psf_ap_corr_catalog'

# name for connection finalized_src_table
config.connections.finalized_src_table='finalized_src_table'

