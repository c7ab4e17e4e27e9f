"""The numba kernel of `_utm.py`. Integers only; instructions are their places in `_utm.INSTRUCTIONS`.

It calls no compiled function of another file, because numba's cache on disk looks at one file's date only.
`limits` is (symbols, cells, steps, min_output, max_output).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.upstreams.nca.kernels import compiled

LEFT, RIGHT, PLUS, MINUS, PRINT, OPEN, CLOSE = range(7)


@compiled
def fill_partners(partner_L: Any, stack_L: Any, program_L: Any) -> None:
    """Write the place of each bracket's partner, an instruction's own where it has none."""
    depth = 0
    for place in range(program_L.size):
        partner_L[place] = place
        if program_L[place] == OPEN:
            stack_L[depth] = place
            depth += 1
        elif program_L[place] == CLOSE and depth > 0:
            depth -= 1
            other = stack_L[depth]
            partner_L[place], partner_L[other] = other, place


@compiled
def run(output: Any, program_L: Any, partner_L: Any, tape: Any, limits: Any) -> Any:
    """Run a program on an empty tape and return how many symbols it has written into `output`."""
    symbols, cells, steps, _, most = limits
    tape[:] = 0
    head, place, printed = 0, 0, 0
    for _ in range(steps):
        if place >= program_L.size or printed == most:
            break
        instruction = program_L[place]
        if instruction == RIGHT:
            head = head + 1 if head + 1 < cells else 0
        elif instruction == LEFT:
            head = head - 1 if head > 0 else cells - 1
        elif instruction == PLUS:
            tape[head] = tape[head] + 1 if tape[head] + 1 < symbols else 0
        elif instruction == MINUS:
            tape[head] = tape[head] - 1 if tape[head] > 0 else symbols - 1
        elif instruction == PRINT:
            output[printed] = tape[head]
            printed += 1
        elif (tape[head] == 0) == (instruction == OPEN):
            place = partner_L[place]
        place += 1
    return printed


@compiled
def fill_tokens(tokens_BT: Any, filled_B: Any, rest: Any, programs: Any, limits: Any) -> None:
    """Go on filling the sequences `rest` from where they are filled, by the outputs of `programs` (rest, R, L)."""
    symbols, cells, _, least, most = limits
    length = tokens_BT.shape[1]
    output, tape = np.empty(most, np.int64), np.empty(cells, np.int64)
    partner_L, stack_L = np.empty(programs.shape[2], np.int64), np.empty(programs.shape[2], np.int64)
    for place in range(rest.size):
        b = rest[place]
        for number in range(programs.shape[1]):
            if filled_B[b] == length:
                break
            fill_partners(partner_L, stack_L, programs[place, number])
            printed = run(output, programs[place, number], partner_L, tape, limits)
            if printed < least:
                continue
            for symbol in range(min(printed, length - filled_B[b])):
                tokens_BT[b, filled_B[b] + symbol] = output[symbol]
            filled_B[b] = min(filled_B[b] + printed, length)
            if filled_B[b] < length:
                tokens_BT[b, filled_B[b]] = symbols
                filled_B[b] += 1
