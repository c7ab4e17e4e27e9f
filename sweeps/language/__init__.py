"""From a sweep file to trials and stages; pure functions over frozen models."""
