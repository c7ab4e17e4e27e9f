"""What every test needs of the process that runs it."""

from __future__ import annotations

import signal

# A shell that runs the tests in the background, or nohup, has them ignore Ctrl-C or a hang-up, and so would every
# program that they start. What is caught here is at its default there.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)
