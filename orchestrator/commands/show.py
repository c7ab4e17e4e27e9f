"""Show what an upstream makes, or what a bank of rules in the store holds.

`upstream` makes a few sequences in memory, those that a sweep with this seed would train on, and needs no store: scores
against the band, the tokens of a sequence (brackets coloured by depth, symbols of `regular` and `utm` by kind), and
with -o a picture of trajectories through time. Fields are resolved as in a sweep file (scale tiny, protocol fair).
`bank` reads a finished stage `rules`.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.arguments import add_json, add_root, layout, out, out_json, positive, say, sweep_names
from sweeps.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.showing import Shown
    from sweeps.language.plugins import Upstream
    from workloads.upstreams.nca.look import Held

EXAMPLES = """  orchestrator show upstream nca --complexity 30-40
  orchestrator show upstream nca --complexity 30-45,60-75 --scale 10m --rules 4 -o gallery.png
  orchestrator show upstream nca_shuffled -o shuffled.svg
  orchestrator show upstream shuffle_dyck --set shuffle_dyck.k=4
  orchestrator show bank 3fa94c1b"""

WIDTH = 80
TOKENS = 192
"""Tokens of a sequence that are printed."""
COLOURS = ("bright_white", "cyan", "green", "yellow", "magenta", "red", "blue", "bright_cyan", "bright_green",
           "bright_yellow", "bright_magenta", "bright_red", "bright_blue")
"""By level, over and over."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    below = parser.add_subparsers(dest="what", metavar="upstream|bank", required=True)
    up = below.add_parser("upstream", help="sequences of an upstream")
    up.add_argument("name", metavar="NAME", help="an upstream, for instance nca or shuffle_dyck")
    up.add_argument("--complexity", default="", metavar="BAND[,BAND]",
                    help="bands, for instance 30-45 (default: as the fields say)")
    up.add_argument("--rules", type=positive, default=12, metavar="N",
                    help="sequences, each of another rule (default: 12)")
    up.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a picture: .png, .svg or .pdf")
    up.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets",
                    help="a dotted field, the value read as YAML; may be repeated")
    up.add_argument("--scale", help="preset of grid, alphabet and sequence length (default: tiny)")
    up.add_argument("--protocol", default="fair", help="fair (default), paper or release")
    up.add_argument("--seed", type=int, default=0, metavar="N", help="the sweep's seed (default: 0)")
    up.add_argument("--plugin", type=Path, action="append", default=[], metavar="PATH",
                    help="a plug-in of your own; may be repeated")
    bank = below.add_parser("bank", help="what a bank of rules in the store holds")
    bank.add_argument("target", metavar="FINGERPRINT", help="the beginning of a fingerprint, or a stage's label")
    add_root(bank)
    for one in (up, bank):
        add_json(one)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    return _upstream(arguments) if arguments.what == "upstream" else _bank(arguments)


def _upstream(arguments: argparse.Namespace) -> int:
    from orchestrator.showing import Wanted, find, show
    from sweeps.language.overrides import Overrides
    from workloads.registry import load_registries

    registries = load_registries([path.resolve() for path in arguments.plugin])
    bands = tuple(band.strip() for band in arguments.complexity.split(",") if band.strip())
    wanted = Wanted(name=arguments.name, bands=bands, protocol=arguments.protocol, seed=arguments.seed,
                    overrides=Overrides(sets=tuple(arguments.sets), scale=arguments.scale))
    upstream = find(registries, wanted)
    if arguments.output is not None:
        _check_output(arguments.output, wanted.name, upstream)
    found = show(registries, wanted, arguments.rules)
    if arguments.output is not None:
        _draw(arguments.output, found)
    if arguments.json:
        out_json({"upstream": wanted.name, "seed": wanted.seed, "picture": arguments.output,
                  "bands": [_as_json(one, upstream) for one in found]})
    else:
        for one in found:
            out("\n".join([one.label, *_scores(one)]))
            _print_tokens(one, upstream)
        if arguments.output is not None:
            say(f"picture: {arguments.output}")
    return 0


