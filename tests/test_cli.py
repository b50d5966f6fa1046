"""The command line: summary on stdout, one line on stderr and exit code 2 for what is wrong."""

import gzip
import json
import os
import subprocess
import sys

import pytest
from reference_data import data

import lmmfast
from lmmfast import cli, datasets, lmer

SLOPES = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture
def run(capsys):
    """Run the command line: exit code, stdout, stderr."""

    def call(*arguments):
        try:
            code = cli.main(arguments)
        except SystemExit as stop:  # argparse
            code = stop.code
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


@pytest.fixture
def trials(tmp_path):
    path = tmp_path / "trials.csv"
    datasets.load("sleepstudy").to_csv(path, index=False)
    return path


# ---- fits ---------------------------------------------------------------------------------------


@pytest.fixture
def herds(tmp_path):
    path = tmp_path / "herds.csv"
    data("cbpp").to_csv(path, index=False)
    return str(path)


HERDS = "cbind(incidence, size - incidence) ~ factor(period) + (1 | herd)"


def test_a_generalized_model(run, herds, tmp_path):
    code, out, err = run("fit", HERDS, herds, "--family", "binomial", "--json", str(tmp_path / "f"))
    assert (code, err) == (0, "")
    assert "Family: binomial (logit)" in out
    assert "184.0526" in out
    assert "z value" in out
    written = json.loads((tmp_path / "f").read_text())
    wanted = lmmfast.glmer(HERDS, data("cbpp"))
    assert written["ddf"] == "z"
    assert written["sigma"] is None
    assert (written["family"], written["link"], written["nagq"]) == ("binomial", "logit", 1)
    assert written["objective"] == pytest.approx(184.05256, abs=1e-4)
    assert wanted.objective == pytest.approx(written["objective"], abs=1e-7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stream"], "2 passes over"),
        (["--reml"], "restricted"),
        (["--ml"], "maximum likelihood"),
        (["--accuracy", "second-order"], "second order"),
    ],
)
def test_ways_to_fit_a_generalized_model(run, herds, options, words):
    code, out, err = run("fit", HERDS, herds, "--family", "binomial", *options)
    assert (code, err) == (0, "")
    assert words in out


def test_plan_of_a_generalized_model(run, herds):
    code, out, err = run("plan", HERDS, herds, "--family", "binomial")
    assert (code, err) == (0, "")
    assert "rows: " in out
    assert run("plan", "size ~ 1 + (1 | herd)", herds, "--link", "log")[0] == 2


