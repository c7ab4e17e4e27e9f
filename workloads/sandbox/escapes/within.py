"""Attempts within the sandbox: to start or reach processes, to use too much, to stay too long, to be judged right."""

from __future__ import annotations

from workloads.sandbox.escapes.case import cases

PROCESSES = cases(
    "processes", ("a_fork_bomb", "a_signal_to_a_process_outside"),
    a_fork_bomb="""
        made = 0
        for _ in range(40):
            try:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                made += 1
            except OSError:
                break
        return "escaped" if made > 20 else None""",
    threads_without_end="""
        import threading
        made = 0
        for _ in range(300):
            try:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                made += 1
            except (RuntimeError, MemoryError):
                break
        return "escaped" if made > 200 else None""",
    a_child_that_outlives_it="""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 64):
                    try:
                        signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError):
                        pass
                os.closerange(0, 64)
                time.sleep(60)
            os._exit(0)""",
    a_child_by_a_raw_clone="""
        if call(220 if ARM else 56, 17, 0, 0, 0, 0) == 0:
            time.sleep(60)
            os._exit(0)
        return "escaped\"""",
    another_program="import subprocess; return 'escaped' if subprocess.run(['/bin/sh', '-c', 'true']) else None",
    becoming_another_program="os.execv(sys.executable or '/usr/bin/env', ['x', '-c', 'import time; time.sleep(60)'])",
    a_signal_to_a_process_outside="os.kill(int(VICTIM), signal.SIGUSR1); return 'escaped'",
    a_signal_to_everybody="os.kill(-1, 0); return 'escaped'",
    killing_the_server="""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL):
            os.kill(os.getppid(), number)""",
    stopping_the_server="os.kill(os.getppid(), signal.SIGSTOP)",
    tracing_the_server="return 'escaped' if libc.ptrace(16, os.getppid(), 0, 0) == 0 else None",
    the_servers_memory="return 'escaped' if os.open(f'/proc/{os.getppid()}/mem', os.O_RDWR) else None",
    the_servers_descriptors="""
        server = call(434, os.getppid(), 0)
        return "escaped" if call(438, server, 1, 0) >= 0 else None""",
    its_priority="os.setpriority(os.PRIO_PROCESS, 0, -5); return 'escaped'",
    more_than_its_limits="""
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
        return "escaped\"""",
)

RESOURCES = cases(
    "resources", (),
    memory="""
        held = []
        for _ in range(64):
            held.append(b"x" * (16 << 20))
        return "escaped\"""",
    memory_in_a_file_without_a_name="""
        fd = call(279 if ARM else 319, b"x", 0)
        for _ in range(64):
            os.write(fd, b"x" * (16 << 20))
        return "escaped\"""",
    memory_of_System_V="""
        for _ in range(8):
            call(194 if ARM else 29, 0, 1 << 20, 0o1600)
        return "escaped\"""",
    memory_in_scratch_files="""
        written = 0
        for number in range(16):
            with open(f"f{number}", "wb", 0) as file:
                written += file.write(b"x" * (15 << 20))
        return "escaped" if written > 200 << 20 else None""",
    one_large_file="open('f', 'wb').truncate(1 << 30); return 'escaped'",
    scratch_folders_that_cannot_be_removed="""
        os.makedirs("a/b/c")
        open("a/b/c/f", "w").close()
        os.chmod("a/b/c", 0)
        os.chmod("a/b", 0)
        os.chmod("a", 0)
        os.chmod(".", 0)""",
    a_scratch_folder_without_end="""
        for _ in range(5000):
            os.mkdir("d")
            os.chdir("d")""",
    descriptors="""
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(500)]
        return "escaped\"""",
    printing_without_end="""
        while True:
            os.write(1, b"x" * 65536)
            os.write(2, b"x" * 65536)""",
    a_value_without_end="return 'x' * (64 << 20)",
    answers_without_end="""
        while True:
            os.write(3, b"V" + b"x" * 65535)""",
    locked_memory="""
        import mmap
        block = mmap.mmap(-1, 16 << 20)
        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        return "escaped" if libc.mlock(ctypes.c_void_p(address), 16 << 20) == 0 else None""",
)

