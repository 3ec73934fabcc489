"""Tables behind figures: ECSV files that say which data and settings they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from astropy.table import Table

from obsfit import __version__
from obsfit.plot.report import DataSource

FORMAT = "obsfit-figure-table"
FORMAT_VERSION = 1


def write_table(
    table: Table,
    path: str | Path,
    *,
    description: str,
    data: Sequence[DataSource] = (),
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Write the numbers of a figure as ECSV and return the path; an older file of that name is replaced.

    Parameters
    ----------
    table : astropy.table.Table
        Columns with units and descriptions.
    path : str or Path
        File to write; its folder is made.
    description : str
        One sentence: what the rows are.
    data : sequence of DataSource
        Data sets that went in; name and checksum are stored.
    settings : mapping, optional
        Choices that a reader needs to make the table again (seed, sizes).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.copy()
    table.meta.update(
        obsfit_format=FORMAT,
        format_version=FORMAT_VERSION,
        obsfit_version=__version__,
        description=description,
        data=[{"name": source.name, "sha256": source.sha256} for source in data],
        settings=dict(settings or {}),
    )
    partial = path.with_name(path.name + ".partial")
    table.write(partial, format="ascii.ecsv", overwrite=True)
    partial.replace(path)
    return path
