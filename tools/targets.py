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


def main() -> None:
    """Command line."""
    files = [str(path) for path in sorted(CORE.glob("*/*.c"))]
    failed = []
    for target in sys.argv[1:] or TARGETS:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *FLAGS, f"-I{CORE}"]
        with tempfile.TemporaryDirectory() as scratch:
            ended = subprocess.run([*command, "-c", *files], cwd=scratch, check=False)
            made = len(list(Path(scratch).glob("*.o*")))
        print(f"{target}: {made} of {len(files)} files compile", flush=True)
        if ended.returncode or made < len(files):
            failed.append(target)
    if failed:
        raise SystemExit(f"not compiled for {', '.join(failed)}")


if __name__ == "__main__":
    main()
