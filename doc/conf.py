import sys
from pathlib import Path

from documenteer.conf.pipelinespkg import *  # noqa: F403

project = "meas_finalize"
html_title = project
html_short_title = project
sys.path.append(str(Path("_ext").resolve()))
extensions.append("task_links")  # noqa: F405
exclude_patterns.extend(["_ext", "changes"])  # noqa: F405
automodapi_toctreedirnm = "api"
# The build needs no network.
intersphinx_mapping = {}
