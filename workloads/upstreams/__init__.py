"""What a model may be pre-pre-trained on: one file or folder per upstream, its name is the key in YAML."""