def test_link_quadrature_and_anova_of_a_generalized_model(run, herds):
    more = ("--family", "binomial", "--link", "probit", "--nagq", "9", "--anova")
    code, out, err = run("fit", HERDS, herds, *more)
    assert (code, err) == (0, "")
    assert "binomial (probit)" in out
    assert "quadrature, 9 nodes" in out
    assert "Chisq" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--link", "logit"], "--link is for generalized models"),
        (["--nagq", "5"], "--nagq is for generalized models"),
        (["--family", "binomial", "--ddf", "satterthwaite"], "tests are z"),
        (["--family", "binomial", "--starts", "3"], "--starts is for linear models"),
        (["--family", "binomal"], "there is no family 'binomal'"),
        (["--family", "poisson", "--link", "logit"], "no link 'logit'"),
        (["--accuracy", "second-order"], "--accuracy is for generalized models"),
        (["--family", "binomial", "--ml", "--reml"], "not allowed with"),
        (["--family", "binomial", "--nagq", "5", "--reml"], "reml"),
    ],
)
def test_mistakes_with_families(run, herds, options, words):
    code, out, err = run("fit", HERDS, herds, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_bundled_data(run):
    code, out, err = run("fit", SLOPES, "--data", "sleepstudy")
    assert (code, err) == (0, "")
    assert out.startswith("Linear mixed model fit by REML\n")
    assert "REML criterion: 1743.6283" in out


def test_file_by_maximum_likelihood(run, trials):
    code, out, _ = run("fit", SLOPES, str(trials), "--ml")
    assert code == 0
    assert "1751.9393" in out


def test_kinds_of_files(run, tmp_path):
    data = datasets.load("Dyestuff")
    data.to_csv(tmp_path / "d.tsv", sep="\t", index=False)
    data.to_csv(tmp_path / "d.csv.gz", index=False)
    data.to_parquet(tmp_path / "d.parquet")
    for name in ("d.tsv", "d.csv.gz", "d.parquet"):
        code, out, _ = run("fit", "Yield ~ 1 + (1 | Batch)", str(tmp_path / name))
        assert code == 0
        assert "REML criterion: 319.6543" in out


def test_files_are_read_in_chunks(run, tmp_path, monkeypatch):
    data = datasets.load("sleepstudy")
    data.to_csv(tmp_path / "d.csv.gz", index=False)
    (tmp_path / "parts").mkdir()
    data[:100].to_parquet(tmp_path / "parts" / "a.parquet")
    data[100:].to_parquet(tmp_path / "parts" / "b.parquet")
    monkeypatch.setattr(cli, "CHUNK", 50)
    for name in ("d.csv.gz", "parts", "parts/a.parquet"):
        code, out, err = run("fit", SLOPES, str(tmp_path / name), "--stream", "--anova")
        assert (code, err) == (0, "")
        assert ("1743.6283" in out) == (name != "parts/a.parquet")
        assert "Scaled residuals" not in out
    assert run("fit", SLOPES, str(tmp_path / "parts"))[0] == 0  # a directory can only be streamed
    for wrong in ("nothing.csv", "nothing.parquet"):
        code, _, err = run("fit", SLOPES, str(tmp_path / wrong), "--stream")
        assert (code, "no such file" in err) == (2, True)
    code, _, err = run("fit", SLOPES, "--data", "sleepstudy", "--stream")
    assert (code, "for files" in err) == (2, True)


def test_missing_values_of_text_files(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text('word,rt\nnull,1.5\nNone,NA\nnan,\n"",2\nNA,NaN\n')
    table = cli.read_table(str(path))
    assert table["word"].isna().to_list() == [False, False, False, True, True]
    assert table["rt"].isna().to_list() == [False, True, True, False, True]
    assert table["rt"].dtype == "float64"


def test_weights_offset_and_contrasts(run, tmp_path):
    data = datasets.load("Machines").astype({"Worker": str})
    data["w"] = 1.0 + (data["Machine"] == "A")
    data["shift"] = 10.0
    path = tmp_path / "machines.csv"
    data.to_csv(path, index=False)
    arguments = ["--weights", "w", "--offset", "shift", "--contrasts", "Machine=sum"]
    out_file = tmp_path / "out.json"
    formula = "score ~ Machine + (1 | Worker)"
    code, out, _ = run("fit", formula, str(path), *arguments, "--json", str(out_file))
    assert code == 0
    assert "with prior weights and an offset" in out
    fit = lmer(formula, data, weights="w", offset="shift", contrasts={"Machine": "sum"})
    found = json.loads(out_file.read_text())
    assert found["params"] == pytest.approx(fit.params.to_dict(), rel=1e-9)


def test_json_holds_everything(run, tmp_path):
    path = tmp_path / "out.json"
    code, _, _ = run("fit", SLOPES, "--data", "sleepstudy", "--json", str(path))
    found = json.loads(path.read_text())
    assert code == 0
    assert os.listdir(tmp_path) == ["out.json"]
    assert found["lmmfast"] == lmmfast.__version__
    assert found["formula"] == SLOPES
    assert (found["reml"], found["n"], found["n_levels"]) == (True, 180, {"Subject": 18})
    assert found["objective"] == pytest.approx(1743.6282719584906, abs=1e-6)
    assert found["aic"] == pytest.approx(1755.6282719584906, abs=1e-6)
    assert found["params"]["Days"] == pytest.approx(10.467285959596534)
    assert found["bse"]["Days"] == pytest.approx(1.5457888963329485, rel=1e-5)
    assert found["varcorr"][-1]["group"] == "Residual"
    assert found["varcorr"][0]["var2"] is None
    assert len(found["theta"]) == 3
    assert found["certificate"] <= 1e-6
    assert found["converged"] is True
    assert found["ranef"]["Subject"]["index"][0] == "308"


def test_json_of_missing_and_infinite_values(tmp_path):
    path = tmp_path / "out.json"
    cli.write_json({"a": [float("nan"), float("inf"), 1], "b": None}, str(path))
    assert json.loads(path.read_text()) == {"a": [None, None, 1], "b": None}


def test_json_replaces_files_but_not_devices(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("old")
    cli.write_json([1], str(path))
    assert json.loads(path.read_text()) == [1]
    link = tmp_path / "null.json"
    link.symlink_to(os.devnull)
    cli.write_json([1], str(link))
    assert not os.path.isfile(os.devnull)


def test_warnings_are_single_lines_on_stderr(run):
    formula = "angle ~ temp + temperature + (1 | recipe:replicate)"
    code, out, err = run("fit", formula, "--data", "cake")
    assert code == 0
    assert "NA" in out
    assert err.startswith("lmmfast: warning: ")
    assert err.count("\n") == 1


# ---- other commands -----------------------------------------------------------------------------


def test_version(run):
    assert run("--version")[:2] == (0, f"lmmfast {lmmfast.__version__}\n")


def test_list_of_datasets(run):
    code, out, _ = run("datasets")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == datasets.names()


def test_module_and_closed_pipe():
    command = f"{sys.executable} -m lmmfast datasets | head -n 1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("cake")
    assert found.stderr == ""


# ---- what goes wrong ----------------------------------------------------------------------------


def failed(found):
    """The message of a run that ended with exit code 2 and one line."""
    code, out, err = found
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_no_such_file(run):
    assert "no such file: 'nowhere.csv'" in failed(run("fit", SLOPES, "nowhere.csv"))


def test_no_such_data_set(run):
    assert "there are cake, " in failed(run("fit", SLOPES, "--data", "sleep"))


def test_no_data_or_two(run, trials):
    assert "give one of DATA" in failed(run("fit", SLOPES))
    both = run("fit", SLOPES, str(trials), "--data", "sleepstudy")
    assert "give one of DATA" in failed(both)


def test_unknown_kind_of_file(run, tmp_path):
    path = tmp_path / "data.xls"
    path.write_text("?")
    assert "cannot tell what" in failed(run("fit", SLOPES, str(path)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("broken.parquet", b"not parquet"),
        ("broken.csv.gz", b"not gzip"),
        ("cut.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:40]),
        ("damaged.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:20] + b"damage" * 9),
        ("latin.csv", b"a,b\n\xff\xfe,1\n"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n"),
    ],
)
def test_unreadable_files(run, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "cannot read" in failed(run("fit", SLOPES, str(path)))


def test_a_folder_is_no_file(run, tmp_path):
    folder = tmp_path / "data.csv"
    folder.mkdir()
    assert "no Parquet files" in failed(run("fit", SLOPES, str(folder)))


def test_bad_formula_and_unknown_column(run):
    assert failed(run("fit", "Reaction ~ Days + (Days | Subject", "--data", "sleepstudy"))
    assert "Dys" in failed(run("fit", "Reaction ~ Dys + (1 | Subject)", "--data", "sleepstudy"))


def test_bad_contrasts(run, trials):
    found = run("fit", SLOPES, "--contrasts", "cond=sum", str(trials))
    assert "give DATA before --contrasts" in failed(found)


def test_json_that_cannot_be_written(run, tmp_path):
    path = tmp_path / "nowhere" / "out.json"
    code, out, err = run("fit", SLOPES, "--data", "sleepstudy", "--json", str(path))
    assert code == 2
    assert out == ""  # found out before the work
    assert err.startswith("lmmfast: error: cannot write")
    assert err.count("\n") == 1


def test_interrupt(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lmmfast.api.lmer", interrupted)
    assert run("fit", SLOPES, "--data", "sleepstudy") == (130, "", "lmmfast: interrupted\n")


def test_numbers_with_gaps_are_numbers(tmp_path):
    """ "nan" among numbers is a missing value, among words it is a word."""
    path = tmp_path / "gaps.csv"
    path.write_text("x,word\n1.5,nan\nnan,noun\nNone,verb\n2,noun\n")
    frame = cli.read_table(str(path))
    assert frame["x"].isna().tolist() == [False, True, True, False]
    assert frame["x"].dtype == "float64"
    assert frame["word"].tolist() == ["nan", "noun", "verb", "noun"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_full_disk():
    command = [sys.executable, "-m", "lmmfast", "fit", SLOPES, "--data", "sleepstudy"]
    with open("/dev/full", "w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("lmmfast: error: cannot write")


def test_degrees_of_freedom(tmp_path, capsys):
    """--ddf and --anova change the tests, on paper and in the file."""
    path = tmp_path / "fit.json"
    words = ["fit", "Reaction ~ Days + (Days | Subject)", "--data", "sleepstudy"]
    assert cli.main([*words, "--ddf", "kenward-roger", "--anova", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Kenward-Roger degrees of freedom" in out and "Type III" in out
    record = json.loads(path.read_text("utf-8"))
    assert record["ddf"] == "kenward-roger"
    assert record["df"]["Days"] == pytest.approx(17, rel=1e-6)
    assert record["tvalues"]["Days"] == pytest.approx(6.7714847, rel=1e-6)
    assert cli.main([*words, "--ddf", "z", "--json", str(path)]) == 0
    assert json.loads(path.read_text("utf-8"))["df"]["Days"] is None


# ---- storage ------------------------------------------------------------------------------------


def test_plan_prints_what_a_fit_would_take(run, trials):
    code, out, err = run("plan", SLOPES, str(trials))
    assert (code, err) == (0, "")
    assert "Subject" in out and "block diagonal" in out and "kB" in out


def test_storage_and_threads(run):
    formula = "RTtrunc ~ S + (1 | subj) + (1 | item)"
    code, out, _ = run("fit", formula, "--data", "kb07", "--storage", "dense", "--threads", "2")
    assert code == 0 and "Optimum certified" in out
    code, out, _ = run("fit", formula, "--data", "kb07", "--storage", "iterative")
    assert code == 0 and "stochastic gradient" in out
    code, _, err = run("fit", formula, "--data", "kb07", "--threads", "0")
    assert code == 2 and "--threads must be at least 1" in err


def test_too_large_a_model_prints_the_table(run, monkeypatch):
    from lmmfast.engine import compiled as engine

    monkeypatch.setattr(engine, "SMALL", 0)  # small models are not checked
    monkeypatch.setattr(engine, "memory_limit", lambda: 1e4)
    formula = "RTtrunc ~ S + (1 | subj) + (1 | item)"
    code, out, err = run("fit", formula, "--data", "kb07", "--storage", "dense")
    assert (code, out) == (2, "")
    assert "it does not fit" in err and "trailing matrix: order 32" in err


def test_mistakes_in_formulas_name_the_place(run):
    short = failed(run("fit", "Reaction ~ Days + (1 | Subject", "--data", "sleepstudy"))
    assert short.endswith("a ')' is missing (at its end)\n")
    wrong = failed(run("fit", "Reaction ~ Days $ 2 + (1 | Subject)", "--data", "sleepstudy"))
    assert wrong.endswith("name the column alone (at '$')\n")
