import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from brainrdl.inference import crossed_bootstrap
from brainrdl.studies.paper.published import ARMS, PAPER, published_error
from brainrdl.studies.reports.differences import difference, mcnemar_table
from brainrdl.studies.reports.methods import arm_name, distinct_networks, families, in_order, method_name
from brainrdl.studies.reports.paper_files import check_results
from brainrdl.studies.reports.paper_tables import error_table, geometry_table, labels_table
from brainrdl.studies.reports.settings import format_setting, tries_tables

# The paper's Tables 2 and 5 as printed, row by row: p, and an arrow to the better method.
PRINTED = {
    "mnist": (
        ("plain", "teacher", "finetuning", "deep_supervision", "hints", "rdl"),
        """
        -      0.38   0.00 ↑ 0.11   0.34   0.01 ↑
        0.38   -      0.01 ↑ 0.66   0.89   0.20
        0.00 ← 0.01 ← -      0.14   0.04 ← 0.63
        0.11   0.66   0.14   -      0.64   0.39
        0.34   0.89   0.04 ↑ 0.64   -      0.17
        0.01 ← 0.20   0.63   0.39   0.17   -
        """,
    ),
    "cifar100": (
        ("plain", "finetuning", "deep_supervision", "hints", "rdl"),
        """
        -      0.00 ← 0.00 ↑ 0.00 ↑ 0.00 ↑
        0.00 ↑ -      0.00 ↑ 0.00 ↑ 0.00 ↑
        0.00 ← 0.00 ← -      0.86   0.08
        0.00 ← 0.00 ← 0.86   -      0.05
        0.00 ← 0.00 ← 0.08   0.05   -
        """,
    ),
}


class TestPaper:
    @pytest.mark.parametrize("study", PRINTED)
    def test_tests_are_those_printed(self, study):
        arms, text = PRINTED[study]
        rows = [re.findall(r"-|[\d.]+(?: [←↑])?", line) for line in text.strip().splitlines()]
        assert [len(row) for row in rows] == [len(arms)] * len(arms)
        for i, first in enumerate(arms):
            for j, second in enumerate(arms):
                if i == j:
                    assert PAPER[study].test(first, second) is None
                    continue
                p, _, arrow = rows[i][j].partition(" ")
                test = PAPER[study].test(first, second)
                assert test.p == float(p)
                assert test.better == {"": "", "←": first, "↑": second}[arrow]
        assert len(PAPER[study].tests) == len(arms) * (len(arms) - 1) // 2

    def test_errors_are_those_printed(self):
        assert [PAPER["mnist"].test_errors[arm] for arm in ARMS] == [0.63, 0.56, 0.48, 0.55, 0.56, 0.49]
        of_cifar = [PAPER["cifar100"].test_errors.get(arm) for arm in ARMS]
        assert of_cifar == [30.68, None, 38.75, 29.46, 29.37, 28.77]

    def test_arrows_point_to_the_smaller_error(self):
        for study in PAPER.values():
            for pair, test in study.tests.items():
                if test.better:
                    assert test.better == min(pair, key=study.test_errors.__getitem__)

    def test_only_its_own_teacher_has_numbers(self):
        assert published_error("mnist", "plain", "") == 0.63
        assert published_error("mnist", "teacher", "paper") == 0.56
        assert published_error("mnist", "rdl", "clean") is None
        assert published_error("mnist", "kd", "paper") is None
        assert published_error("cifar100", "rdl", "cifar10") == 28.77
        assert published_error("cifar100", "rdl", "paper") is None
        assert PAPER["cifar100"].teacher_error == 8.0
        assert published_error("digits", "plain", "") is None


def study(errors, *, labels=np.nan, n_images=1000, seed=0):
    """Runs with given test errors (percent, one per seed) by (arm, teacher), and their correctness."""
    rng = np.random.default_rng(seed)
    lines, correctness = [], {}
    for (arm, teacher), percents in errors.items():
        for k, percent in enumerate(percents):
            row = "-".join(filter(None, (arm, teacher, "" if np.isnan(labels) else f"labels{labels}", f"seed{k}")))
            wrong = rng.choice(n_images, round(percent * n_images / 100), replace=False)
            correctness[row] = ~np.isin(np.arange(n_images), wrong)
            lines.append(
                {
                    "row": row,
                    "arm": arm,
                    "teacher": teacher,
                    "labels": labels,
                    "seed": k,
                    "test_error": percent,
                    "validation_error": percent + 0.5,
                }
            )
    return pd.DataFrame(lines), correctness


