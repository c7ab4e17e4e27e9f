"""Stage kinds; the file's name is the key. Names that begin with `_` are no stages."""
