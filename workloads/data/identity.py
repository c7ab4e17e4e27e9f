"""Whether the outside data that a stage is about to read is what the plan saw. Light."""

from __future__ import annotations

from typing import Any

from sweeps.errors import EnvironmentError_
from sweeps.language.plugins import Domain, ItemTask, Upstream
from sweeps.language.science import IdentityScience


def check_identity(plugin: Domain | Upstream | ItemTask, science: Any, planned: IdentityScience) -> None:
    """Compare what is here with what the plan saw.

    Raises:
        EnvironmentError_: they differ; the message names the first difference.
    """
    here = dict(plugin.identity(science)) if plugin.identity else {}
    for source in sorted(here.keys() | planned.sources.keys()):
        wanted, found = planned.sources.get(source), here.get(source)
        if wanted != found:
            raise EnvironmentError_(
                f"the plan was made with {source} {wanted or '(none)'}, here is {found or '(none)'}; use the same "
                "environment for the controller and the jobs, or plan again"
            )