THREE = {("rdl", "paper"): [2.0, 2.4, 1.6], ("plain", ""): [3.0, 3.6, 3.3], ("rdl", "clean"): [2.1, 2.0, 2.2]}


class TestNames:
    def test_methods(self):
        assert method_name("rdl_corr", "clean") == "scale-free RDL (clean)"
        assert method_name("deep_supervision", "") == "deep supervision"
        assert arm_name("what_else") == "what else"

    def test_order_is_that_of_the_paper_then_ours_then_unknown_ones(self):
        arms = ["mine", "kd", "rdl", "plain", "teacher", "rdl"]
        frame = pd.DataFrame({"arm": arms, "teacher": ["x", "clean", "clean", "", "paper", "paper"]})
        ordered = in_order(frame)
        assert list(zip(ordered["arm"], ordered["teacher"], strict=True)) == [
            ("plain", ""),
            ("teacher", "paper"),
            ("rdl", "paper"),
            ("rdl", "clean"),
            ("kd", "clean"),
            ("mine", "x"),
        ]

    def test_families(self):
        assert families(["plain", "rdl"]) == [("plain", "rdl")]
        assert families(["cka", "rdl", "plain", "teacher", "mine", "plain_readout"]) == [
            ("plain", "plain_readout", "teacher", "rdl"),
            ("plain", "plain_readout", "rdl", "cka", "mine"),
        ]


class TestCheckResults:
    def test_agreeing_files_pass(self):
        check_results(*study(THREE))

    def test_rounded_errors_pass(self):
        results, correctness = study({("plain", ""): [3.3]}, n_images=1797)
        check_results(results.assign(test_error=round(100 * (1 - correctness["plain-seed0"].mean()), 2)), correctness)

    def test_runs_that_died_need_no_correctness(self):
        results, correctness = study(THREE)
        dead = results["row"] == "plain-seed1"
        del correctness["plain-seed1"]
        check_results(results.assign(test_error=results["test_error"].mask(dead)), correctness)

    def test_lack_of_correctness(self):
        results, correctness = study(THREE)
        del correctness["plain-seed1"]
        with pytest.raises(ValueError, match="there") as caught:
            check_results(results, correctness)
        assert str(caught.value) == "there is no correctness for 1 of 9 runs, 'plain-seed1' first; score them again"

    def test_other_images(self):
        results, correctness = study(THREE)
        correctness["plain-seed1"] = np.ones(7, bool)
        with pytest.raises(ValueError, match="scored") as caught:
            check_results(results, correctness)
        assert str(caught.value) == (
            "'plain-seed1' was scored on 7 test images, but 'rdl-paper-seed0' on 1000; score all runs on the same "
            "images"
        )

    def test_other_networks(self):
        results, correctness = study(THREE)
        correctness["plain-seed1"] = ~correctness["plain-seed1"]
        with pytest.raises(ValueError, match="score") as caught:
            check_results(results, correctness)
        assert str(caught.value) == (
            "the test error of 'plain-seed1' is 3.6 % in the results, but 96.4 % by its correctness; score it again"
        )

    def test_one_teacher_may_have_a_row_for_each_seed(self):
        results, correctness = study({("teacher", "clean"): [2.0], ("plain", ""): [3.0]})
        again = results[results["arm"] == "teacher"].assign(row="teacher-clean-seed1")
        correctness["teacher-clean-seed1"] = correctness["teacher-clean-seed0"]
        check_results(pd.concat([results, again]), correctness, one_teacher=True)
        with pytest.raises(ValueError, match=r"more than one run of teacher \(clean\) with seed 0"):
            check_results(pd.concat([results, again]), correctness)

    def test_repeated_rows(self):
        results, correctness = study({("plain", ""): [3.0]})
        with pytest.raises(ValueError, match="more than one") as caught:
            check_results(pd.concat([results, results]), correctness)
        assert str(caught.value) == "the results hold more than one row 'plain-seed0'; keep one of them"
        with pytest.raises(ValueError, match="more than one") as caught:
            check_results(pd.concat([results, results.assign(row="again")]), correctness)
        assert str(caught.value) == "the results hold more than one run of plain with seed 0; keep one of them"
        results, correctness = study({("rdl", "clean"): [3.0]}, labels=100)
        with pytest.raises(ValueError, match="more than one") as caught:
            check_results(pd.concat([results, results.assign(row="again")]), correctness)
        assert str(caught.value) == (
            "the results hold more than one run of RDL (clean) with 100 labels and seed 0; keep one of them"
        )


