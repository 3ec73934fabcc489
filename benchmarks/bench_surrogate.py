"""Log density of a surrogate: 10 000 vectors at once beside one vector after another with scipy."""

import numpy as np
from case import Case
from scipy import stats

from obsfit.emulate.surrogate_density import Surrogate, polynomial

N_VEC, N_DATA, N_REP, N_PAR, FEW = 10_000, 40, 12, 6, 40
RNG = np.random.default_rng(1)


def made():
    """A surrogate of degree 2 with skewed shapes and correlated scores."""
    exponents = [np.zeros(N_PAR, dtype=int)]
    exponents += [np.eye(N_PAR, dtype=int)[i] for i in range(N_PAR)]
    exponents += [
        np.eye(N_PAR, dtype=int)[i] + np.eye(N_PAR, dtype=int)[j] for i in range(N_PAR) for j in range(i + 1)
    ]
    n_feature = len(exponents)
    scores = np.array([-2.0, -1.3, -0.65, 0.0, 0.65, 1.3, 2.0])
    names = tuple(f"p{i}" for i in range(N_PAR))
    near = 0.9 ** np.abs(np.subtract.outer(np.arange(N_DATA), np.arange(N_DATA)))
    return Surrogate(
        names=names, labels=tuple(f"d{i}" for i in range(N_DATA)), features=dict.fromkeys(names, ("identity",)),
        domain=np.array([[-1.0] * N_PAR, [1.0] * N_PAR]), centre=np.zeros(N_PAR), spread=np.full(N_PAR, 0.577),
        exponents=np.array(exponents), mean=0.1 * RNG.normal(size=(N_REP, n_feature, N_DATA)),
        log_scale=0.05 * RNG.normal(size=(N_REP, n_feature, N_DATA)),
        knots=np.cumsum(RNG.uniform(0.5, 0.9, (N_REP, N_DATA, 7)), axis=2) - 2.8, scores=scores,
        slopes=RNG.uniform(0.8, 1.2, (N_REP, N_DATA, 7)), tails=np.zeros((N_REP, N_DATA, 2)),
        correlation=np.broadcast_to(near, (N_REP, 1, N_DATA, N_DATA)).copy(),
    )  # fmt: skip


SURROGATE = made()
THETA = RNG.uniform(-1, 1, (N_VEC, N_PAR))
VALUES = 0.5 * RNG.normal(size=N_DATA)


def at_once():
    return SURROGATE.log_density(THETA, VALUES)


def in_turn():
    """The same, number by number: scores, slopes and the normal law of each replicate."""
    s, found = SURROGATE, []
    for theta in THETA[:FEW]:
        basis = polynomial((theta[None] - s.centre) / s.spread, s.exponents)[0]
        each = []
        for r in range(N_REP):
            log_scale = basis @ s.log_scale[r]
            score, slope = np.empty((2, N_DATA))
            for j, z in enumerate((VALUES - basis @ s.mean[r]) * np.exp(-log_scale)):
                score[j], slope[j] = one_score(z, s.knots[r, j], s.scores, s.slopes[r, j])
            law = stats.multivariate_normal(np.zeros(N_DATA), s.correlation[r, 0])
            each.append(law.logpdf(score) + np.sum(np.log(slope) - log_scale))
        found.append(np.logaddexp.reduce(each) - np.log(N_REP))
    return np.array(found)


def one_score(z, knots, scores, slopes):
    side = 0 if z < knots[0] else -1
    if not knots[0] <= z <= knots[-1]:
        score = np.sqrt(scores[side] ** 2 + 2 * abs(scores[side]) * slopes[side] * abs(z - knots[side]))
        return np.sign(z - knots[side]) * score, abs(scores[side]) * slopes[side] / score
    k = min(int(np.searchsorted(knots, z, side="right")) - 1, len(knots) - 2)
    width, rise = knots[k + 1] - knots[k], scores[k + 1] - scores[k]
    mean, x, d, e = rise / width, (z - knots[k]) / width, slopes[k], slopes[k + 1]
    below = mean + (d + e - 2 * mean) * x * (1 - x)
    slope = mean**2 * (e * x**2 + 2 * mean * x * (1 - x) + d * (1 - x) ** 2) / below**2
    return scores[k] + rise * (mean * x**2 + d * x * (1 - x)) / below, slope


def agree(mine, theirs):
    return bool(np.allclose(mine[:FEW], theirs, rtol=1e-9, atol=1e-9))


CASES = [
    Case(
        f"log density of a surrogate, {N_DATA} data, {N_REP} replicates", at_once, in_turn,
        "scipy, one vector after another", target=1e-4, count=N_VEC, repeats=3, agree=agree,
        whole=lambda _: N_VEC / FEW,
    ),
]  # fmt: skip
