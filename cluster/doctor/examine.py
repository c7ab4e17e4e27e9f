"""Examines a cluster: asks, runs the test job, and yields what each check finds, in the order of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.clients import Clients, NoAnswer
from cluster.doctor import ask, control, job, limits, node, place, probe
from cluster.doctor.finding import Finding
from cluster.profiles import SlurmProfile, resolved_conf
from cluster.registry import Profile
from sweeps.errors import UsageError
from sweeps.store.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is examined."""

    profile: Profile
    layout: Layout
    """The store; its root exists."""
    timeout_s: float
    """How long the test job may take, its wait for a node included, seconds."""
    say: Callable[[str], None]
    """Takes what a person may want to know while it lasts."""

    def findings(self) -> Iterator[Finding]:
        """Yield what each check finds.

        Raises:
            UsageError: there is nothing to examine.
            EnvironmentError_: the profile names a rehearsal that is not up.
        """
        options = self.profile.options
        if isinstance(options, SlurmProfile):
            yield from self._slurm(options)
        elif self.profile.executor == "local":
            yield from self._node(job.here(self.layout, self.timeout_s), None)
        else:
            raise UsageError(f"cluster {self.profile.place}: its executor, {self.profile.executor}, uses no machine, "
                             "so there is nothing to check; name a Slurm profile, or local")

    def _slurm(self, profile: SlurmProfile) -> Iterator[Finding]:
        clients = Clients(conf=resolved_conf(profile), timeout_s=profile.timeout_s)
        yield place.clients(ask.versions(clients))
        config = ask.config(clients)
        yield place.controller(config)
        if isinstance(config, NoAnswer):  # all else would be unknown, and sbatch would ask for a minute
            return
        answers = ask.answers(clients, config)
        yield from place.checks(answers, profile)
        yield from limits.checks(answers, profile)
        yield control.job(answers, profile)
        outcome = job.on_a_node(profile, clients, self.layout, self.timeout_s, self.say)
        yield from self._node(outcome, profile)

    def _node(self, outcome: job.Outcome, profile: SlurmProfile | None) -> Iterator[Finding]:
        root = self.layout.root
        return node.checks(outcome, probe.versions(), probe.space(root), str(root), profile)