class TestDifference:
    def test_is_paired_by_seed_whatever_the_order_of_rows(self):
        results, correctness = study(THREE)
        shuffled = results.sample(frac=1, random_state=3)
        found = difference(shuffled, correctness, ("rdl", "paper"), ("plain", ""), n_resamples=500)
        assert found.n_seeds == 3
        assert found.first == pytest.approx(2.0)
        assert found.second == pytest.approx(3.3)
        each = np.array([2.0 - 3.0, 2.4 - 3.6, 1.6 - 3.3])
        half = stats.t.ppf(0.975, 2) * each.std(ddof=1) / np.sqrt(3)
        assert found.estimate == pytest.approx(each.mean())
        assert (found.paired_low, found.paired_high) == pytest.approx((each.mean() - half, each.mean() + half))
        a, b = (np.stack([correctness[f"{name}-seed{k}"] for k in range(3)]) for name in ("rdl-paper", "plain"))
        _, low, high = crossed_bootstrap(a, b, n_resamples=500)
        assert (found.low, found.high) == (low, high)

    def test_only_shared_seeds_count(self):
        results, correctness = study({("rdl", "clean"): [2.0, 2.4, 1.6], ("plain", ""): [3.0, 3.6]})
        found = difference(results, correctness, ("rdl", "clean"), ("plain", ""), n_resamples=50)
        assert found.n_seeds == 2
        assert found.first == pytest.approx(2.2)

    def test_one_seed_has_no_interval(self):
        results, correctness = study({("rdl", "clean"): [2.0], ("plain", ""): [3.0]})
        found = difference(results, correctness, ("rdl", "clean"), ("plain", ""))
        assert found[:4] == pytest.approx((1, 2.0, 3.0, -1.0))
        assert np.isnan(found[4:]).all()

    def test_no_seed_in_common(self):
        results, correctness = study({("rdl", "clean"): [2.0], ("plain", ""): [3.0]})
        moved = results.assign(seed=[0, 1])
        found = difference(moved, correctness, ("rdl", "clean"), ("plain", ""))
        assert found.n_seeds == 0
        assert np.isnan(found[1:]).all()


class TestErrorTable:
    def test_three_seeds(self):
        results, correctness = study(THREE)
        table = error_table(results, correctness, study="mnist", n_resamples=200).set_index("method")
        assert list(table.index) == ["plain", "RDL (paper)", "RDL (clean)"]
        errors = np.array([2.0, 2.4, 1.6])
        half = stats.t.ppf(0.975, 2) * errors.std(ddof=1) / np.sqrt(3)
        line = table.loc["RDL (paper)"]
        assert line["n_seeds"] == line["n_shared"] == 3
        assert line[["test_error", "low", "high"]].tolist() == pytest.approx([2.0, 2.0 - half, 2.0 + half])
        assert line["validation_error"] == pytest.approx(2.5)
        assert line["standard_error"] == pytest.approx(100 * np.sqrt(0.02 * 0.98 / 1000))
        expected = difference(results, correctness, ("rdl", "paper"), ("plain", ""), n_resamples=200)
        columns = ["difference", "crossed_low", "crossed_high", "paired_low", "paired_high"]
        assert line[columns].tolist() == list(expected[3:])
        assert table["paper"].tolist() == pytest.approx([0.63, 0.49, np.nan], nan_ok=True)

    def test_the_control_is_not_compared_with_itself(self):
        results, correctness = study(THREE)
        plain = error_table(results, correctness, n_resamples=50).set_index("method").loc["plain"]
        assert plain["n_shared"] == 0
        assert np.isnan(plain[["difference", "crossed_low", "paired_low"]].to_numpy(float)).all()

    def test_another_baseline(self):
        results, correctness = study(THREE | {("plain_readout", ""): [3.0, 3.0, 2.7]})
        baselines = {"rdl": "plain_readout"}
        table = error_table(results, correctness, baselines=baselines, n_resamples=50).set_index("method")
        assert table.loc["RDL (clean)", "difference"] == pytest.approx(2.1 - 2.9)
        assert table.loc["plain with readout", "difference"] == pytest.approx(2.9 - 3.3)
        assert table["baseline"].tolist() == ["", "plain", "plain_readout", "plain_readout"]

    def test_a_study_that_the_paper_lacks(self):
        results, correctness = study(THREE)
        assert error_table(results, correctness, study="digits", n_resamples=50)["paper"].isna().all()


class TestDistinctNetworks:
    def test_one_teacher_counts_once(self):
        results, _ = study({("teacher", "clean"): [2.0, 2.0, 2.0], **THREE})
        kept = distinct_networks(results, one_teacher=True)
        assert kept.loc[kept["arm"] == "teacher", "seed"].tolist() == [0]
        assert len(kept) == 10
        assert len(distinct_networks(results, one_teacher=False)) == 12

    def test_runs_that_died_are_left_out(self):
        results, _ = study(THREE)
        results.loc[results["row"] == "plain-seed1", "test_error"] = np.nan
        assert "plain-seed1" not in set(distinct_networks(results, one_teacher=False)["row"])


