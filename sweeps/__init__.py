"""The language: sweep files, their schema, the trials and stages they mean, and the store of records.

Imports the standard library, pydantic and a YAML 1.2 reader only, so that every other package may use it.
"""
