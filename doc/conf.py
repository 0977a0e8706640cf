import sys
from pathlib import Path

from documenteer.conf.pipelinespkg import *  # noqa: F403

project = "meas_finalize"
html_title = project
html_short_title = project
sys.path.append(str(Path("_ext").resolve()))
extensions.extend(["room_map", "task_links"])  # noqa: F405
exclude_patterns.extend(["_ext", "changes"])  # noqa: F405
automodapi_toctreedirnm = "api"
# This is no product of the observatory, whose theme the pages use.
copyright = "2026 The developers of meas_finalize"
html_theme_options["logo"] = {"text": project}  # noqa: F405
html_context["logo"] = ""  # noqa: F405  (the template asks for it)
html_theme_options["favicons"] = []  # noqa: F405
html_theme_options["external_links"] = [  # noqa: F405
    {"name": "LSST Science Pipelines", "url": "https://pipelines.lsst.io"}
]
# The build needs no network.
intersphinx_mapping = {}
