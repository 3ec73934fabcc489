"""The diffusive dipole and the motion of the Sun fitted to the dipoles of Table 1 of AM17."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from scipy.stats import spearmanr

import obsfit
from obsfit.infer import (
    DipoleScatter,
    DipoleTerm,
    FitResult,
    Likelihood,
    Posterior,
    SamplerSettings,
    maximum_likelihood,
    predictive_p_value,
)
from obsfit.operators.catalogue import dipole_data, dipole_response
from obsfit.plot.fits import predictive_table
from obsfit.plot.products import stored_fit, write_table
from obsfit.plot.report import Comparison, DataSource, FigureEntry
from obsfit.plot.runner import Context, generator
from obsfit.plot.style import COLOURS, MARKERS, new_figure, save, styled
from obsfit.protocols import true_sky
from obsfit.records import DipoleMeasurements

KEY = "fit-dipoles-table1"
TITLE = "Diffusive dipole fitted to Table 1 of AM17"
PAPER = "Own fits"
FIGURE = ""

# The row at 0.98 TeV counts as 1 TeV.
ENERGY_TEV = (0.98, 5000.0)
FIELDS = ("ibex", "starlight", "none")
NEIGHBOURS = ("icecube-2016-13TeV", "argo-ybj-2015-13.6TeV", "tibet-2015-15TeV", "super-k-2007-12TeV")
TOGETHER = ("IceCube", "IceTop")
IDENTIFIED_BITS = 0.5
PREDICTING = 2000
MAIN = "ibex"
FACE_VALUE = "published errors"
LABELS = {
    "log10_background": r"$\log_{10} A_\mathrm{bg}$",
    "diffusion_index": r"$\beta$",
    "log10_source_fraction": r"$\log_{10} f_{10}$",
    "log10_diffusivity": r"$\log_{10} K_{10}$",
    "perpendicular_ratio": r"$K_\perp/K_\parallel$",
    "spectral_index": r"$\Gamma$",
    "amplitude_scatter": r"$\sigma_\mathrm{scale}$",
    "direction_scatter": r"$\sigma_\mathrm{phase}$",
    "log10_intrinsic_scatter": r"$\log_{10}\sigma_\mathrm{int}$",
}


@dataclass(frozen=True)
class Fit:
    """A posterior and its samples."""

    posterior: Posterior
    result: FitResult

    def column(self, name: str) -> np.ndarray:
        """Samples of one parameter."""
        return self.result.samples()[:, self.result.names.index(name)]


def selection(dipoles: DipoleMeasurements, without: tuple[str, ...] = ()) -> DipoleMeasurements:
    """Return the measurements from 1 TeV to 5 PeV, without some experiments."""
    keep = (dipoles.energy_tev >= ENERGY_TEV[0]) & (dipoles.energy_tev <= ENERGY_TEV[1]) & ~dipoles.is_limit
    return dipoles.select(keep & np.array([name not in without for name in dipoles.observatory]))


def posterior(dipoles: DipoleMeasurements, field: str = MAIN, scatter: DipoleScatter | None = None) -> Posterior:
    """Return the posterior of the diffusive dipole plus the motion in the local standard of rest."""
    model = obsfit.add_models(
        obsfit.load_model("diffusive-dipole", field=field), obsfit.load_model("compton-getting", motion="LSR")
    )
    return Posterior(model, Likelihood(DipoleTerm(dipoles, DipoleScatter() if scatter is None else scatter)))


def omissions(dipoles: DipoleMeasurements) -> dict[str, tuple[str, ...]]:
    """Return what is left out in turn: each experiment, and the two that share an observatory together."""
    each = {name: (name,) for name in sorted(set(dipoles.observatory))}
    return each | {" + ".join(TOGETHER): TOGETHER}


def common_vector(dipoles: DipoleMeasurements) -> tuple[np.ndarray, float]:
    r"""Return the best common vector, shape (2,), of the four dipoles at 12 to 15 TeV, and its chi-square.

    :math:`\chi^2 = \sum_i (d_i/f_i - m)^T (V_i/f_i^2)^{-1} (d_i/f_i - m)` with components d, their published
    statistical covariance V, and f from Eq. (25) of AM17 (one where no declination band is published, as
    for Super-K). Four vectors less one leave six degrees of freedom.
    """
    four = dipoles.select([dipoles.measurement.index(name) for name in NEIGHBOURS])
    factor = dipole_response(four)
    components, covariance = dipole_data(four)
    value = components / factor[:, None]
    weight = np.linalg.inv(covariance / factor[:, None, None] ** 2)
    mean = np.linalg.solve(weight.sum(axis=0), np.einsum("nij,nj->i", weight, value))
    residual = value - mean
    return mean, float(np.einsum("ni,nij,nj->", residual, weight, residual))


def described(found: Fit, rng: np.random.Generator) -> tuple[float, float]:
    """Return largest log likelihood and predictive p-value."""
    samples = found.result.samples(PREDICTING)
    return maximum_likelihood(found.posterior, samples)[1], predictive_p_value(found.posterior, samples, rng=rng)


def summary(fits: dict[str, Fit]) -> Table:
    """Return one row for each parameter of each named fit."""
    rows = []
    for name, fit in fits.items():
        gain = np.asarray(fit.result.summary()["bits"])
        for index, line in enumerate(fit.result.summary()):
            rows.append(
                {
                    "fit": name, "parameter": str(line["name"]), "unit": str(line["unit"]),
                    **{key: float(line[key]) for key in ("median", "p16", "p84", "p2.5", "p97.5")},
                    "information": float(gain[index]), "identified": bool(gain[index] >= IDENTIFIED_BITS),
                    "effective_steps": fit.result.effective_steps, "r_hat": float(line["r_hat"]),
                }
            )  # fmt: skip
    return _formatted(Table(rows=rows, units={"information": "bit"}))


def shifts(main: Fit, without: dict[str, Fit]) -> Table:
    """Return how far each median moves when an experiment is left out, in half widths of the main 68 % interval."""
    low, middle, high = np.percentile(main.result.samples(), [16, 50, 84], axis=0)
    rows = []
    for name, fit in without.items():
        own_low, own, own_high = np.percentile(fit.result.samples(), [16, 50, 84], axis=0)
        for index, parameter in enumerate(main.result.names):
            sigma = 0.5 * (high[index] - low[index])
            rows.append(
                {
                    "without": name, "parameter": parameter, "median": own[index], "p16": own_low[index],
                    "p84": own_high[index], "shift": (own[index] - middle[index]) / sigma,
                    "width_ratio": 0.5 * (own_high[index] - own_low[index]) / sigma,
                }
            )  # fmt: skip
    table = _formatted(Table(rows=rows))
    table["shift"].description = "in half widths of the 68 % interval of the fit to all experiments"
    return table


def offsets(fit: Fit) -> Table:
    """Return scale and rotation of each experiment, averaged over the posterior."""
    (term,) = fit.posterior.likelihood.terms
    assert isinstance(term, DipoleTerm)
    samples = fit.result.samples(PREDICTING)
    (sky,), (nuisance,) = fit.posterior.skies(samples), fit.posterior.nuisances(samples)
    mean, deviation = term.experiment_offsets(sky, nuisance)
    spread = np.sqrt((deviation**2).mean(axis=0) + mean.var(axis=0))
    centre = mean.mean(axis=0)
    table = Table(
        {
            "experiment": list(term.experiments),
            "rows": [term.record.observatory.count(name) for name in term.experiments],
            "scale": centre[:, 0], "scale_error": spread[:, 0],
            "rotation": centre[:, 1], "rotation_error": spread[:, 1],
        },
        units={"rotation": "deg", "rotation_error": "deg"},
    )  # fmt: skip
    table["scale"].description = "relative excess of the amplitudes over the model"
    table["rotation"].description = "turn of the phases against the model, towards larger right ascension"
    return _formatted(table)


def bands(fit: Fit, factor: float) -> Table:
    """Return amplitude and phase of the true equatorial dipole against energy, and of a projected one."""
    energy = np.geomspace(ENERGY_TEV[0], ENERGY_TEV[1], 120)
    theta = fit.result.samples(PREDICTING)[:, : len(fit.posterior.model.parameters)]
    sky = true_sky(fit.posterior.model, theta, energy, 1)
    assert sky.alm is not None
    a_11 = np.sqrt(3.0 / (2.0 * np.pi)) * sky.alm[..., 2]
    amplitude, phase = np.abs(a_11), np.degrees(np.arctan2(a_11.imag, -a_11.real))
    table = Table({"energy": energy}, units={"energy": "TeV"})
    for key, level in (("p16", 16), ("median", 50), ("p84", 84)):
        table[f"amplitude_{key}"] = np.percentile(amplitude, level, axis=0)
        table[f"projected_{key}"] = factor * table[f"amplitude_{key}"]
    # Unwrap about the circular mean: a percentile of an angle has no meaning elsewhere.
    centre = np.degrees(np.angle(np.exp(1j * np.radians(phase)).mean(axis=0)))
    about = (phase - centre + 180.0) % 360.0 - 180.0
    for key, level in (("p16", 16), ("median", 50), ("p84", 84)):
        table[f"phase_{key}"] = centre + np.percentile(about, level, axis=0)
    return table


def _formatted(table: Table) -> Table:
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".5g"
    return table


def value(table: Table, fit: str, parameter: str, column: str) -> float:
    """Return one cell of the summary."""
    return float(table[column][(table["fit"] == fit) & (table["parameter"] == parameter)][0])


def interval(table: Table, fit: str, parameter: str) -> str:
    """Return the 68 and 95 % intervals and the information in words."""
    cell = {key: value(table, fit, parameter, key) for key in ("p16", "p84", "p2.5", "p97.5", "information")}
    text = (
        f"68 %: {cell['p16']:.3g} to {cell['p84']:.3g}; 95 %: {cell['p2.5']:.3g} to {cell['p97.5']:.3g}; "
        f"{cell['information']:.1f} bits"
    )
    return text if cell["information"] >= IDENTIFIED_BITS else text + ": not identified"


def minimum_tev(fit: Fit) -> np.ndarray:
    """Return the energy of the smallest true equatorial dipole above 10 TeV for posterior samples, shape (n,)."""
    energy = np.geomspace(10.0, 2000.0, 400)
    theta = fit.result.samples(PREDICTING)[:, : len(fit.posterior.model.parameters)]
    sky = true_sky(fit.posterior.model, theta, energy, 1)
    assert sky.alm is not None
    return energy[np.argmin(np.abs(sky.alm[..., 2]), axis=1)]


def mean_free_path_pc(fit: Fit, rigidity_tv: float) -> np.ndarray:
    """Return the large-scale mean free path 3K/c for all samples, shape (n,)."""
    model = obsfit.load_model("diffusive-dipole", field=MAIN)
    theta = fit.result.samples()[:, : len(model.parameters)]
    return np.asarray(model.mean_free_path_pc(theta, np.array([rigidity_tv]))[:, 0])


def comparisons(
    dipoles: DipoleMeasurements, fits: dict[str, Fit], table: Table, moved: Table, turned: Table,
    quality: dict[str, tuple[float, float]],
) -> tuple[Comparison, ...]:  # fmt: skip
    """Return posterior, shifts, offsets and checks as lines of the page."""
    main = fits[MAIN]
    lines = []
    for name, unit in zip(main.result.names, main.result.units, strict=True):
        expected, source, note = None, "", interval(table, MAIN, name)
        if name == "diffusion_index":
            low, high = (value(table, MAIN, name, key) for key in ("p2.5", "p97.5"))
            where = "inside" if low <= 1 / 3 <= high else "outside"
            expected, source = 1 / 3, "AM17, section 3.3: β = 1/3 of Kolmogorov turbulence"
            note += f"; 1/3 is {where} the 95 % interval"
        lines.append(Comparison(name, expected, value(table, MAIN, name, "median"), unit, note, source=source))
    low, middle, high = np.percentile(minimum_tev(main), [2.5, 50, 97.5])
    lines.append(
        Comparison("energy of the smallest dipole", None, middle, "TeV", f"95 %: {low:.0f} to {high:.0f} TeV")
    )
    for rigidity in (10.0, 1000.0):
        low, middle, high = np.percentile(mean_free_path_pc(main, rigidity), [2.5, 50, 97.5])
        lines.append(
            Comparison(
                f"large-scale mean free path at {rigidity:g} TV",
                None,
                middle,
                "pc",
                f"95 %: {low:.0f} to {high:.0f}",
            )
        )
    mean, chi2 = common_vector(dipoles)
    lines.append(
        Comparison(
            "χ² of four dipoles at 12 to 15 TeV about one vector", None, chi2,
            note="6 degrees of freedom, published errors. IceCube, ARGO-YBJ and Tibet divided by Eq. (25) of "
            f"AM17, Super-K (no band published) as it stands; the vector is {1e4 * np.hypot(*mean):.1f}e-4 at "
            f"{np.degrees(np.arctan2(mean[1], mean[0])):.0f}°",
        )
    )  # fmt: skip
    for name, (log_likelihood, p_value) in quality.items():
        text = "IBEX field, published errors at face value" if name == FACE_VALUE else f"field: {name}"
        lines.append(
            Comparison(
                f"largest log likelihood less that of the main fit; {text}", None,
                log_likelihood - quality[MAIN][0], note=f"predictive p-value {p_value:.3f}",
            )
        )  # fmt: skip
    for name in ("diffusion_index", "log10_source_fraction"):
        naive, honest = (
            value(table, fit, name, "p97.5") - value(table, fit, name, "p2.5") for fit in (FACE_VALUE, MAIN)
        )
        lines.append(
            Comparison(
                f"{name}, published errors at face value", None, value(table, FACE_VALUE, name, "median"),
                note=f"{interval(table, FACE_VALUE, name)}. The 95 % interval is {honest / naive:.0f} times "
                "narrower than with scatter: over-confident, for no repeated observation lies so far off as "
                "the data.",
            )
        )  # fmt: skip
    for name in dict.fromkeys(moved["without"]):
        rows = moved[moved["without"] == name]
        largest = rows[int(np.argmax(np.abs(rows["shift"])))]
        lines.append(
            Comparison(
                f"largest shift without {name}", None, float(largest["shift"]), "σ",
                f"{largest['parameter']}: median {largest['median']:.3g}",
            )
        )  # fmt: skip
    for row in turned:
        lines.append(
            Comparison(
                f"rotation of {row['experiment']}", None, float(row["rotation"]), "deg",
                f"± {row['rotation_error']:.0f}°; scale {1 + row['scale']:.2f} ± {row['scale_error']:.2f}",
            )
        )  # fmt: skip
    return tuple(lines)


def notes(
    main: Fit, table: Table, moved: Table, turned: Table, quality: dict[str, tuple[float, float]]
) -> tuple[str, ...]:
    """Return what a reader must know of these fits."""
    names = main.result.names
    ranks = np.asarray(spearmanr(main.result.samples(20_000)).statistic)
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    strong = sorted((p for p in pairs if abs(ranks[p]) > 0.5), key=lambda p: -abs(ranks[p]))

    def pair(one: str, other: str) -> str:
        return f"{ranks[names.index(one), names.index(other)]:.2f}"

    loose = [
        f"{row['parameter']} ({row['information']:.2f} bits)"
        for row in table
        if row["fit"] == MAIN and not row["identified"]
    ]
    index = main.posterior.parameters[names.index("diffusion_index")].prior
    at_edge = float(np.mean(main.column("diffusion_index") > index.ppf(0.9)))
    free_path = float(np.median(mean_free_path_pc(main, 1000.0)))
    both = moved[(moved["without"] == " + ".join(TOGETHER)) & (np.abs(moved["shift"]) > 2)]
    most = turned[int(np.argmax(np.abs(turned["rotation"])))]
    return (
        "Rows from 0.98 TeV (counted as 1 TeV) to 5 PeV: IceCube at 5.4 PeV and KASCADE-Grande at 6.1 and 33 "
        "PeV are left out. Priors are those of the models and of the dipole likelihood.",
        f"Not identified (less than half a bit): {', '.join(loose)}. The index of diffusion leans on its "
        f"prior: {100 * at_edge:.0f} percent of its posterior lie in the upper tenth of the prior, so that its "
        "upper limit is the prior's.",
        "Degenerate (rank correlation above 0.5): "
        + "; ".join(f"{names[j]} with {names[i]} ({ranks[i, j]:.2f})" for i, j in strong)
        + f". Background with perpendicular ratio: {pair('log10_background', 'perpendicular_ratio')}; diffusivity "
        f"with source fraction: {pair('log10_diffusivity', 'log10_source_fraction')}.",
        f"The diffusivity is not to be read as one: at 1 PV its mean free path is about {free_path:.0f} pc, "
        "beyond the 300 pc to Vela, where diffusion from Vela means nothing. It is the number that lets the "
        "share of the source fall with rigidity as the data ask.",
        "The direction of the local field is assumed, not fitted. Of the two axes tried, that of IBEX is "
        f"favoured over starlight polarisation by {quality[MAIN][0] - quality['starlight'][0]:.1f} in log "
        f"likelihood, and over isotropic local diffusion by {quality[MAIN][0] - quality['none'][0]:.1f}. These "
        "are differences of maxima, no evidence: one source, one background direction, one motion.",
        "The predictive p-values with scatter are unremarkable "
        f"({', '.join(f'{name} {pair_[1]:.2f}' for name, pair_ in quality.items() if name != FACE_VALUE)}), "
        "because the scatter is fitted and takes up what the model misses: with no ordered field it grows to "
        f"{100 * value(table, 'none', 'amplitude_scatter', 'median'):.0f} percent in scale and "
        f"{value(table, 'none', 'direction_scatter', 'median'):.0f} degrees in phase. At face value the "
        f"p-value is {quality[FACE_VALUE][1]:.3f}, and the largest log likelihood is lower by "
        f"{quality[MAIN][0] - quality[FACE_VALUE][0]:.0f}.",
        f"Phases scatter by {value(table, MAIN, 'direction_scatter', 'median'):.0f} degrees between "
        f"experiments beyond their errors; {most['experiment']} is turned by {most['rotation']:.0f}. Rotations "
        "are linear in the likelihood, which is rough at such angles; part of them is the model's own error, "
        "since it allows hardly more than two phases and a turn between.",
        "IceCube and IceTop share an observatory and systematic errors, which the scatter takes as independent. "
        "Without both: "
        + ("; ".join(f"{row['parameter']} moves by {row['shift']:.1f} σ" for row in both) or "no shift above 2 σ")
        + ".",
        "Each row is taken at its median energy: the spreads of 0.5 to 0.8 decades in energy, which round off "
        "and move the minimum, and multipoles above the dipole that leak into projected amplitudes are left to "
        "the scatter. That is not enough: over mock skies with such multipoles the 68 percent intervals of this "
        "fit hold about 48 percent, and the 95 percent intervals about 80 (docs/calibration.md). Read them as "
        "too narrow.",
    )


def size_note(fits: tuple[Fit, ...]) -> str:
    """Return the label of a quick run: how long the shorter chains are and what that costs."""
    steps = min(fit.result.effective_steps for fit in fits)
    size = min(fit.result.effective_steps * fit.result.chain.shape[1] for fit in fits)
    return (
        "Quick run: the main fit has 50 autocorrelation times; the fits without an experiment and with other "
        f"choices have {steps:.0f} or more, so that their medians are uncertain by up to "
        f"{np.sqrt(np.pi / 2 / size):.2f} σ. make reproduce FULL=1 takes 200 and 50."
    )


def draw(dipoles: DipoleMeasurements, band: Table, moved: Table, stem: Path) -> None:
    """Draw amplitude and phase against energy, and the shifts on leaving out each experiment."""
    with styled():
        figure = new_figure(10.6, 7.4)
        left, right = figure.subfigures(1, 2, width_ratios=(1.35, 1.0))
        upper, lower = left.subplots(2, 1, sharex=True)
        draw_energy(upper, lower, dipoles, band)
        draw_shifts(right.subplots(), moved)
        left.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)
        save(figure, stem)


def draw_energy(upper: Axes, lower: Axes, dipoles: DipoleMeasurements, band: Table) -> None:
    """Draw amplitudes as published above, phases below, with the bands of the model."""
    energy = band["energy"]
    upper.fill_between(
        energy, 1e4 * band["amplitude_p16"], 1e4 * band["amplitude_p84"], color=COLOURS["sky"], alpha=0.35, linewidth=0,
        label="true dipole, 68 %",
    )  # fmt: skip
    upper.plot(energy, 1e4 * band["amplitude_median"], color=COLOURS["blue"], label="true dipole, median")
    upper.fill_between(
        energy, 1e4 * band["projected_p16"], 1e4 * band["projected_p84"], facecolor="none", hatch="////", linewidth=0,
        edgecolor=COLOURS["grey"], alpha=0.6, label="as IceCube projects it, 68 %",
    )  # fmt: skip
    for turn in (-360.0, 0.0, 360.0):
        lower.fill_between(
            energy,
            band["phase_p16"] + turn,
            band["phase_p84"] + turn,
            color=COLOURS["sky"],
            alpha=0.35,
            linewidth=0,
        )
        lower.plot(energy, band["phase_median"] + turn, color=COLOURS["blue"])
    names = sorted(set(dipoles.observatory))
    for index, name in enumerate(names):
        own = np.array([observatory == name for observatory in dipoles.observatory])
        style = {
            "color": tuple(COLOURS.values())[index % len(COLOURS)], "marker": MARKERS[index], "linestyle": "none",
            "markerfacecolor": "white" if index >= len(COLOURS) else None,
        }  # fmt: skip
        value, error = 1e4 * dipoles.amplitude[own], 1e4 * dipoles.amplitude_error[own]
        upper.errorbar(
            dipoles.energy_tev[own], value, np.stack([np.minimum(error, 0.9 * value), error]), label=name, **style
        )
        phase = (np.degrees(dipoles.phase_rad[own]) + 180.0) % 360.0 - 180.0
        for turn in (-360.0, 0.0, 360.0):
            lower.errorbar(
                dipoles.energy_tev[own], phase + turn, np.degrees(dipoles.phase_error_rad[own]), **style
            )
    upper.set(xscale="log", yscale="log", ylim=(0.4, 50))
    upper.set_ylabel(r"amplitude $A_1$ [$10^{-4}$]")
    lower.set(ylim=(-180, 180), xlabel="median energy [TeV]", ylabel=r"phase $\alpha_1$ (right ascension)")
    lower.set_yticks([-180, -90, 0, 90, 180], labels=["180°", "270°", "0°", "90°", "180°"])


def draw_shifts(axes: Axes, moved: Table) -> None:
    """Draw the shift of each median, one row of marks for each parameter."""
    parameters, left_out = list(dict.fromkeys(moved["parameter"])), list(dict.fromkeys(moved["without"]))
    for index, name in enumerate(left_out):
        rows = moved[moved["without"] == name]
        offset = 0.36 - 0.72 * index / (len(left_out) - 1)
        axes.plot(
            rows["shift"], [offset - parameters.index(key) for key in rows["parameter"]], label=name, linestyle="none",
            color=tuple(COLOURS.values())[index % len(COLOURS)], marker=MARKERS[index],
            markerfacecolor="white" if index >= len(COLOURS) else None, markersize=5,
        )  # fmt: skip
    for place in range(len(parameters) - 1):
        axes.axhline(-place - 0.5, color="0.8", linewidth=0.7)
    axes.axvline(0, color="0.3", linewidth=0.9)
    axes.axvspan(-1, 1, color="0.93", zorder=0)
    axes.grid(False, axis="y")
    axes.set_yticks([-place for place in range(len(parameters))], labels=[LABELS[key] for key in parameters])
    axes.set_ylim(-len(parameters) + 0.5, 0.5)
    reach = max(1.5, 1.08 * float(np.abs(moved["shift"]).max()))
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(r"shift of the median [$\sigma$] when left out:")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)


def make(context: Context) -> FigureEntry:
    dipoles = obsfit.load_dipoles("ahlers-mertsch-2017")
    chosen = selection(dipoles)
    source = DataSource.of(dipoles.provenance)
    long, short = (200.0, 50.0) if context.full else (50.0, 15.0)

    def fit(name: str, target: Posterior, length: float, field: str = MAIN) -> Fit:
        stem = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
        result = stored_fit(
            target, context.directory / f"{stem}.h5", rng=generator(context.seed, f"{KEY}/{name}"),
            settings=SamplerSettings(target=length), seed=context.seed,
            choices={"field": field, "motion": "LSR", "source": "vela"},
        )  # fmt: skip
        return Fit(target, result)

    main = fit("all", posterior(chosen), long)
    without = {
        name: fit(f"without {name}", posterior(selection(dipoles, left)), short)
        for name, left in omissions(chosen).items()
    }
    variants = {MAIN: main}
    for field in FIELDS[1:]:
        variants[field] = fit(f"field {field}", posterior(chosen, field), short, field)
    variants[FACE_VALUE] = fit("face value", posterior(chosen, MAIN, DipoleScatter.none()), short)

    others = [one for name, one in variants.items() if name != MAIN]
    table = summary(variants)
    moved = shifts(main, without)
    turned = offsets(main)
    icecube = chosen.select([chosen.observatory.index("IceCube")])
    band = bands(main, float(dipole_response(icecube)[0]))
    quality = {
        name: described(one, generator(context.seed, f"{KEY}/{name}/prediction")) for name, one in variants.items()
    }
    predicted = predictive_table(main.posterior, main.result, rng=generator(context.seed, f"{KEY}/table"))
    draw(chosen, band, moved, context.directory / "dipoles")
    options = {"seed": context.seed, "energy_tev": list(ENERGY_TEV), "target": long, "target_others": short}
    for product, name, what in (
        (table, "fits", "Posterior of each parameter: three fields, and published errors at face value."),
        (moved, "shifts", "Medians on leaving out experiments."),
        (turned, "offsets", "Scale and rotation of each experiment, averaged over the posterior."),
        (band, "bands", "True dipole and its projection by IceCube against energy, as drawn."),
        (predicted, "predictive", "Components of each dipole beside the posterior prediction."),
        (_quality_table(quality), "quality", "Largest log likelihood and predictive p-value of the four fits."),
    ):
        write_table(product, context.directory / f"{name}.ecsv", data=[source], settings=options, description=what)
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "own result",
        caption="Left: amplitudes as published (not corrected for the field of view) and phases of the dipole "
        "from 1 TeV to 5 PeV. Bands: 68 percent of the true equatorial dipole by the fit of a diffusive dipole "
        "(Vela and a smooth background towards the Galactic centre, field axis from IBEX) plus the motion in "
        "the local standard of rest; hatched: amplitude as IceCube would publish it (Eq. 25 of AM17). The "
        "model is folded with the field of view of each row. Bars: published statistical errors; the fit adds "
        "a scale and a rotation for each experiment and an intrinsic error. Right: shift of each posterior "
        "median when an experiment is left out, in half widths of the 68 percent interval of the fit to all; "
        "grey: one sigma.",
        alt="Left: the amplitude of the model rises to 0.1 percent at 4 TeV, falls to 0.016 percent at 200 TeV "
        "and rises again; the phase turns from 40 degrees through 0 to 240 degrees between 100 and 400 TeV. "
        "Most points lie near the bands, with offsets by experiment far larger than the bars. Right: nearly "
        "all shifts are within one sigma; leaving out IceCube and IceTop together moves the source fraction by "
        "almost four.",
        image="dipoles.png", table="fits.ecsv",
        comparisons=comparisons(chosen, variants, table, moved, turned, quality),
        deviations=notes(main, table, moved, turned, quality),
        data=(source,), seed=context.seed, size_note="" if context.full else size_note((*without.values(), *others)),
    )  # fmt: skip


def _quality_table(quality: dict[str, tuple[float, float]]) -> Table:
    table = Table(
        {
            "fit": list(quality),
            "log_likelihood": [pair[0] for pair in quality.values()],
            "predictive_p": [pair[1] for pair in quality.values()],
        }
    )
    table["log_likelihood"].description = "natural logarithm of the largest likelihood within the priors' range"
    table["predictive_p"].description = "share of repeated observations further off than the data"
    return _formatted(table)
