"""The text of a first sweep file: the smallest sweep that has every part, with every option explained in its place."""

from __future__ import annotations

import re
from pathlib import Path

import sweeps

SHIPPED = Path(sweeps.__file__).parent

TEXT = """\
# yaml-language-server: $schema=SCHEMA
# A sweep: a question, a grid of trials, and how to run it. YAML 1.2; unknown keys are errors that name the nearest one.
#   orchestrator plan FILE      what it would run, with costs and reasons
#   orchestrator sweep FILE     run it; run it again to go on after any interruption
#   orchestrator report FILE    tables and figures from what is done so far
schema_version: 1
name: NAME                     # names its folder in the store; letters, digits, '.', '_' and '-'
question: Does pre-pre-training on cellular automata help to model code?

# Preset of science fields. fair: this project's recommendation; paper and release: the text and the code of
# arXiv 2603.10055. Every departure from the preset is listed in the plan and in the report.
protocol: fair
# Model size with its budgets and batch: tiny (minutes on a laptop), 1m, 10m, 60m, 160m, 400m, 1.6b.
scale: tiny

# What every arm is compared with, paired by domain and seed. Must be on the axis `upstream`.
baseline: {upstream: none}

# The grid: every combination is a trial. An axis that an upstream lacks collapses for it (none has no complexity).
axes:
  # none is scratch. Others: text (natural language), dyck, shuffle_dyck, life, eca, regular, utm, mixture (of several);
  # controls, which keep all of nca but one thing: nca_shuffled, nca_unigram, nca_static, nca_one_rule, init_rescaled;
  # scratch_longer, which reads the upstream's tokens more of the domain itself; checkpoint: a body from elsewhere
  # (checkpoint.path or checkpoint.repository and .revision; .tokens and .vocabulary are what it was trained on)
  upstream: [none, nca]
  complexity: [30-45, 60-75]   # nca only: bands of gzip complexity, % of the noise ceiling
  token_budget: [0.1x]         # tokens of pre-pre-training: 1x is the scale's, or 200k, 1.5M
  # code, math, web are installed already. files: your parquet, JSON lines, text; hf: a dataset of the Hugging Face Hub,
  # some by name: openwebtext, open_web_math, codeparrot, c4 (`orchestrator prefetch FILE` brings them); your plug-ins
  domain: [code]
  seed: [0, 1]                 # more later: orchestrator seeds +2 FILE
  # Any science field can be an axis too:
  # transfer.embedding_init: [1.0, 0.02]

# Science fields for all trials, by their dotted names. Changing one makes other stages; nothing is ever overwritten.
fields:
  pretrain.tokens: 0.1x        # pre-training tokens of the longest end
  # pretrain.ends: [50%, 70%, 100%]   # annealed ends that are scored, branching off one trunk
  # pretrain.lr: 4e-3          # prepretrain.lr likewise; code.pretrain.lr: of one domain alone
  # pretrain.equal: total_flops  # the upstream is charged: an arm has as many FLOPs in all as scratch
  # transfer.reinit: [attention, mlp@0-1]   # drawn anew instead of carried over: here in all, there in two layers
  # nca.complexity.scale: normalized  # or raw
  evaluate.every: 25%          # of the pre-training tokens
  evaluate.end_tokens: 8k      # held-out tokens at an end
  evaluate.gate_tokens: 8k     # held-out tokens that ask whether the upstream was learned
  # downstream.tasks: [arithmetic, copying_words, induction, automata, brackets, python_functions]   # scored by item
  # downstream.finetune: [arithmetic]   # fine-tuned on their training items first (finetune.*); scored before and after
  # python_functions.generation.samples: 10   # models write programs too, which a sandbox runs
  documents.max_bytes: 1000000 # text of each domain
  # documents.near_duplicates: 80%   # leave out documents that repeat an earlier one so far (Jaccard, by MinHash)
  tokenizer.max_bytes: 300000  # text that the tokenizer is trained on

# Statements written before the first run and judged in the report (may be left out).
# arm and over: an arm's label such as `nca 60-75`; or best_band, and baseline. Or in words, such as
# `nca 60-75 beats scratch on code by more than 0.01 nats` or `best band on code is lower than on web`.
claims:
  nca_helps_code: {domain: code, arm: best_band, over: baseline, gain_nats: "> 0"}

# Losses that were measured elsewhere, shown in a table of their own: a CSV file of tokens,val_loss and perhaps seed.
# logs:
#   their_nca: {file: nca.csv, domain: code, upstream_tokens: 164M}

# Learning rate and embedding_init of each arm as a search has chosen them (it is run first, in the same store):
# searched: lr_search
# Or this file as a search (docs/concepts/search.md): one in eta of the candidates goes on from each end to the next.
# Its axes have pretrain.lr: [1e-3, 2e-3, 4e-3] and perhaps transfer.embedding_init, its seeds begin at 1000.
# search: {eta: 3}

# How to run: never part of what a result is, so it may change at any time.
run:
  cluster: local               # executor profile
  checkpoint_every: 2 min      # longest time between checkpoints of a job
  # checkpoint_share: 5%       # of a job's time at most that it stands still for them: else they come less often
  # checkpoint_async: true     # training goes on while one is written, from a copy in host memory
  # keep_checkpoints: 2        # the newest so many of a stage are kept
  # keep_at: [100k, 200k]      # tokens of a run at which a checkpoint is made and kept
  pack: 5 min                  # short stages share a job of about this length; or a number: at most so many
  hang_floor: 10 min           # a stage that makes no step for as long is killed and tried again
  # on_spike: report           # a loss that jumps is reported; stop: it ends the stage, until `orchestrator retry`
  # slots: 2                   # jobs at once on this machine; default: by cores and memory
  # ranks: 1                   # processes of one training stage
  # zero_stage: 0              # DeepSpeed ZeRO, 0 to 3; default: the scale's
  # micro_batch: auto          # sequences per forward pass and rank; default: by a short search, or at tiny all
  # activation_checkpointing: true   # compute layers again in the backward pass: less memory, the same bits
  # offload: optimizer         # into the host's memory (ZeRO 1 to 3); optimizer+parameters (ZeRO 3)
  # policy: {unknown: 3}       # how often a stage may end in each way before it is given up
  # max_gpu_hours: 20          # the sweep pauses there; what runs ends, or (at_cap: stop) checkpoints and leaves
  # at_cap: drain
  # notify: "@hook.txt"        # a command or URL that gets a message when the sweep ends or pauses; @FILE holds one

# Files or folders of your own plug-ins, relative to this file.
# plugins: [my_domain.py]
"""


def starter(target: Path, name: str) -> str:
    """Return the commented sweep file for `target`."""
    return TEXT.replace("SCHEMA", _schema(target)).replace("NAME", name)


def copy_of(shipped: str, target: Path, name: str) -> str:
    """Return a shipped sweep under another name; its schema line is made to fit `target`."""
    text = (SHIPPED / f"{shipped}.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^(# yaml-language-server: \$schema=).*$", lambda m: m[1] + _schema(target), text, flags=re.M)
    return re.sub(r"^name:.*$", f"name: {name}", text, flags=re.M)


def shipped_names() -> list[str]:
    """Return the names of the sweeps that come with the package."""
    return sorted(p.stem for p in SHIPPED.glob("*.yaml"))


def name_for(target: Path) -> str:
    """Return a sweep's name from its file's: what is no name's character becomes `_`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", target.stem).lstrip("._-")[:64] or "sweep"


def _schema(target: Path) -> str:
    schema = SHIPPED / "schema.json"
    return "./schema.json" if target.resolve().parent == SHIPPED else schema.as_uri()
