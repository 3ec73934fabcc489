"""Numbers of Fig. 2 of AM15 and Fig. 15 of AM17: the grey lines, Eq. (77) with p = 1/3, 1/2 and 2/3."""

import mpmath as mp
import numpy as np
import pytest
from obsfit_models import relative_diffusion
from obsfit_models.relative_diffusion import power_from_rate, power_ratio


@pytest.mark.parametrize(("p", "ratio"), [(1 / 3, 0.0985), (1 / 2, 0.1565), (2 / 3, 0.2167)])
def test_quadrupole_of_the_grey_lines(p, ratio):
    assert power_ratio(p, 2)[2] == pytest.approx(ratio, abs=5e-5)
    # by hand for p = 1/2 and 2/3
    assert power_ratio(1 / 2, 2)[2] == pytest.approx(23 / 147, rel=1e-14)
    assert power_ratio(2 / 3, 2)[2] == pytest.approx(13 / 60, rel=1e-14)


@pytest.mark.parametrize("monopole", [False, True])
@pytest.mark.parametrize(("p", "slope"), [(1 / 3, -10 / 3), (1 / 2, -3.0), (2 / 3, -8 / 3)])
def test_slopes_at_large_l(p, slope, monopole):
    """AM15: C_l falls as l^(2 p - 4); local slope between 20000 and 40000, with corrections of order 1/l."""
    ratio = power_ratio(p, 40000, growing_monopole=monopole)
    assert np.log2(ratio[40000] / ratio[20000]) == pytest.approx(slope, abs=2e-4)


@pytest.mark.parametrize(("p", "printed"), [(1 / 2, 15 / 7), (1 / 3, 1.6849)])
def test_amplitude_at_large_l(p, printed):
    """C_l / C_1 -> A l^(2 p - 4) with A = 2^(2 - p) Gamma(1 - p) / [Gamma(p) I_1]."""
    first = mp.quad(lambda x: x * x * (1 - x) ** (-mp.mpf(p)), [-1, 0, 0.9, 1])
    amplitude = float(mp.mpf(2) ** (2 - p) * mp.gamma(1 - p) / (mp.gamma(p) * first))
    assert amplitude == pytest.approx(printed, rel=5e-5)
    ell = 50000
    assert power_ratio(p, ell)[ell] * ell ** (4 - 2 * p) == pytest.approx(amplitude, rel=1e-4)


def test_dipole_of_a_constant_rate_is_the_standard_one():
    """nu_r = nu: C_1 = (3/2) Q_1 / 2 * 2 / (3 nu) and nothing else, the limit stated below Eq. (77)."""
    power = power_from_rate(lambda x: np.full_like(x, 4.0), 10)
    assert power[1] == pytest.approx(0.5 / 4, rel=1e-12)
    np.testing.assert_allclose(power[2:], 0, atol=1e-12)


def test_e25_the_power_law_rate_is_credited_to_am15():
    """AM17 cites A14 for (1 - x)^p; it is in AM15, and A14 has only the one-way cascade."""
    assert "AM15" in relative_diffusion.RelativeDiffusion.__doc__
    assert "A14" not in relative_diffusion.RelativeDiffusion.__doc__
