"""What this machine can carry: cores and memory."""

import os
import sys
from pathlib import Path

_MB = 1024.0**2


def count_cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        At least 1; fewer than the machine has where a scheduler or container says so.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _first_line(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // max(1, int(quota[1]))))
    return max(1, cores)


def available_memory_mb() -> float:
    """Say how much memory further processes may take without the machine running out.

    Returns
    -------
    float
        In MB: what the system calls available, and no more than a container allows. 2000 where
        the system does not tell.
    """
    limits = [_system_memory_mb()]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most = _first_line(Path(limit))
        if most.isdigit() and int(most) < 2**60:  # larger means none
            taken = _first_line(Path(used))
            limits.append((int(most) - (int(taken) if taken.isdigit() else 0)) / _MB)
    return max(0.0, min(limits))


def _system_memory_mb() -> float:
    if sys.platform == "win32":
        return _windows_memory_mb()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    try:  # macOS tells the whole memory only; the system itself takes about a third
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _MB * 2 / 3
    except (ValueError, OSError):
        return 2000.0


def _windows_memory_mb() -> float:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in ("total", "available", "a", "b", "c", "d", "e")
            ),
        )

    status = Status()
    status.length = ctypes.sizeof(Status)
    known = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined,unused-ignore]
    return status.available / _MB if known else 2000.0


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""
