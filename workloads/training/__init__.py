"""Training and measuring: the model, its initialisation and transfer, the DeepSpeed engine, checkpoints, the one loop.

Only jobs import what is here; torch, transformers and deepspeed take about six seconds.
"""
