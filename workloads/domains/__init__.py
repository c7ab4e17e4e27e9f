"""Domains: kinds of text to pre-train on; the file's name is the key."""