TIME = cases(
    "time", (),
    a_loop="""
        while True:
            pass""",
    sleeping="time.sleep(60); return 'escaped'",
    ignoring_every_signal="""
        for number in range(1, 64):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
        while True:
            pass""",
    catching_every_exception="""
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                pass""",
    a_thread_that_goes_on="""
        import threading
        def forever():
            while True:
                pass
        other = threading.Thread(target=forever)
        other.start()
        other.join()""",
    one_long_step_in_C="return 'escaped' if len(str(9 ** 9 ** 8)) else None",
    a_recursion_in_C="""
        import functools
        nested = []
        for _ in range(200_000):
            nested = [nested]
        repr(nested); hash(str(nested))""",
    a_crash="ctypes.string_at(0)",
    an_answer_that_never_ends="""
        os.write(3, b"V")
        time.sleep(60)""",
)

VERDICTS = cases(
    "verdict", ("an_object_that_equals_everything", "forged_answers"),
    an_object_that_equals_everything="""
        class Right:
            __eq__ = lambda self, other: True
            __ne__ = lambda self, other: False
            __hash__ = lambda self: 0
        return Right()""",
    a_string_that_equals_everything="""
        class Right(str):
            __eq__ = lambda self, other: True
            __ne__ = lambda self, other: False
            __hash__ = lambda self: 0
        return Right("no")""",
    an_object_that_lies_about_its_class="""
        class Right:
            __class__ = property(lambda self: str)
            __str__ = lambda self: "escaped"
            __eq__ = lambda self, other: True
        return Right()""",
    leaving_with_success="sys.exit(0)",
    leaving_at_once="os._exit(0)",
    a_hook_at_the_end="""
        import atexit
        atexit.register(lambda: os.write(3, b'V"escaped"\\n'))
        return "no\"""",
    walking_the_frames="""
        frame, seen = sys._getframe(), []
        while frame:
            seen += [v for v in (*frame.f_locals.values(), *frame.f_globals.values()) if isinstance(v, str)]
            frame = frame.f_back
        return max((v for v in seen if v.startswith("secret-")), default=None)""",
    searching_all_objects="""
        import gc
        for one in gc.get_objects():
            if isinstance(one, (list, tuple)):
                for value in one:
                    if isinstance(value, str) and value.startswith("secret-"):
                        return value
            elif isinstance(one, dict):
                for value in list(one.values()):
                    if isinstance(value, str) and value.startswith("secret-"):
                        return value""",
    replaced_builtins="""
        import builtins
        for name in ("isinstance", "issubclass", "all", "any", "type", "len", "hash"):
            setattr(builtins, name, lambda *_: True)
        return object()""",
    a_replaced_encoder="""
        values = sys.modules["workloads.sandbox.values"]
        values.encode = lambda value: '"pass"]]}'
        values._tagged = lambda *_: {"verdict": "pass"}
        return object()""",
    printed_noise="""
        for text in ("PASSED", "OK", '{"ended":"finished","passed":true}', 'V"escaped"'):
            print(text, flush=True)
            print(text, file=sys.stderr, flush=True)""",
    forged_answers="""
        for text in (b'Vtrue\\n', b'V{"passed":true}\\n', b'V["float","nan"]\\n', b'PASSED\\n', b'V1\\n', b'VNaN\\n'):
            os.write(3, text)
        os._exit(0)""",
    answers_in_the_servers_name="""
        for fd in (0, 1, 2, *range(4, 512)):
            for text in (b'\\x10\\0\\0\\0{"ended":"finished"}', b"escaped"):
                try:
                    os.write(fd, text)
                except OSError:
                    pass""",
    taking_the_next_program="""
        for fd in (0, 1, 2, *range(4, 512)):
            try:
                if os.read(fd, 1):
                    return "escaped"
            except OSError:
                pass""",
    a_frame_of_bad_lines="os.write(3, b'V[[\\n' * 999 + b'\\xff\\n' + b'V' + b'[' * 100_000 + b'\\n'); os._exit(0)",
)
