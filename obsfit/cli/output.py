"""What several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.table import Table


def json_rows(table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries of Python's own numbers and texts, for ``--json``; null if masked."""
    return [{name: _plain(row[name]) for name in table.colnames} for row in table]


def _plain(value: Any) -> Any:
    # A masked number has an item, and it is zero.
    if hasattr(value, "mask") and bool(value.mask):
        return None
    return value.item() if hasattr(value, "item") else str(value)
