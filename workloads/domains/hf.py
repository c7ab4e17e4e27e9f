"""Domain `hf`: any dataset of the Hugging Face Hub at one commit, one document a row.

    axes: {domain: [hf]}
    fields:
      hf.repository: allenai/c4
      hf.revision: 1588ec454efa1a09f29cd18ddd04fe05fc8653a2     # 40 hex digits, no branch
      hf.files: [en/c4-train.0000*-of-01024.json.gz]            # or hf.config and hf.split

`orchestrator prefetch FILE` brings it into the cache (HF_HOME) from a node that has a network. For several datasets in
a sweep, one file each, see `workloads.data.hub_domain`; `c4`, `openwebtext`, `open_web_math` and `codeparrot` are such.
"""

from __future__ import annotations

from workloads.data.hub_domain import HubScience, hub_domain

PLUGIN = hub_domain(HubScience)
