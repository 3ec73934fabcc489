"""Li-Ma significances printed in the literature."""

import numpy as np
import pytest

from obsfit.statistics.li_ma import li_ma_significance

# Table 1 of Cousins, Linnemann and Tucker (2008), arXiv:physics/0702156: n_on, n_off, tau = 1 / alpha, and the
# significance from the profile likelihood, which is Eq. (17) of Li and Ma.
PRINTED = [
    (4, 5, 5.0, 1.95),
    (6, 18.78, 14.44, 2.82),
    (9, 17.83, 4.69, 1.99),
    (17, 40.11, 10.56, 4.57),
    (50, 55, 2.0, 3.02),
    (67, 15, 0.5, 3.04),
    (200, 10, 0.1, 2.38),
    (523, 2327, 5.99, 5.95),
    (498426, 493434, 1.0, 5.01),
    (2119449, 23650096, 11.21, 6.40),
]


@pytest.mark.parametrize(("n_on", "n_off", "tau", "printed"), PRINTED)
def test_table_1_of_cousins_linnemann_and_tucker(n_on, n_off, tau, printed):
    assert li_ma_significance(n_on, n_off, 1.0 / tau) == pytest.approx(printed, abs=0.005 + 1e-9)


def test_am17_hawc_discs():
    """AM17, section 2: 10 degree discs of HAWC hold 5.6e8 events, and one sigma is a dI of 4.2e-5."""
    n_on, delta_i, alpha = 5.6e8, 4.2e-5, 1e-3
    n_off = n_on / alpha
    assert li_ma_significance(n_on * (1 + delta_i), n_off, alpha) == pytest.approx(1.0, abs=0.01)
    disc = 0.5 * (1 - np.cos(np.radians(10)))
    band = 0.5 * (np.sin(np.radians(64)) - np.sin(np.radians(-26)))
    assert 4.9e10 * disc / band == pytest.approx(n_on, rel=0.01)
