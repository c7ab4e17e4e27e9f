"""Make `docs/results.ipynb` by running its cells: `pip install nbformat nbclient ipykernel`, then

    python docs/make_results_notebook.py

`docs/smoke_simulated.tar.zst` is a bundle of `sweeps/smoke.yaml` on the memory executor, whose numbers are made up:

    orchestrator sweep sweeps/smoke.yaml --cluster memory --root /tmp/store
    orchestrator export smoke --root /tmp/store -o docs/smoke_simulated.tar.zst
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
CELLS = (
    "# Results in a notebook\n\nTwo sources, both shipped: the loss curves of web text that the paper publishes (real, "
    "one seed an arm, so there is no interval), and a small sweep of the memory executor, **whose numbers are made "
    "up** and only show what a store gives.",
    "import analysis\n\ncurves = '../analysis/published_owt_curves.csv'\n"
    "published = analysis.load_curves(curves, upstream_tokens='164M')\npublished",
    "published.convergence()[['arm', 'seeds', 'gain_nats', 'gain_percent', 'speedup', 'speedup_at_end', "
    "'charged_speedup', 'speedup_bound', 'speedup_note']].round(4)",
    "What a column means, with its unit, is in the table's schema:",
    "published.columns('convergence').iloc[-9:]",
    "One speed-up mostly reads the tail of the learning rate: the same two runs, at other target losses.",
    "over = published.speedup_over_target()\n"
    "over[over['arm'] == 'nca'].iloc[::4].round(3)[['target_loss', 'speedup']]",
    "## A store, or a bundle of one\n\n`analysis.load('store')` reads a store, `analysis.load(['a', 'b'])` several as "
    "one. Here it is a bundle; the name says that its numbers are simulated, and so does every text made from it.",
    "results = analysis.load('smoke_simulated.tar.zst')\nresults",
    "results.tables",
    "results.learning_rates()",
    "results.missing()",
    "Evaluations as a tidy frame, scored (annealed ends) or only drawn (along the trunk):",
    "results.curves.groupby(['arm', 'scored'], observed=True)['loss'].describe()[['count', 'mean', 'min']].round(3)",
    "And the comparisons behind the tables:",
    "results.study.effect('code', results.study.treated('code')[0])",
)


def main() -> None:
    """Write the notebook with its outputs."""
    kinds = (nbformat.v4.new_code_cell if _is_code(text) else nbformat.v4.new_markdown_cell for text in CELLS)
    cells = [kind(text) for kind, text in zip(kinds, CELLS, strict=True)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    book = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    NotebookClient(book, resources={"metadata": {"path": str(HERE)}}, timeout=600).execute()
    for cell in book.cells:
        cell["metadata"] = {}
    book.metadata = {"language_info": {"name": "python"}}
    nbformat.write(book, HERE / "results.ipynb")


def _is_code(text: str) -> bool:
    try:
        compile(text, "cell", "exec")
    except SyntaxError:
        return False
    return True


if __name__ == "__main__":
    main()
