"""Finding analyses, making each once, and what happens when one of them fails."""

import textwrap

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from obsfit.cli.reproduce import reproduce
from obsfit.errors import ConfigurationError
from obsfit.plot import runner

PROGRAM = """
from obsfit.plot.report import DataSource, FigureEntry, compare

KEY = "{key}"
TITLE = "Title of {key}"
PAPER = "AM17"
FIGURE = "Figure 1"
USER_FILES = {{"points": "OBSFIT_TEST_POINTS"}}


def make(context):
    log = context.directory / "calls.txt"
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    (context.directory / "draw.txt").write_text(repr(float(context.rng.random())))
    {body}
    return FigureEntry(
        KEY, PAPER, FIGURE, TITLE, "reproduced", "caption", "alt", seed=context.seed,
        comparisons=compare(context.expected, "figure1", {{"answer": 42.0}}) if len(context.expected) else (),
        size_note="full" if context.full else "quick",
        data=(DataSource("points", {sha!r}, {path!r}),) if {path!r} else (),
        deviations=tuple(str(path) for path in context.user_files.values()),
    )
"""

EXPECTED = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: figure, datatype: string}
# - {name: quantity, datatype: string}
# - {name: paper_value, datatype: float64}
# - {name: unit, datatype: string}
# - {name: tolerance, datatype: float64}
# - {name: source, datatype: string}
# schema: astropy-2.0
figure quantity paper_value unit tolerance source
figure1 answer 42.0 "" 0.5 "the text"
"""


def write(folder, key, body="pass", name="figure1", sha="", path=""):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(PROGRAM.format(key=key, body=textwrap.indent(body, "    ").strip(), sha=sha, path=path))
    return file


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    write(tmp_path / "analyses" / "paper", "one", name="figure2")
    write(tmp_path / "analyses" / "paper", "two", name="figure10")
    (tmp_path / "analyses" / "paper" / "_helper.py").write_text("HELP = 1\n")
    (tmp_path / "analyses" / "paper" / "expected.ecsv").write_text(EXPECTED)
    return tmp_path


def run(checkout, **settings):
    analyses = runner.discover(checkout / "analyses")
    return runner.run(analyses, checkout / "results", **({"seed": 1, "environment": {}} | settings))


def calls(checkout, key="one"):
    return len((checkout / "results" / key / "calls.txt").read_text())


def test_analyses_are_found_in_reading_order_without_running_them(checkout):
    write(checkout / "analyses" / "paper", "broken", "import nothing_of_this_name", name="figure3")
    found = runner.discover(checkout / "analyses")
    assert [(a.key, a.paper, a.figure, a.title) for a in found] == [
        ("one", "AM17", "Figure 1", "Title of one"),
        ("broken", "AM17", "Figure 1", "Title of broken"),
        ("two", "AM17", "Figure 1", "Title of two"),
    ]
    assert found[0].user_files == {"points": "OBSFIT_TEST_POINTS"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KEY = 'a'\n", "defines no text TITLE"),
        ("KEY = 'A b'\nTITLE = PAPER = ''\nTITLE = 'x'\nPAPER = 'x'\nFIGURE = 'x'\n", "is no plain name"),
        ("KEY = f()\n", "KEY is not a literal"),
        ("KEY = (\n", "is no Python"),
        ("KEY = 'one'\nTITLE = 'x'\nPAPER = 'x'\nFIGURE = 'x'\n", "belongs to .*figure2.py already"),
    ],
)
def test_a_program_that_does_not_describe_itself_is_refused(checkout, text, message):
    (checkout / "analyses" / "paper" / "figure99.py").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        runner.discover(checkout / "analyses")


def test_every_figure_is_made_and_compared(checkout):
    entries = run(checkout)
    assert [entry.key for entry in entries] == ["one", "two"]
    assert all(entry.comparisons[0].agrees for entry in entries)
    assert all(entry.runtime_s > 0 for entry in entries)
    assert "Title of two" in (checkout / "results" / "index.html").read_text()


def test_finished_figures_are_kept(checkout):
    first = run(checkout)
    assert run(checkout) == first
    assert calls(checkout) == 1


def test_force_makes_again(checkout):
    run(checkout)
    run(checkout, force=True, only=["one"])
    assert (calls(checkout, "one"), calls(checkout, "two")) == (2, 1)


def test_a_changed_program_is_run_again_and_others_are_not(checkout):
    run(checkout)
    write(checkout / "analyses" / "paper", "one", "second = 1", name="figure2")
    run(checkout)
    assert (calls(checkout, "one"), calls(checkout, "two")) == (2, 1)


@pytest.mark.parametrize("settings", [{"seed": 2}, {"full": True}])
def test_a_changed_configuration_is_run_again(checkout, settings):
    run(checkout)
    run(checkout, **settings)
    assert calls(checkout) == 2


@pytest.mark.parametrize("name", ["_helper.py", "expected.ecsv"])
def test_a_changed_neighbour_is_run_again(checkout, name):
    run(checkout)
    file = checkout / "analyses" / "paper" / name
    file.write_text(file.read_text().replace("0.5", "0.6").replace("HELP = 1", "HELP = 2"))
    run(checkout)
    assert calls(checkout) == 2


def test_changed_data_are_seen(checkout):
    data = checkout / "points.csv"
    data.write_text("1")
    sha = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # sha256sum of "1"
    write(checkout / "analyses" / "paper", "one", name="figure2", sha=sha, path=str(data))
    run(checkout)
    run(checkout)
    assert calls(checkout) == 1
    data.write_text("2")
    run(checkout)
    assert calls(checkout) == 2


def test_a_lost_image_is_made_again(checkout):
    body = "(context.directory / 'f.png').write_text('')\n(context.directory / 'f.svg').write_text('')"
    file = write(checkout / "analyses" / "paper", "one", body, name="figure2")
    file.write_text(file.read_text().replace("seed=context.seed", "seed=context.seed, image='f.png'"))
    run(checkout)
    (checkout / "results" / "one" / "f.svg").unlink()
    run(checkout)
    assert calls(checkout) == 2


def test_a_file_of_the_user_is_handed_over_and_its_change_is_seen(checkout):
    points = checkout / "mine.csv"
    points.write_text("1")
    variable = {"OBSFIT_TEST_POINTS": str(points)}
    assert run(checkout)[0].deviations == ()
    assert run(checkout, environment=variable)[0].deviations == (str(points.resolve()),)
    run(checkout, environment=variable)
    assert calls(checkout) == 2
    points.write_text("2")
    run(checkout, environment=variable)
    assert calls(checkout) == 3
    assert "points to no file" in run(checkout, environment={"OBSFIT_TEST_POINTS": "/none"})[0].error


def test_a_file_of_the_user_may_lie_in_a_folder_that_a_variable_names(checkout):
    folder = checkout / "sources"
    (folder / "maps").mkdir(parents=True)
    program = checkout / "analyses" / "paper" / "figure2.py"
    program.write_text(program.read_text().replace("OBSFIT_TEST_POINTS", "OBSFIT_TEST_SOURCES/maps/one.fits"))
    variable = {"OBSFIT_TEST_SOURCES": str(folder)}
    # The folder may hold other files only: that is no error.
    assert run(checkout, environment=variable)[0].deviations == ()
    (folder / "maps" / "one.fits").write_text("1")
    assert run(checkout, environment=variable)[0].deviations == (str((folder / "maps" / "one.fits").resolve()),)
    assert calls(checkout) == 2
    run(checkout, environment=variable)
    assert calls(checkout) == 2


def test_a_failing_figure_is_recorded_and_the_others_are_made(checkout):
    write(checkout / "analyses" / "paper", "one", "raise ValueError('bad <b>number</b>')", name="figure2")
    entries = run(checkout)
    assert [entry.status for entry in entries] == ["failed", "reproduced"]
    assert entries[0].error.startswith("ValueError: bad <b>number</b>\nin figure2.py, line ")
    text = (checkout / "results" / "index.html").read_text()
    assert "bad &lt;b&gt;number&lt;/b&gt;" in text
    # It is tried again each time, and shown when only another one is run.
    run(checkout, only=["two"])
    assert "could not be made" in (checkout / "results" / "index.html").read_text()
    run(checkout)
    assert calls(checkout) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "make returned int"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("return FigureEntry('x', '', '', '', 'sketch', '', '')", "make returned the key 'x'"),
        ("return FigureEntry(KEY, '', '', '', 'sketch', '', 'a', 'f.png')", "names f.png, which it did not write"),
        ("return FigureEntry(KEY, '', '', '', 'fine', '', '')", "status 'fine', expected one of"),
    ],
)
def test_a_program_that_breaks_its_promise_fails_by_name(checkout, body, message):
    write(checkout / "analyses" / "paper", "one", body, name="figure2")
    assert message in run(checkout, only=["one"])[0].error


def test_an_interruption_keeps_what_is_finished(checkout):
    write(checkout / "analyses" / "paper", "two", "raise KeyboardInterrupt", name="figure10")
    with pytest.raises(KeyboardInterrupt):
        run(checkout)
    text = (checkout / "results" / "index.html").read_text()
    assert "Title of one" in text
    assert "Not made yet: two." in text
    write(checkout / "analyses" / "paper", "two", name="figure10")
    run(checkout)
    assert calls(checkout, "one") == 1


def test_a_damaged_entry_is_made_again(checkout):
    run(checkout)
    (checkout / "results" / "one" / "entry.json").write_text("{")
    run(checkout)
    assert calls(checkout) == 2


def test_random_streams_depend_on_the_key_and_not_on_the_order(checkout):
    run(checkout)
    draws = {key: (checkout / "results" / key / "draw.txt").read_text() for key in ("one", "two")}
    assert draws["one"] != draws["two"]
    run(checkout, only=["two"], force=True)
    assert (checkout / "results" / "two" / "draw.txt").read_text() == draws["two"]
    assert runner.generator(1, "one").random() != runner.generator(2, "one").random()


def test_streams_of_many_keys_are_unrelated():
    """Mean of products of 400 pairs of unit normals: |mean| > 0.25 has a probability below 1e-6 for any one pair."""
    draws = np.array([runner.generator(1, f"key-{i}").normal(size=400) for i in range(20)])
    correlation = draws @ draws.T / 400
    assert np.abs(correlation[~np.eye(20, dtype=bool)]).max() < 0.25


def test_an_unknown_key_names_the_nearest(checkout):
    with pytest.raises(ConfigurationError, match=r"no figure 'on'; did you mean 'one'\?"):
        run(checkout, only=["on"])


def test_progress_is_told_with_the_time_of_last_time(checkout):
    told = []
    run(checkout, progress=lambda *words: told.append(words))
    run(checkout, force=True, only=["two"], progress=lambda *words: told.append(words))
    assert [(place, total, analysis.key) for place, total, analysis, _ in told] == [
        (1, 2, "one"), (2, 2, "two"), (1, 1, "two")
    ]  # fmt: skip
    assert told[0][3] is None
    assert told[2][3] > 0


def test_without_a_checkout_the_error_says_so(tmp_path):
    with pytest.raises(ConfigurationError, match="Expected a checkout of obsfit"):
        runner.find_analyses(tmp_path)


def test_a_checkout_is_found(checkout):
    assert runner.find_analyses(checkout) == checkout / "analyses"
    assert runner.find_analyses().name == "analyses"


@pytest.fixture
def command(checkout, monkeypatch):
    app = typer.Typer()
    app.command()(reproduce)
    monkeypatch.setattr(runner, "find_analyses", lambda: checkout / "analyses")
    monkeypatch.delenv("OBSFIT_TEST_POINTS", raising=False)

    def call(*words):
        return CliRunner().invoke(app, [*words, "--results", str(checkout / "results")])

    return call


def test_the_command_prints_the_page_and_nothing_else(command, checkout):
    answer = command()
    assert answer.exit_code == 0
    assert answer.stdout == f"{checkout / 'results' / 'index.html'}\n"
    assert answer.stderr == ""


def test_the_command_lists(command, checkout):
    answer = command("--list")
    assert answer.exit_code == 0
    assert answer.stdout.splitlines()[0].split() == ["one", "AM17,", "Figure", "1:", "Title", "of", "one"]
    assert not (checkout / "results").exists()


def test_the_command_runs_one_figure_and_all_statistics(command, checkout):
    assert command("--only", "two", "--full").exit_code == 0
    assert not (checkout / "results" / "one").exists()
    assert "full" in (checkout / "results" / "two" / "entry.json").read_text()


def test_the_command_ends_with_one_when_a_figure_fails(command, checkout):
    write(checkout / "analyses" / "paper", "one", "raise ValueError('no')", name="figure2")
    answer = command()
    assert answer.exit_code == 1
    assert "one failed: ValueError: no" in answer.stderr
    assert "Title of two" in (checkout / "results" / "index.html").read_text()


def test_a_file_in_the_way_is_refused(command, checkout):
    (checkout / "results").write_text("")
    answer = command()
    assert isinstance(answer.exception, ConfigurationError)
