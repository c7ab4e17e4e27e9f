"""What came back: records -> tidy frames -> tables, figures, terminal text and a report. Reads records only.

In a notebook: `analysis.load(root).convergence()` (`notebook.py`). `analysis.load` is that function; the module of the
same name is only imported from.
"""

from analysis.notebook import Results as Results
from analysis.notebook import load as load
from analysis.notebook import load_curves as load_curves
