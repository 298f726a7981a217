"""Makes the zip of each function: what it imports, exactly as locked, and its bytecode.

    python -m functions.package [--arch arm64] [--offline] [FUNCTION…]

What is deployed, and where, stands in ``serverless.yml``; it is made for the version of
Python that runs this. With ``--offline`` everything comes from uv's cache.
"""

import argparse
import ast
import gc
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

gc.enable()  # a tool and no function; see the package

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build"

_STORE: Final = ("libvalkey", "msgspec", "valkey")
# multipart, sniffio and the rest are what Litestar imports before anybody asks.
_HTTP: Final = (
    *("anyio", "litestar", "multidict", "multipart", "prometheus-client", "pyyaml"),
    *("sniffio", "typing-extensions", "zstandard"),
)
_HTTPX: Final = ("anyio", "certifi", "h11", "httpcore", "httpx", "idna")
_PICOWS: Final = ("aiofastnet", "multidict", "picows", "python-socks")
_UVICORN: Final = ("click", "httptools", "uvicorn", "websockets")

PACKAGES: Final = {
    "api": {*_STORE, *_HTTP, "mangum"},
    "stream": {*_STORE, *_HTTP, *_UVICORN},
    "ingest": {*_STORE, *_HTTPX, *_PICOWS, "typing-extensions"},
    "warm": {*_HTTPX, "msgspec", "typing-extensions"},
}
"""What each function imports of others; Litestar takes more where it finds it."""

_PLATFORMS: Final = {
    "arm64": "aarch64-manylinux2014",
    "x86_64": "x86_64-manylinux2014",
}
# Files of ours that are read and not imported, by the module that reads them.
_DATA: Final = {
    "relay/config.py": ("config/*.toml", "config/exchanges/*", "config/platforms/*"),
    "relay/store/client.py": ("relay/store/scripts/*.lua",),
    "relay/delivery/page.py": ("relay/dashboard/*",),
}
# What of a package is read by nobody when it runs.
_UNREAD: Final = re.compile(
    r"(^|/)(_yaml|bin|tests?|testing|__pycache__)/|\.(pyi|pyx|pxd|c|h|typed)$"
    r"|\.dist-info/(RECORD|WHEEL|INSTALLER|REQUESTED|direct_url\.json)$"
)
# One date for all, so that the same files make the same zip.
_DATE: Final = (2020, 1, 1, 0, 0, 0)


def modules(start: str) -> set[str]:
    """Return the files of ours that a file imports, and what those import."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += [one for name in _imports(ROOT / path) for one in _files(name)]
    return found


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # ``from relay import hub`` imports relay.hub; a mere name has no file.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[str]:
    """Yield the file of a module, and those of the packages that it is in."""
    parts = name.split(".")
    if parts[0] not in ("relay", "functions"):
        return
    for count in range(1, len(parts) + 1):
        stem = "/".join(parts[:count])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (ROOT / path).is_file():
                yield path


def own_files(function: str) -> set[str]:
    """Return every file of ours that a function needs."""
    found = modules(f"functions/{function}.py") | {"functions/__init__.py"}
    for reader in found & set(_DATA):
        for pattern in _DATA[reader]:
            found |= {_place(path) for path in ROOT.glob(pattern) if path.is_file()}
    if function == "stream":
        found.add("functions/run.sh")
    return {path for path in found if not path.endswith("locked.txt")}


def _place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def locked(names: Iterable[str]) -> str:
    """Return the part of the lock that names these, hashes and all."""
    text = (ROOT / "config" / "locked.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    wanted = set(names)
    chosen = [one for one in entries if re.split(r"[=\[ ;]", one)[0] in wanted]
    assert len(chosen) == len(wanted), f"not in the lock: {wanted}"
    return "\n".join([*chosen, ""])


def install(function: str, *, arch: str, offline: bool) -> Path:
    """Put everything that a function needs into a folder; returns the folder."""
    folder = BUILD / function
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    listed = BUILD / f"{function}.txt"
    listed.write_text(locked(PACKAGES[function]), encoding="utf-8")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    _run(
        *("uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--no-compile-bytecode", "--link-mode", "copy"),
        *("--python-platform", _PLATFORMS[arch], "--python-version", version),
        *("--target", str(folder), "-r", str(listed)),
        *(["--offline"] if offline else []),
    )
    for path in own_files(function):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, place)
    _write_version(folder)
    _drop_unread(folder)
    # A zip loses the files' times, by which ordinary bytecode is judged.
    checked = ("--invalidation-mode", "unchecked-hash")
    _run(sys.executable, "-m", "compileall", "-q", *checked, str(folder))
    return folder


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - our own words


def _write_version(folder: Path) -> None:
    """Write down which version of the relay it is, where it looks for that."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (place / "METADATA").write_text(text)


def _drop_unread(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _UNREAD.search(str(path.relative_to(folder))):
            path.unlink()


def pack(folder: Path) -> Path:
    """Make a folder's zip beside it; returns the zip."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), _DATE)
            entry.external_attr = (0o755 if path.suffix == ".sh" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, path.read_bytes())
    return target


def build(names: Sequence[str], *, arch: str, offline: bool) -> None:
    """Make the zips of these functions, and say for which platform they are."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in names:
        made = pack(install(name, arch=arch, offline=offline))
        size = made.stat().st_size / 1_000_000
        sys.stdout.write(f"{made.relative_to(ROOT)}: {size:.1f} MB\n")
    # serverless.yml reads this, so that what is deployed fits what was made.
    target = {"runtime": f"python{version}", "architecture": arch}
    (BUILD / "target.json").write_bytes(msgspec.json.encode(target))


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m functions.package")
    parser.add_argument("functions", nargs="*", default=list(PACKAGES))
    parser.add_argument("--arch", choices=list(_PLATFORMS), default="arm64")
    parser.add_argument("--offline", action="store_true")
    given = parser.parse_args()
    build(given.functions, arch=given.arch, offline=given.offline)


if __name__ == "__main__":
    main()