def _check_output(path: Path, name: str, upstream: Upstream) -> None:
    """Refuse a picture that cannot be made, before anything is."""
    from analysis.gallery import FORMATS

    if not upstream.frames_implementation:
        raise UsageError(f"-o {path}: the upstream {name} has no frames to draw; leave -o out and read its tokens")
    if path.suffix not in FORMATS:
        raise UsageError(f"-o {path}: a picture's name ends with {', '.join(FORMATS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"-o {path}: is no file in a folder that exists")


def _draw(path: Path, found: list[Shown]) -> None:
    from analysis.gallery import Panel, write_gallery

    write_gallery(path, [Panel(
        title=one.label, frames_RFHW=one.sample.frames_BFHW, labels=[f"{p:.0f} %" for p in one.percents],
        chosen=one.percents, percents=one.survey.percents if one.survey else (),
        band=(one.survey.low, one.survey.high) if one.survey else (0.0, 100.0),
    ) for one in found if one.sample.frames_BFHW is not None])


def _scores(one: Shown) -> list[str]:
    """Return the scores of the rules that are shown, and of random ones against the band."""
    from orchestrator.showing import bars, counts, share

    if one.survey is None:
        return []
    survey, bank = one.survey, one.sample.bank
    shown = ", ".join(f"{p:.0f}" for p in one.percents)
    lines = [f"  accepted  {share(survey.acceptance, survey.interval)} of {len(survey.percents)} random rules; "
             f"noise scores {survey.ceiling:.0f} %",
             *textwrap.wrap(f"  shown     {len(one.percents)} sequences; scores of their rules: {shown} %", WIDTH,
                            subsequent_indent=" " * 12)]
    if "realised_in_band" in bank:
        lines.append(f"  training  {100 * bank['realised_in_band']:.0f} % of these score inside the band again from "
                     "the grid of training")
    return [*lines, "", *bars([("random rules", counts(survey.percents))], survey.low, survey.high), ""]


def _print_tokens(one: Shown, upstream: Upstream) -> None:
    """Print the beginning of sequence 0, coloured where the upstream says levels and stdout is a terminal."""
    from rich.console import Console
    from rich.text import Text

    row = one.sample.tokens_BT[0].tolist()
    spelled = upstream.spell(one.science, row[:TOKENS]) if upstream.spell else [(str(t), -1) for t in row[:TOKENS]]
    more = f"; {len(row) - TOKENS} more" if len(row) > TOKENS else ""
    text = Text(f"tokens of sequence 0 ({len(row)}{more}):\n")
    for place, (word, level) in enumerate(spelled):
        text.append(" " if place else "")
        text.append(word, style=COLOURS[level % len(COLOURS)] if level >= 0 else "")
    Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(text, end="\n\n")


def _as_json(one: Shown, upstream: Upstream) -> dict[str, Any]:
    from orchestrator.showing import BIN_PERCENT, counts

    survey, row = one.survey, one.sample.tokens_BT[0].tolist()
    return {
        "label": one.label, "fields": one.science.model_dump(mode="json"),
        "vocabulary": upstream.vocabulary(one.science) if upstream.vocabulary else None,
        "sequence_length": len(row), "tokens": row, "scores_percent": one.percents, "bank": one.sample.bank,
        "levels": [level for _, level in upstream.spell(one.science, row)] if upstream.spell else None,
        "survey": survey and {
            "band_percent": [survey.low, survey.high], "candidates": len(survey.percents), "accepted": survey.accepted,
            "interval": survey.interval, "ceiling_percent": survey.ceiling,
            "bin_percent": BIN_PERCENT, "histogram": counts(survey.percents)},
    }


def _bank(arguments: argparse.Namespace) -> int:
    from orchestrator.targets import find, label_of, read_plan
    from sweeps.store.records import artifacts_of, read_result

    store = layout(arguments)
    plans = [read_plan(store, name) for name in sweep_names(store)]
    target = find(store, plans, arguments.target)
    stage = target.stages[0]
    label = label_of(plans, stage)
    if target.trial or stage.kind != "rules":
        what = f"{target.trial} is a trial" if target.trial else f"{label} is a stage {stage.kind}"
        raise UsageError(f"{what}; a bank is a stage `rules`: orchestrator why names those of a trial")
    if store.simulated.exists():
        raise UsageError(f"{store.root} holds simulated results; its banks have no rules")
    if read_result(stage) is None:
        raise UsageError(f"{label} is not complete; it holds no bank yet")
    from workloads.upstreams.nca.look import look

    found = look(artifacts_of(stage))
    if arguments.json:
        out_json({"label": label, "fingerprint": stage.fingerprint, **found.as_json()})
    else:
        out("\n".join([f"{label}  rules/{stage.fingerprint}", *_block(found)]))
    return 0


def _block(found: Held) -> list[str]:
    from orchestrator.showing import bars, share

    s = found.scores
    lines = [
        f"  seed {found.seed}, stream {found.stream}, rules {found.first} to {found.first + found.count - 1}",
        *(f"  {name} = {value}" for name, value in found.changed.items()),
        f"  kernels   sha256 {found.kernels_sha256[:16]}, {s['duplicates']:.0f} duplicates",
        f"  accepted  {s['accepted']:,.0f} of {s['candidates']:,.0f} candidates: "
        f"{share(s['acceptance'], (s['acceptance_low'], s['acceptance_high']))}",
        f"  training  reads {s['realised_sequences']:.0f} sequences looked at, of which "
        f"{share(s['realised_in_band'], (s['realised_in_band_low'], s['realised_in_band_high']))}",
        f"            score inside the band {found.band}", "",
    ]
    return lines + bars([("accepted by", found.accepted), ("seen in training", found.realised)], found.low, found.high)
