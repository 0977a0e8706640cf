# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Links of documenteer's task pages to classes in private modules.

Its directives name the classes of subtasks and configurations by the modules
that define them, and warn of those without a task page.  Here they are named
by the subpackages that export them, and link to the API reference if they
have no page.
"""

from __future__ import annotations

__all__ = ("setup",)

from typing import Any

from documenteer.ext.lssttasks.crossrefs import (
    format_config_id,
    format_task_id,
    pending_config_xref,
    pending_task_xref,
)
from docutils import nodes
from sphinx.application import Sphinx


def public_name(name: str) -> str:
    """Return the full name of a class without its private modules."""
    return ".".join(part for part in name.split(".") if not part.startswith("_"))


def link_classes(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Resolve the references that documenteer can't."""
    topics = getattr(app.env, "lsst_task_topics", {})
    python = app.env.get_domain("py")
    for kind, make_id in ((pending_task_xref, format_task_id), (pending_config_xref, format_config_id)):
        for node in list(doctree.findall(kind)):
            name = public_name(node.rawsource.lstrip("~"))
            if make_id(name) in topics:
                node.rawsource = node.rawsource.replace(node.rawsource.lstrip("~"), name)
                continue
            label = nodes.literal(text=name.split(".")[-1])
            found = python.resolve_xref(app.env, docname, app.builder, "class", name, node, label)
            node.replace_self(found or label)


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before documenteer's handlers, whose priority is 500."""
    app.connect("doctree-resolved", link_classes, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
