"""obsfit data: results on standard output only, exit codes, JSON."""

import json

import pytest

from obsfit.cli import main


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(["data", *words])
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err


def test_list(capsys):
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    assert "ahlers-mertsch-2017" in out
    assert "obsfit data fetch icecube-2025-release" in out
    listed = json.loads(run(capsys, "list", "--json")[1])
    assert listed["schema"] == 1
    (entry,) = [table for table in listed["data"] if table["name"] == "icecube-2025"]
    assert {"record": "spectrum", "rows": 63}.items() <= entry.items()


def test_show_has_units_story_and_overlaps(capsys):
    code, out, _ = run(capsys, "show", "ahlers-mertsch-2017")
    assert code == 0
    for text in (
        "[1e-4]",
        "icecube-2016-13TeV",
        "Eq. (25)",
        "overlaps with: li-2024",
        "errata: Tibet",
        "sha256: ",
    ):
        assert text in out
    shown = json.loads(run(capsys, "show", "ahlers-mertsch-2017", "--json")[1])
    assert shown["schema"] == 1
    energy = next(column for column in shown["columns"] if column["name"] == "energy")
    assert (energy["unit"], energy["values"][0]) == ("TeV", "2700")


def test_show_of_an_unknown_name_is_wrong_usage(capsys):
    code, out, err = run(capsys, "show", "li-2025")
    assert (code, out) == (2, "")
    assert "did you mean 'li-2024'" in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("observatory,method,energy [PeV],amplitude,amplitude_error,phase [hourangle],phase_error [deg]\n"
         "HAWC,deprojected,0.01,1.2e-3,1e-5,2.4,1\n", "1 dipoles"),
        ("# kind: pseudo\n# filtered: yes\n# energy: 10 TeV\n# dec_min: -20 deg\n"
         "# dec_max: 64 deg\nell,c_ell\n1,1e-8\n",
         "1 spectrum, kind pseudo"),
        ("right_ascension [deg],relative_intensity\n10,1e-4\n", "projection in 1 bins"),
    ],
)  # fmt: skip
def test_check_says_how_a_file_is_understood(capsys, tmp_path, text, expected):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    code, out, err = run(capsys, "check", str(path))
    assert (code, err) == (0, "")
    assert expected in out
    assert json.loads(run(capsys, "check", str(path), "--json")[1])["schema"] == 1


def test_check_tells_the_band_and_whether_there_is_noise(capsys, tmp_path):
    """Both are silent in a file, and a fit hangs on them."""
    path = tmp_path / "mine.csv"
    head = "# kind: pseudo\n# filtered: yes\n# energy: 10 TeV\n# dec_min: -26 deg\n# dec_max: 64 deg\n"
    path.write_text(head + "ell,c_ell,noise\n1,1e-8,1e-9\n")
    out = run(capsys, "check", str(path))[1]
    assert "declinations: -26 to 64 deg\n" in out
    assert "noise: given\n" in out
    path.write_text(head + "ell,c_ell,noise\n1,1e-8,1e-9\n2,1e-8,\n")
    assert "noise: not given\n" in run(capsys, "check", str(path))[1]
    dipole = "HAWC,deprojected,10,1e-3,1e-5,20,1"
    head = "observatory,method,energy [TeV],amplitude,amplitude_error,phase [deg],phase_error [deg]"
    path.write_text(f"{head},latitude [deg],zenith_max [deg]\n{dipole},19,45\n{dipole},,\n")
    assert "declinations: -26 to 64 deg, not given\n" in run(capsys, "check", str(path))[1]


def test_a_column_under_another_name_and_an_angle_without_unit_are_told_as_they_were_meant(capsys, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("# kind: pseudo\n# filtered: yes\n# dec_min: -26 deg\n# dec_max: 64\nell,c_l\n1,1e-8\n")
    err = run(capsys, "check", str(path))[2]
    assert "column 'c_ell' is missing; did you mean 'c_l'?" in err
    assert "write for example '64 deg'" in err


def test_check_of_a_bad_file_lists_its_faults_and_leaves_with_three(capsys, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("observatory,method,energy,amplitude,amplitude_error,phase [deg]\nHAWC,best,10,-1,0.1,x\n")
    code, out, err = run(capsys, "check", str(path))
    assert (code, out) == (3, "")
    for text in (
        "column energy: no unit",
        "row 1, column method",
        "row 1, column amplitude",
        "row 1, column phase",
    ):
        assert text in err
    assert run(capsys, "check", str(tmp_path / "absent.csv"))[0] == 3


def test_fetch_of_an_unknown_release(capsys):
    code, out, err = run(capsys, "fetch", "nothing")
    assert (code, out) == (2, "")
    assert "icecube-2025-release" in err
