from documenteer.conf.pipelinespkg import *  # noqa: F403

project = "meas_finalize"
html_title = project
html_short_title = project
exclude_patterns.append("changes")  # noqa: F405
# Inherited members are on the pages of their own classes.
automodsumm_inherited_members = False
# The build needs no network.
intersphinx_mapping = {}
