"""Print the JSON schema of a sweep file."""

from __future__ import annotations

import argparse

from orchestrator.arguments import out

EXAMPLES = "  orchestrator schema > sweeps/schema.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    from sweeps.language.spec import schema_text

    out(schema_text())
    return 0
