"""A small real disk without root: a tmpfs in a user and mount namespace of this process alone."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER, MS_REMOUNT = 0x00020000, 0x10000000, 32  # <sched.h>, <sys/mount.h>


class CannotMount(Exception):
    """This machine gives no namespaces or no mounts to ordinary users."""


def mount(place: Path) -> None:
    """Lay a tmpfs over the folder `place`, for this process (of one thread) and its children.

    Raises `CannotMount` where the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise CannotMount(f"no user namespace: {error}") from error
    _call("mount", b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=64k")


def resize(place: Path, kib: int) -> None:
    """Give the tmpfs at `place` another size."""
    _call("mount", b"tmpfs", os.fsencode(place), b"tmpfs", MS_REMOUNT, f"size={kib}k".encode())


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise CannotMount(f"{name}: {os.strerror(code)}")
