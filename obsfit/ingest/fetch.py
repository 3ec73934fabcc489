"""Fetching public releases: by name from a registry, never without a checksum that is known or recorded."""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obsfit.errors import ConfigurationError, DataFormatError, ObsfitError
from obsfit.ingest.tables import nearest
from obsfit.provenance import sha256

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
_BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +=()-]*")


@dataclass(frozen=True)
class Remote:
    """A public file, or a release of several.

    Attributes
    ----------
    name : str
        Key for `fetch`.
    url : str
        ``http(s)://...`` for one file, ``doi:...`` for all files of a release in a repository that pooch knows.
    filename : str
        Name to store one file under; "" for a release.
    sha256 : str
        Checksum of one file; "" where it is not known, because we have never fetched it.
    story : str
        What it is.
    """

    name: str
    url: str
    filename: str
    sha256: str
    story: str


@dataclass(frozen=True)
class Fetched:
    """One file that lies in the cache.

    Attributes
    ----------
    path : Path
        Where it lies.
    sha256 : str
        Checksum of its bytes.
    checksum : str
        "verified" against a known or earlier recorded checksum, or "recorded" at this first download.
    """

    path: Path
    sha256: str
    checksum: str


_REGISTRY = (
    Remote(
        "icecube-2025-release",
        "doi:10.7910/DVN/DZI2F5",
        "",
        "",
        "Data release of twelve years of IceCube (arXiv:2412.05046) at Harvard Dataverse. Never fetched by us: its "
        "files and checksums are not known here, and the first download records them.",
    ),
)


def fetchable() -> tuple[Remote, ...]:
    """Return what `fetch` knows by name.

    Examples
    --------
    >>> [remote.name for remote in fetchable()]
    ['icecube-2025-release']
    """
    return _REGISTRY


def fetch(name: str, *, folder: str | Path | None = None) -> tuple[Fetched, ...]:
    """Return the files of a registered release, downloading those that are not in the cache.

    Parameters
    ----------
    name : str
        One of `fetchable`.
    folder : str or Path, optional
        Cache; default the user's cache folder of the operating system.

    Raises
    ------
    ConfigurationError
        If the name is unknown, or pooch is not installed.
    DataFormatError
        If a file does not have its known or recorded checksum.
    ObsfitError
        If the download fails.
    """
    for remote in _REGISTRY:
        if remote.name == name:
            return download(remote, folder=folder)
    names = [remote.name for remote in _REGISTRY]
    raise ConfigurationError(
        f"{name!r} is not registered{nearest(name, names)}", expected=f"one of {', '.join(names)}"
    )


def download(remote: Remote, *, folder: str | Path | None = None) -> tuple[Fetched, ...]:
    """Return the files of a release; as `fetch`, for a description of your own.

    A file whose checksum is not known gets it recorded beside it (``FILE.sha256``) at the first download; from then
    on it is held to that. A download with a wrong checksum leaves nothing behind.

    Parameters
    ----------
    remote : Remote
        What to fetch.
    folder : str or Path, optional
        Cache, as in `fetch`.

    Raises
    ------
    ConfigurationError, DataFormatError, ObsfitError
        As `fetch`.
    """
    pooch = _pooch()
    cache = Path(pooch.os_cache("obsfit") if folder is None else folder) / remote.name
    if remote.url.startswith("doi:"):
        return _release(pooch, remote, cache)
    if not remote.url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{remote.name}: address {remote.url!r}", expected="http://, https:// or doi:")
    return (_one_file(pooch, remote, cache, remote.filename),)


def _one_file(pooch: Any, remote: Remote, cache: Path, filename: str) -> Fetched:
    path = cache / _checked_name(remote, filename)
    known = remote.sha256 or _recorded(path)
    if path.is_file() and known:
        return Fetched(path, _verified(path, known), "verified")
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    try:
        pooch.retrieve(
            remote.url,
            known_hash=f"sha256:{known}" if known else None,
            fname=path.name,
            path=cache,
            downloader=downloader,
        )
    except ValueError as error:
        raise DataFormatError(
            f"{remote.url} does not have the checksum {known[:16]}...", path=path,
            expected="the file that was registered or first downloaded",
            remedy="Nothing was kept. If the release was renewed on purpose, remove the .sha256 file beside it.",
        ) from error  # fmt: skip
    except OSError as error:
        raise _failed(remote, error) from error
    return _settled(path, known)


def _release(pooch: Any, remote: Remote, cache: Path) -> tuple[Fetched, ...]:
    repository = pooch.create(path=cache, base_url=f"{remote.url.rstrip('/')}/")
    try:
        repository.load_registry_from_doi()
        names = [_checked_name(remote, name) for name in repository.registry_files]
        fetched = []
        for name in names:
            path = cache / name
            known = _recorded(path)
            if path.is_file() and known:
                fetched.append(Fetched(path, _verified(path, known), "verified"))
                continue
            repository.fetch(name)
            fetched.append(_settled(path, known))
    except (OSError, ValueError, KeyError) as error:
        raise _failed(remote, error) from error
    return tuple(fetched)


def _settled(path: Path, known: str) -> Fetched:
    """Return a file just downloaded, held to its known checksum or with a new one recorded beside it."""
    if known:
        return Fetched(path, _verified(path, known), "verified")
    found = sha256(path)
    _record(path).write_text(f"{found}  {path.name}\n", encoding="utf-8")
    logger.warning("%s: no checksum was known; recorded %s of this first download", path, found)
    return Fetched(path, found, "recorded")


def _verified(path: Path, known: str) -> str:
    found = sha256(path)
    if found != known:
        raise DataFormatError(
            f"checksum {found[:16]}... of the file in the cache", path=path, expected=f"{known[:16]}...",
            remedy="The file was changed or damaged; remove it and fetch it again.",
        )  # fmt: skip
    return found


def _failed(remote: Remote, error: Exception) -> ObsfitError:
    reason = " ".join(str(error).split())[:200]
    return ObsfitError(
        f"{remote.name} cannot be fetched from {remote.url}: {reason}", expected="an answer of the server",
        remedy="Check the network, or download the file by hand and give its path.",
    )  # fmt: skip


def _checked_name(remote: Remote, filename: str) -> str:
    """Return a file name that cannot leave the cache folder."""
    if not _BARE_NAME.fullmatch(filename):
        raise DataFormatError(f"{remote.name}: file name {filename!r}", expected="a bare name without a folder")
    return filename


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str:
    record = _record(path)
    if not record.is_file():
        return ""
    first = record.read_text(encoding="utf-8", errors="replace").split(maxsplit=1)
    if not first or not re.fullmatch(r"[0-9a-f]{64}", first[0]):
        raise DataFormatError("this is not a recorded checksum", path=record, expected="64 hexadecimal digits")
    return first[0]


def _pooch() -> Any:
    try:
        return importlib.import_module("pooch")
    except ImportError as error:
        raise ConfigurationError(
            "fetching needs the package pooch",
            expected="the extra 'fetch'",
            remedy="Install it: pip install 'obsfit[fetch]'",
        ) from error