class TestMcNemarTable:
    def test_counts_p_values_and_holm(self):
        results, correctness = study(THREE)
        table = mcnemar_table(results, correctness, study="mnist")
        pairs = [("plain", "RDL (paper)"), ("plain", "RDL (clean)"), ("RDL (paper)", "RDL (clean)")]
        assert list(zip(table["first"], table["second"], strict=True)) == pairs
        rows = {"plain": "plain-seed0", "RDL (paper)": "rdl-paper-seed0", "RDL (clean)": "rdl-clean-seed0"}
        p_values = []
        for line in table.itertuples():
            first, second = correctness[rows[line.first]], correctness[rows[line.second]]
            assert line.b == (first & ~second).sum()
            assert line.c == (second & ~first).sum()
            p_values.append(stats.binomtest(int(line.b), int(line.b + line.c)).pvalue)
            assert line.p == pytest.approx(p_values[-1])
        ascending = np.argsort(p_values)
        stepped = np.maximum.accumulate(np.array(p_values)[ascending] * [3, 2, 1]).clip(max=1)
        assert table["holm"].to_numpy()[ascending] == pytest.approx(stepped)
        assert table["paper_p"].tolist() == pytest.approx([0.01, np.nan, np.nan], nan_ok=True)
        assert table["paper_better"].tolist() == ["RDL (paper)", "", ""]

    def test_the_better_method_is_named_where_it_is_better(self):
        correctness = {"a": np.repeat([True, False], 20), "b": np.repeat([True, True, False], [20, 12, 8])}
        runs = pd.DataFrame({"row": ["a", "b"], "arm": ["plain", "rdl"], "teacher": ["", "clean"], "seed": 0})
        assert mcnemar_table(runs, correctness)["better"].tolist() == ["RDL (clean)"]
        swapped = {"a": correctness["b"], "b": correctness["a"]}
        assert mcnemar_table(runs, swapped)["better"].tolist() == ["plain"]
        same = {"a": correctness["a"], "b": correctness["a"]}
        assert mcnemar_table(runs, same)[["p", "better"]].values.tolist() == [[1.0, ""]]

    def test_one_seed_is_taken(self):
        results, correctness = study(THREE)
        second = mcnemar_table(results, correctness, seed=1).iloc[0]
        a, b = correctness["plain-seed1"], correctness["rdl-paper-seed1"]
        assert (second["b"], second["c"]) == ((a & ~b).sum(), (b & ~a).sum())

    def test_one_method_leaves_nothing_to_test(self):
        results, correctness = study({("plain", ""): [3.0]})
        assert mcnemar_table(results, correctness).empty


class TestLabelsTable:
    def test_each_number_of_labels_by_itself(self):
        few, correct_few = study({("plain", ""): [9.0, 8.0], ("rdl", "clean"): [5.0, 6.0]}, labels=100, seed=1)
        more, correct_more = study({("plain", ""): [4.0, 4.4], ("rdl", "clean"): [4.1, 4.0]}, labels=1000, seed=2)
        everything, correct_all = study(THREE)
        correctness = {**correct_few, **correct_more, **correct_all}
        table = labels_table(pd.concat([more, everything, few]), correctness, n_resamples=50)
        assert table[["labels", "method"]].values.tolist() == [
            [100, "plain"],
            [100, "RDL (clean)"],
            [1000, "plain"],
            [1000, "RDL (clean)"],
        ]
        assert table["test_error"].tolist() == pytest.approx([8.5, 5.5, 4.2, 4.05])
        assert table["difference"].tolist() == pytest.approx([np.nan, -3.0, np.nan, -0.15], nan_ok=True)
        method, plain = correctness["rdl-clean-labels100-seed0"], correctness["plain-labels100-seed0"]
        line = table.iloc[1]
        assert (line["b"], line["c"]) == ((method & ~plain).sum(), (plain & ~method).sum())
        assert line["p"] == pytest.approx(stats.binomtest(int(line["b"]), int(line["b"] + line["c"])).pvalue)
        assert np.isnan(table.loc[0, "p"])

    def test_another_baseline(self):
        arms = {("plain", ""): [9.0], ("plain_readout", ""): [8.0], ("rdl", "clean"): [5.0]}
        few, correctness = study(arms, labels=100, seed=1)
        table = labels_table(few, correctness, baselines={"rdl": "plain_readout"}, n_resamples=50)
        line = table.set_index("method").loc["RDL (clean)"]
        method, its = correctness["rdl-clean-labels100-seed0"], correctness["plain_readout-labels100-seed0"]
        assert line["difference"] == pytest.approx(-3.0)
        assert (line["b"], line["c"]) == ((method & ~its).sum(), (its & ~method).sum())

    def test_no_runs_with_few_labels(self):
        assert labels_table(*study(THREE)).empty


