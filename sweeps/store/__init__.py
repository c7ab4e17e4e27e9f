"""The truth on disk: paths, records, ledgers and claims."""
