"""Statistics that know no sky: significance of counts, trials, limits and circular data."""
