"""A described rehearsal, as pure functions see it."""

from __future__ import annotations

from pathlib import Path

from cluster.rehearsal.describe import Rehearsal, Shape


def described(name: str = "rehearsal", shape: Shape | None = None, *, version: str = "22.05.8") -> Rehearsal:
    """Return a description that was never started."""
    wanted = shape or Shape()
    return Rehearsal(
        name=name, folder=Path("/tmp/somebody's folder #1"), home=Path("/tmp/rehearsal-1000/0a1b2c3d"), shape=wanted,
        version=version, user="ada", host="laptop", boot="b", controller_port=20001, accounting_port=20002,
        node_ports=tuple(range(20003, 20003 + wanted.nodes)))
