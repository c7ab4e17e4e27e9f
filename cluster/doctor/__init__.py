"""Checks a cluster for what sweeps rely on: pure functions of what its programs and one small job answered.

`finding` says what a check finds; `place`, `limits`, `control` and `node` hold the checks; `ask` and `job` collect the
answers (`probe` is what runs on the compute node); `examine` brings them together. Nothing is imported here: `probe`
also runs where little is installed.
"""
