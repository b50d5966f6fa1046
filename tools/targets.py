"""Compiles every C file of the core for platforms that this machine is not.

    pip install ziglang
    python tools/targets.py [TARGET ...]

Object files only: the core is written in C that other compilers, libraries and processors take.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent / "src/_ext"
TARGETS = [
    "x86_64-windows-gnu",
    "aarch64-windows-gnu",
    "x86_64-macos",
    "aarch64-macos",
    "aarch64-linux-gnu.2.17",
    "x86_64-linux-musl",
    "wasm32-wasi",
]
FLAGS = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"]


def compiles(target: str, path: Path, scratch: str) -> bool:
    """Whether zig makes an object file; its messages go to the terminal."""
    out = Path(scratch) / "out.o"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *FLAGS, f"-I{CORE}"]
    ended = subprocess.run([*command, "-c", str(path), "-o", str(out)], check=False)
    return ended.returncode == 0


def main() -> None:
    """Command line."""
    files = sorted(CORE.glob("*/*.c"))
    failed = []
    for target in sys.argv[1:] or TARGETS:
        with tempfile.TemporaryDirectory() as scratch:
            made = sum(compiles(target, path, scratch) for path in files)
        print(f"{target}: {made} of {len(files)} files compile", flush=True)
        if made < len(files):
            failed.append(target)
    if failed:
        raise SystemExit(f"not compiled for {', '.join(failed)}")


if __name__ == "__main__":
    main()
