"""Executors; the file's name is the key. Each exports `Options`, `make(folder, options)` and
`check_ranks(options, ranks)`; `_` begins a helper."""
