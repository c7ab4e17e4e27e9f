"""What a job does: stages, upstreams, domains, tasks and training. Run as `python -m workloads.run TICKET`."""
