"""Statistics of the field: limits and circular statistics."""
