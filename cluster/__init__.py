"""Where jobs run: the executor seam, Slurm words, failure classes, and the local and in-memory executors."""
