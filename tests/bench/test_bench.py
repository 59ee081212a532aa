"""The frame around the benchmarks with toy ones, and the real ones on volumes of a few voxels."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import demo, descriptors, machine, metrics, perturbations, registry, rows, scaling
from bench.__main__ import main
from bench.commands import bytes_below, run_command
from bench.demo import find_demo
from bench.registry import BENCHMARKS, Benchmark
from bench.results import Agreement, Row, Settings, UnavailableError
from bench.timing import Times, interleaved
from bench.untrained import CASE, write_study
from bench.volumes import STRUCTURES

TINY = (24, 24, 30)
KEYS = {"name", "theirs", "ours_s", "theirs_s", "ratio", "target", "met", "agreement"}


@pytest.fixture
def toy(monkeypatch):
    """Makes benchmarks whose module gives these rows, or fails so."""

    def make(name: str, *found: Row | BaseException, targets: dict[str, float | None] | None = None) -> Benchmark:
        def measure(_settings: Settings) -> list[Row]:
            for one in found:
                if isinstance(one, BaseException):
                    raise one
            return list(found)

        monkeypatch.setitem(sys.modules, f"bench.{name}", SimpleNamespace(measure=measure))
        return Benchmark(name, "a toy", targets or {one.name: None for one in found})

    return make


def row(name: str, ratio: float = 4.0, *, agrees: bool = True) -> Row:
    return Row(name, "them", 1.0, ratio, ratio, agreement=Agreement("0 mm", agrees), extra={"note": "a note"})


def run(tmp_path: Path, benchmarks: list[Benchmark], *arguments: str) -> tuple[int, dict[str, dict]]:
    file = tmp_path / "results.json"
    status = main(arguments, benchmarks, file)
    found = json.loads(file.read_text()) if file.exists() else []
    return status, {one["name"]: one for one in found}


class TestResults:
    def test_every_row_has_the_agreed_keys(self, toy, tmp_path):
        toys = [toy("a", row("one"), row("two", 3.9), targets={"one": 4, "two": 4}), toy("b", row("three"))]
        status, found = run(tmp_path, toys)
        assert status == 0
        assert list(found) == ["one", "two", "three"]
        assert all(one.keys() >= KEYS for one in found.values())
        assert [one["met"] for one in found.values()] == [True, False, None]
        assert [one["target"] for one in found.values()] == [4, 4, None]
        assert found["one"]["agreement"] == "0 mm"
        assert found["one"]["note"] == "a note"
        assert found["one"]["machine"] == machine.describe_machine()

    def test_a_missed_target_is_no_failure_but_other_results_are(self, toy, tmp_path, capsys):
        assert run(tmp_path, [toy("a", row("one", 0.1), targets={"one": 4})])[0] == 0
        assert "missed" in capsys.readouterr().out
        status, found = run(tmp_path, [toy("a", row("one", agrees=False))])
        assert status == 1
        assert found["one"]["agrees"] is False
        assert "violated" in capsys.readouterr().out

    def test_only_keeps_the_rows_of_others(self, toy, tmp_path):
        run(tmp_path, [toy("a", row("one")), toy("b", row("two"), row("three"))])
        toys = [toy("a", row("one", 9)), toy("b", row("two", 8), row("three", 7))]
        status, found = run(tmp_path, toys, "--only", "two", "--quick")
        assert status == 0
        assert {name: (one["ratio"], one["quick"]) for name, one in found.items()} == {
            "one": (4, False),
            "two": (8, True),
            "three": (7, True),
        }

    def test_rows_of_another_machine_and_of_no_benchmark_are_dropped(self, toy, tmp_path, capsys, monkeypatch):
        here = machine.describe_machine()
        monkeypatch.setattr(machine, "describe_machine", lambda: here | {"cpu": "another"})
        run(tmp_path, [toy("a", row("one")), toy("b", row("two")), toy("c", row("gone"))])
        monkeypatch.setattr(machine, "describe_machine", lambda: here | {"versions": {"torch": "0"}})
        capsys.readouterr()
        _, found = run(tmp_path, [toy("a", row("one")), toy("b", row("two"))], "--only", "a")
        assert list(found) == ["one"]
        assert "another machine: two" in capsys.readouterr().out
        monkeypatch.setattr(machine, "describe_machine", lambda: here)
        assert list(run(tmp_path, [toy("a", row("one")), toy("b", row("two"))], "--only", "b")[1]) == ["one", "two"]

    def test_what_cannot_run_is_skipped_with_the_reason(self, toy, tmp_path, capsys):
        toys = [toy("a", UnavailableError("no [/model] here"), targets={"one": 4}), toy("b", row("two"))]
        status, found = run(tmp_path, toys)
        assert status == 0
        assert found["one"].keys() >= KEYS
        assert (found["one"]["skipped"], found["one"]["ratio"], found["one"]["met"]) == ("no [/model] here", None, None)
        assert "skipped: no [/model] here" in capsys.readouterr().out

    def test_a_module_that_is_not_there_is_skipped(self):
        [skipped] = Benchmark("no_such_module", "nothing", {"one": None}).run(Settings())
        assert skipped.skipped == "there is no bench/no_such_module.py"

    def test_ctrl_c_keeps_what_was_measured(self, toy, tmp_path):
        toys = [toy("a", row("one")), toy("b", KeyboardInterrupt(), targets={"two": None})]
        status, found = run(tmp_path, toys)
        assert (status, list(found)) == (130, ["one"])

    def test_unknown_names_are_refused_before_anything_runs(self, toy, tmp_path, capsys):
        toys = [toy("first", row("one")), toy("second", row("two"))]
        status, found = run(tmp_path, toys, "--only", "first", "frist")
        assert (status, found) == (2, {})
        message = capsys.readouterr().err
        assert "'frist', did you mean 'first'?; known: first, one, second, two" in message

    @pytest.mark.parametrize("content", ["{", "{}", '[{"name": "one"}]'])
    def test_a_broken_file_of_results_is_named(self, toy, tmp_path, capsys, content):
        (tmp_path / "results.json").write_text(content)
        assert main([], [toy("a", row("one"))], tmp_path / "results.json") == 2
        assert "results.json" in capsys.readouterr().err
        assert (tmp_path / "results.json").read_text() == content


class TestTiming:
    def test_both_sides_take_turns(self):
        calls: list[str] = []
        times, ours, theirs = interleaved(lambda: calls.append("o") or 1, lambda: calls.append("t") or 2, 3)
        assert "".join(calls) == "tototo"
        assert (ours, theirs) == (1, 2)
        assert len(times.ours) == len(times.theirs) == 3

    def test_ratio_of_medians_and_sums_by_repeat(self):
        one, other = Times([1, 2, 30], [4, 60, 6]), Times([1, 0, 1], [2, 2, 2])
        assert one.ratio == 6 / 2
        assert one + other == Times([2, 2, 31], [6, 62, 8])
        made = one.row("a", "b", None, cases=3)
        assert (made.ours_s, made.theirs_s, made.ratio) == (2, 6, 3)
        assert made.extra["spread"] == {"ours": 30, "theirs": 15}
        assert made.extra["cases"] == 3

    def test_nan_agrees_with_nothing(self):
        assert not Agreement.within(float("nan"), 1, "mm").holds
        assert Agreement.within(1, 1, "mm").holds


class TestCommands:
    def test_the_end_of_a_failed_commands_output_is_reported(self):
        command = [sys.executable, "-c", "print('lots'); raise SystemExit('no such model')"]
        with pytest.raises(UnavailableError, match="status 1: lots / no such model"):
            run_command(command, {}, lambda: None)

    def test_what_a_command_started_does_not_outlive_it(self, tmp_path):
        child = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
        code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
        run_command([sys.executable, "-c", code], {}, lambda: None)
        time.sleep(2)
        assert not (tmp_path / "late").exists()

    def test_links_take_no_space(self, tmp_path):
        (tmp_path / "a").write_bytes(b"12345")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "b").write_bytes(b"123")
        (tmp_path / "link").symlink_to(tmp_path / "a")
        assert bytes_below(tmp_path) == 8

    def test_a_missing_demo_is_named(self, tmp_path):
        with pytest.raises(UnavailableError, match=r"fold_0/checkpoint_final.pth; make the demo with: tox run -e demo"):
            find_demo(tmp_path / "demo")


class TestRealOnes:
    """Each on a few voxels: its results must agree; how long it takes says nothing there."""

    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch):
        for module in (perturbations, metrics, descriptors):
            monkeypatch.setattr(module, "QUICK", TINY)
        monkeypatch.setattr(rows, "_CASES", {True: 25})

    @pytest.mark.parametrize("name", ["perturbations", "metrics", "descriptors", "rows"])
    def test_agrees_with_what_it_is_compared_with(self, name):
        [benchmark] = registry.selected([name])
        found = benchmark.run(Settings(quick=True))
        assert {one.name for one in found} == set(benchmark.targets)
        for one in found:
            assert one.agreement is not None
            assert one.agreement.holds, one
            assert one.ratio == pytest.approx(one.theirs_s / one.ours_s)

    def test_a_wrong_result_does_not_agree(self, monkeypatch):
        stock = perturbations._stock
        monkeypatch.setattr(perturbations, "_stock", lambda *arguments: stock(*arguments) + 1)
        with_monai = metrics.with_monai

        def off(*arguments):
            return {s: f | {"hd95_mm": f["hd95_mm"] + 0.01} for s, f in with_monai(*arguments).items()}

        monkeypatch.setattr(metrics, "with_monai", off)
        formulas = descriptors.by_the_formulas
        monkeypatch.setattr(
            descriptors, "by_the_formulas", lambda *a: {k: v * (1 + 1e-6) for k, v in formulas(*a).items()}
        )
        for name in ("perturbations", "metrics", "descriptors"):
            assert not registry.selected([name])[0].run(Settings(quick=True))[0].agreement.holds, name

    def test_loads_of_all_dimensions_can_be_measured(self, tmp_path):
        load = scaling._Load(edge=16, cases=2, severities=2, folds=2)
        assert scaling._seconds(load, tmp_path) > 0
        written = sum(len(file.read_text().splitlines()) for file in (tmp_path / "run" / "rows").glob("*.jsonl"))
        assert written == len(STRUCTURES) * load.volumes + load.cases  # and a header for each case


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sliding_window", "today"])
def test_benchmarks_of_the_demo_on_an_untrained_model(name, tmp_path, monkeypatch):
    """Through nnU-Net's own command; random weights are undecided, so nothing is asked of the agreement."""
    study = write_study(tmp_path / "study", TINY, (16, 16, 16), (4, 8, 8), folds=5)
    raw, results = (tmp_path / "demo" / folder / demo.DATASET for folder in ("nnUNet_raw", "nnUNet_results"))
    shutil.copytree(study.model, results / f"{demo.TRAINER}__{demo.PLANS}__{demo.CONFIGURATION}")
    shutil.copytree(study.images, raw / "imagesTs")
    shutil.copytree(study.labels, raw / "labelsTs")
    module = importlib.import_module(f"bench.{name}")
    monkeypatch.setattr(module, "find_demo", lambda: find_demo(tmp_path / "demo"))
    [benchmark] = registry.selected([name])
    found = {one.name: one for one in benchmark.run(Settings(quick=True))}
    assert found.keys() == benchmark.targets.keys()
    assert all(not one.skipped and one.ratio > 0 and one.agreement for one in found.values())
    if name == "today":
        assert found["today_wall"].extra["volumes"] == 7
        assert found["today_disk"].extra["theirs_bytes"] > 6 * (study.images / f"{CASE}_0001.nii.gz").stat().st_size


def test_names_of_all_rows_differ_and_listing_imports_no_benchmark():
    names = [name for benchmark in BENCHMARKS for name in benchmark.targets]
    assert len(names) == len(set(names))
    code = (
        "import sys; from bench.__main__ import main; status = main(['--list']); "
        "loaded = {'bench.metrics', 'monai', 'torch'} & sys.modules.keys(); sys.exit(status or bool(loaded))"
    )
    repository = Path(registry.__file__).parents[1]
    listed = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert "perturbations_without_motion" in listed.stdout
