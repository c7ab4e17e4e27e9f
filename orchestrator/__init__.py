"""When things run: the command line, the plan, the reconciler and the Ray Tune controller."""
