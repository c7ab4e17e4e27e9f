"""Executors; the file's name is the key. Each exports `Options` and `make(folder, options)`; `_` begins a helper."""