class TestGeometryTable:
    def test_means_over_seeds_and_comparison_with_plain(self):
        lines = [
            {
                "arm": arm,
                "labels": labels,
                "seed": seed,
                "teacher": teacher,
                "layer": layer,
                "e_aux": e,
                "correlation": r,
            }
            for arm, labels, seed, teacher, layer, e, r in [
                ("rdl", None, 0, "clean", "fc", 1.0, 0.9),
                ("rdl", None, 1, "clean", "fc", 5.0, 0.7),
                ("plain", None, 0, "clean", "fc", 4.0, 0.5),
                ("plain", None, 1, "clean", "fc", 4.0, 0.3),
                ("plain", None, 0, "paper", "fc", 2.0, 0.4),
                ("plain", 100, 0, "clean", "fc", 0.1, 0.4),
                ("hints", None, 0, "clean", "pool2", 0.1, 0.4),
            ]
        ]
        table = geometry_table(pd.DataFrame(lines))

        def all_labels(arm, teacher):
            return table[(table["arm"] == arm) & (table["teacher"] == teacher) & table["labels"].isna()]

        line = all_labels("rdl", "clean")
        assert line[["n_seeds", "e_aux", "correlation", "baseline_e_aux", "ratio"]].to_numpy(float).tolist() == [
            pytest.approx([2, 3.0, 0.8, 4.0, 0.75])
        ]
        assert line[["n_shared", "n_below", "below"]].values.tolist() == [[2, 1, True]]
        plain = all_labels("plain", "paper")
        assert plain[["e_aux", "baseline_e_aux", "below"]].values.tolist() == [[2.0, 2.0, False]]
        alone = all_labels("hints", "clean")
        assert alone[["n_shared", "n_below", "below"]].values.tolist() == [[0, 0, False]]
        assert alone[["baseline_e_aux", "ratio"]].isna().all(axis=None)


class TestTriesTable:
    def test_notes_tell_why_there_is_no_error(self):
        lines = [
            {
                "arm": "rdl",
                "labels": np.nan,
                "teacher": "clean",
                "try": 1,
                "setting": '{"alpha0": 300.0}',
                "chosen": False,
            },
            {
                "arm": "rdl",
                "labels": np.nan,
                "teacher": "clean",
                "try": 0,
                "setting": '{"alpha0": 2.0}',
                "chosen": True,
            },
            {"arm": "plain", "labels": np.nan, "teacher": "", "try": 0, "setting": "{}", "chosen": True},
        ]
        errors = [np.nan, 1.2, np.nan]
        tries = pd.DataFrame(lines).assign(validation_error=errors, validation_loss=errors, seconds=1.0)
        chosen, every = tries_tables(tries)
        assert every.head == ["method", "setting", "validation error, %", "validation loss", "selected", "time"]
        assert every.rows == [
            ["plain", "as in the recipe", "the only candidate, not tried", "", "✓", "1 s"],
            ["RDL (clean)", "α₀ 2", "1.20", "1.2000", "✓", "1 s"],
            ["RDL (clean)", "α₀ 300", "failed", "", "", "1 s"],
        ]
        assert chosen.rows == [row[:4] for row in every.rows[:2]]

    @pytest.mark.parametrize("text", ["[1]", "2", '"text"', "{"])
    def test_settings_are_objects(self, text):
        with pytest.raises(ValueError, match="object") as caught:
            format_setting(text)
        assert str(caught.value) == f'a setting is a JSON object, such as {{"alpha0": 2.0}}, got {text!r}'

    def test_settings_are_spelled_out(self):
        assert format_setting('{"learning_rate": 0.1, "weight_decay": 0.0005, "norm": "own"}') == (
            "learning rate 0.1, weight decay 0.0005, norm own"
        )


@pytest.mark.parametrize("module", ["differences", "methods", "settings", "paper_tables"])
def test_tables_read_no_files(module):
    source = (Path(__file__).parents[2] / "brainrdl" / "studies" / "reports" / f"{module}.py").read_text()
    assert not re.search(r"open\(|read_csv|np\.load|Path", source)
