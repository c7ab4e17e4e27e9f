"""Measurements of a trained model, one file each: the file's name is the key. Importing them loads no torch."""
