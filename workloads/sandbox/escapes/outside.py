"""Attempts at what lies outside: files, other processes' secrets, the network."""

from __future__ import annotations

from workloads.sandbox.escapes.case import Case, cases

READING = cases(
    "reading", ("a_file_by_its_path", "the_environment", "open_descriptors"),
    the_environment="return 'escaped' if os.environ else None",
    environment_of_processes="""
        for process in ("self", "1", "VICTIM", str(os.getppid())):
            try:
                if "=" in read(f"/proc/{process}/environ"):
                    return "escaped"
            except OSError:
                pass""",
    environment_in_memory="return 'escaped' if libc.getenv(b'PATH') or libc.getenv(b'HOME') else None",
    a_file_by_its_path="return read(SECRET_FILE)",
    a_file_by_a_system_call="""
        fd = call(56 if ARM else 257, -100, SECRET_FILE.encode(), 0)
        return os.read(fd, 100).decode()""",
    a_file_through_a_link="os.symlink(SECRET_FILE, 'link'); return read('link')",
    a_file_through_a_hard_link="os.link(SECRET_FILE, 'link'); return read('link')",
    a_file_by_climbing="return read('../' * 40 + SECRET_FILE)",
    a_file_through_the_root_of_a_process="""
        for process in ("self", "1", "VICTIM"):
            for way in ("root", "cwd"):
                try:
                    return read(f"/proc/{process}/{way}/" + "../" * 40 + SECRET_FILE)
                except OSError:
                    pass""",
    a_file_by_its_handle="""
        handle = ctypes.create_string_buffer(b"\\x80" + bytes(200))
        mount = ctypes.c_int()
        call(264 if ARM else 303, -100, SECRET_FILE.encode(), handle, ctypes.byref(mount), 0)
        fd = call(265 if ARM else 304, os.open("/", os.O_RDONLY), handle, 0)
        return os.read(fd, 100).decode()""",
    a_module_from_outside="sys.path.insert(0, OUTSIDE); import secret_module; return secret_module.SECRET",
    the_list_of_users="return 'escaped' if 'root' in read('/etc/passwd') else None",
    a_home="return 'escaped' if os.listdir(os.path.expanduser('~root')) or os.listdir('/home') else None",
    open_descriptors="""
        for fd in [*range(3), *range(4, 512)]:
            try:
                mode = os.fstat(fd).st_mode
            except OSError:
                continue
            if fd > 3 or mode & 0o170000 != 0o020000:
                return "escaped\"""",
    a_disk="""
        import glob
        for disk in (*glob.glob("/dev/vd*"), *glob.glob("/dev/sd*"), *glob.glob("/dev/nvme*"), "/dev/mem", "/dev/kmsg"):
            try:
                os.close(os.open(disk, os.O_RDONLY))
                return "escaped"
            except OSError:
                pass""",
    a_disk_of_its_own_making="""
        import stat
        os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))
        return "escaped" if os.open("disk", os.O_RDONLY) else None""",
    other_processes="""
        others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
        return "escaped" if len(others) > 1 else None""",
    the_kernels_log="return 'escaped' if libc.klogctl(3, ctypes.create_string_buffer(100), 100) > 0 else None",
) + (Case(area="reading", name="what the program before it left", before="""
        import builtins, glob, tempfile
        builtins.left = sys.left = "escaped"
        os.environ["LEFT"] = "escaped"
        for folder in (".", "..", "/tmp", "/dev/shm", "/var/tmp", tempfile.gettempdir()):
            try:
                with open(f"{folder}/left", "w") as file:
                    file.write("escaped")
            except OSError:
                pass""", body="""
        import builtins, glob
        for path in ("left", "../left", "/tmp/left", "/dev/shm/left", "/var/tmp/left", *glob.glob("../*/left")):
            try:
                return read(path)
            except OSError:
                pass
        return getattr(builtins, "left", getattr(sys, "left", os.environ.get("LEFT")))"""),)

WRITING = cases(
    "writing", ("a_file_beside_the_secret",),
    a_file_beside_the_secret="open(OUTSIDE + '/new', 'w').write('x'); return 'escaped'",
    over_the_secret="open(SECRET_FILE, 'w').write('x'); return 'escaped'",
    through_a_link="os.symlink(OUTSIDE, 'link'); open('link/new', 'w').write('x'); return 'escaped'",
    removing_the_secret="os.unlink(SECRET_FILE); return 'escaped'",
    moving_the_secret="os.rename(SECRET_FILE, 'mine'); return read('mine')",
    modes_of_the_secret="os.chmod(SECRET_FILE, 0o777); return 'escaped'",
    times_of_the_secret="os.utime(SECRET_FILE, (1, 1)); return 'escaped'",
    the_interpreters_library="""
        folder = os.path.dirname(os.__file__)
        open(folder + "/sandbox_was_here.py", "w").close()
        os.unlink(folder + "/sandbox_was_here.py")
        return "escaped\"""",
    the_sandboxs_own_code="""
        path = sys.modules["workloads.sandbox.values"].__file__
        open(path, "ab").close()
        return "escaped\"""",
    temporary_folders="""
        for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/"):
            try:
                open(folder + "/sandbox_was_here", "w").close()
                os.unlink(folder + "/sandbox_was_here")
                return "escaped"
            except OSError:
                pass""",
    a_system_mount="""
        for path in (b"/usr", b"/", OUTSIDE.encode()):
            if libc.mount(None, path, None, ctypes.c_ulong(32 | 4096), None) == 0:  # remount read-write
                return "escaped\"""",
    taking_a_mount_off="return 'escaped' if 0 in (libc.umount2(b'/usr', 2), libc.umount2(b'/scratch', 2)) else None",
    another_root="""
        os.mkdir("new")
        os.chroot("new")
        os.chdir("../" * 40)
        os.chroot(".")
        return read(SECRET_FILE)""",
    a_namespace_of_its_own="""
        for flags in (0x10000000, 0x10020000, 0x00020000, 0x40000000):
            if libc.unshare(flags) == 0:
                return "escaped\"""",
    the_namespace_of_another="""
        for process in ("1", "VICTIM"):
            for name in ("user", "mnt", "net", "pid"):
                try:
                    if libc.setns(os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY), 0) == 0:
                        return "escaped"
                except OSError:
                    pass""",
)

NETWORK = cases(
    "network", ("a_connection",),
    a_connection="""
        import socket
        socket.create_connection(("127.0.0.1", PORT), 1).send(b"x")
        return "escaped\"""",
    a_datagram="""
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))
        return "escaped\"""",
    a_socket_in_the_file_system="""
        import socket
        socket.socket(socket.AF_UNIX).connect(PATH_SOCKET)
        return "escaped\"""",
    an_abstract_socket="""
        import socket
        socket.socket(socket.AF_UNIX).connect(ABSTRACT)
        return "escaped\"""",
    a_port_to_listen_on="""
        import socket
        socket.create_server(("0.0.0.0", 0))
        return "escaped\"""",
    the_kernels_own_sockets="""
        import socket
        for family, kind in ((16, 3), (17, 3), (40, 1), (38, 5)):  # netlink, packet, vsock, alg
            try:
                socket.socket(family, kind)
                return "escaped"
            except OSError:
                pass""",
    sockets_by_io_uring="return 'escaped' if call(425, 8, ctypes.create_string_buffer(120)) >= 0 else None",
)
