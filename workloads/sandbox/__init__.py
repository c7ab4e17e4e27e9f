"""Running programs that a model wrote. `ladder.open_box` is the door; `judge.verdicts` says which answers are right.

    values.py    what crosses the wall, as text
    confine.py   rlimits, Landlock, seccomp: what a program's process is left with        } inside the sandbox;
    server.py    one process that forks a fresh one for every program                     } standard library only
    jail.py      plain namespaces, made by system calls                                   }
    kinds.py     the ladder: apptainer, bubblewrap, namespaces
    box.py       starts the servers, sends programs, takes their values
    judge.py     a task's tests, run on those values by a process that never holds the model's code
    escapes.py   attempts to get out, as data;  examine.py tries them all

Kept empty of imports: the sandbox's own processes import this package.
"""
