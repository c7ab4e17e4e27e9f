"""Print the JSON schema of a sweep file."""

from __future__ import annotations

import argparse
import json

from orchestrator.arguments import out, out_json

EXAMPLES = """  orchestrator schema > sweeps/schema.json
  orchestrator schema --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="the schema below the key `schema`")


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    from sweeps.language.spec import schema_text

    text = schema_text()
    if arguments.json:
        out_json({"schema": json.loads(text)})
    else:
        out(text)
    return 0
