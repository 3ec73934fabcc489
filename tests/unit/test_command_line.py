"""Exit codes, streams and machine-readable output of the command line."""

import json
import os
import signal
import subprocess
import sys

import pytest
import typer

import obsfit
import obsfit.cli
import obsfit.installation
from obsfit.errors import ConvergenceError, DataFormatError


def leave(*words):
    """Exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as end:
        obsfit.cli.main(list(words))
    return end.value.code


def fails_with(error, monkeypatch):
    """Put a command in place of doctor that raises `error`."""

    def command() -> None:
        raise error

    monkeypatch.setattr("obsfit.cli.doctor.doctor", command)


def test_version_goes_to_standard_output(capsys):
    assert leave("--version") == 0
    assert capsys.readouterr() == (obsfit.__version__ + "\n", "")


@pytest.mark.parametrize(
    "words", [("nonsense",), ("models", "nonsense"), ("doctor", "--nonsense"), ("models", "show")]
)
def test_wrong_usage_is_exit_code_2_with_an_empty_output(words, capsys):
    assert leave(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err


def test_a_missing_model_names_the_nearest(capsys):
    assert leave("models", "show", "relative-difusion") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "did you mean 'relative-diffusion'?" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConvergenceError("100 steps are 3 autocorrelation times", expected="50"), 1),
        (DataFormatError("'14.2h' is no angle", path="my.ecsv", row=7, column="phase"), 3),
        (FileNotFoundError(2, "No such file or directory", "absent.toml"), 1),
        (ValueError("zenith 100 deg: expected less than 90 deg"), 1),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_an_error_is_one_message_on_standard_error_and_its_code(error, code, monkeypatch, capsys):
    fails_with(error, monkeypatch)
    assert leave("doctor") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("obsfit: ")
    assert str(error).splitlines()[0] in err
    assert "Traceback" not in err


def test_debug_alone_shows_a_traceback(monkeypatch, capsys):
    fails_with(ConvergenceError("stopped early"), monkeypatch)
    assert leave("--verbose", "doctor") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert leave("--debug", "doctor") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_command_can_give_a_negative_verdict(monkeypatch):
    fails_with(typer.Exit(4), monkeypatch)
    assert leave("doctor") == 4


def test_an_interrupt_is_130(tmp_path):
    """A real signal to a real process, while its command runs."""
    code = (
        "import signal, time, obsfit.cli, obsfit.cli.doctor\n"
        # A shell that starts the tests in the background makes its children deaf to interrupts.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait() -> None:\n    print('running', flush=True)\n    time.sleep(60)\n"
        "obsfit.cli.doctor.doctor = wait\n"
        "obsfit.cli.main(['doctor'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "running\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert "obsfit: interrupted" in process.stderr.read()


def test_models_list_gives_every_model_in_words_and_in_json(capsys):
    assert leave("models", "list") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == list(obsfit.available_models())
    assert leave("models", "list", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert [row["name"] for row in answer["models"]] == list(obsfit.available_models())
    assert all(row["offers"] and row["summary"] for row in answer["models"])


@pytest.mark.parametrize("name", obsfit.available_models())
def test_models_show_agrees_with_the_model(name, capsys):
    model = obsfit.load_model(name)
    assert leave("models", "show", name, "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["schema"] == 1
    assert [row["name"] for row in card["parameters"]] == [parameter.name for parameter in model.parameters]
    for row, parameter in zip(card["parameters"], model.parameters, strict=True):
        assert row["unit"] == parameter.unit
        assert row["low"] < row["high"]
        assert row["description"], f"{name}: parameter {row['name']} has no description"
    assert {"dipole", "c_ell", "alm", "draws", "field_skies"} >= set(card["offers"])
    for method in card["offers"]:
        assert callable(getattr(model, method))
    assert leave("models", "show", name) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{name}: ")
    assert all(parameter.name in text for parameter in model.parameters)


def test_doctor_finds_this_installation_sound(capsys, tmp_path):
    assert leave("doctor", "--json", "--results", str(tmp_path / "results")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert {"python", "numpy", "numba threads", "shipped data", "results folder"} <= {
        check["name"] for check in answer["checks"]
    }
    assert not (tmp_path / "results").exists()


def test_doctor_finds_a_changed_table(monkeypatch, capsys):
    monkeypatch.setattr(obsfit.installation, "verify_sums", lambda folder: {"table.ecsv": "changed"})
    assert leave("doctor") == 4
    assert "table.ecsv changed" in capsys.readouterr().out


def test_doctor_finds_a_folder_that_cannot_be_written(capsys, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert leave("doctor", "--results", str(file / "results")) == 4
    assert "Choose another with --results." in capsys.readouterr().out


def test_doctor_finds_a_missing_package(monkeypatch, capsys):
    monkeypatch.setattr(
        obsfit.installation, "requires", lambda name: ["absent-package>=1.0", 'x>=1; extra == "dev"']
    )
    assert leave("doctor") == 4
    out = capsys.readouterr().out
    assert "absent-package>=1.0" in out
    assert "extra" not in out
