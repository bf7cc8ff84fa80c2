"""What a report claims: paired differences, recomputed here image by image, and what is concluded from them."""

import numpy as np
import pytest

from sibx import Results
from sibx.evaluation import Interval, bootstrap_mean, mean_over_seeds_and_images
from sibx.report.claims import (
    Scope,
    combine,
    default_comparisons,
    judge,
    judge_held,
    known_directions,
    make_claims,
    pick_headline,
)
from sibx.report.content import gather
from sibx.report.names import extent
from sibx.report.verdicts import explain, summarize
from tests.helpers.reports import make_results

SCOPE = Scope("synthetic", "test", "tiny_cnn")


def between(low, high, n=20):
    return Interval((low + high) / 2, low, high, n, 0)


def claim(claims, training, against, metric, split="test"):
    (found,) = (
        c for c in claims if (c.training, c.against, c.metric, c.scope.split) == (training, against, metric, split)
    )
    return found


def paired(results, better, worse):
    """Differences of two columns (training, method, metric), images x seeds: of all images that both scored in any."""
    values = {}
    for row in results.rows.to_dict("records"):
        column = row["training"], row["method"], row["metric"]
        values.setdefault((row["image_id"], row["label"]), {})[column, row["seed"]] = row["value"]
    seeds, differences = sorted(set(results.rows["seed"])), []
    for of_image in values.values():
        both = [(better, s) in of_image and (worse, s) in of_image for s in seeds]
        if any(both):
            found = zip(seeds, both, strict=True)
            differences.append([of_image[better, s] - of_image[worse, s] if b else np.nan for s, b in found])
    return np.array(differences)


class TestJudge:
    @pytest.mark.parametrize(
        ("low", "high", "higher", "n", "status"),
        [
            (0.1, 0.2, True, 20, "shown"),
            (0.1, 0.2, False, 20, "opposite"),
            (-0.2, -0.1, True, 20, "opposite"),
            (-0.2, -0.1, False, 20, "shown"),
            (-0.1, 0.2, True, 20, "not shown"),
            (-0.1, 0.2, False, 20, "not shown"),
            (0.0, 0.2, True, 20, "not shown"),
            (-0.2, 0.0, False, 20, "not shown"),
            (0.0, 0.0, True, 20, "not shown"),
            (0.1, 0.2, True, 6, "shown"),
            (0.1, 0.2, True, 5, "not shown"),
            (np.nan, np.nan, True, 0, "not shown"),
        ],
    )
    def test_direction(self, low, high, higher, n, status):
        assert judge(between(low, high, n), higher) == status

    @pytest.mark.parametrize(
        ("low", "high", "n", "status"),
        [
            (-0.02, 0.1, 20, "shown"),
            (-0.02, -0.01, 20, "shown"),  # lost, but less than the margin
            (-0.03, 0.1, 20, "not shown"),
            (-0.03, -0.01, 20, "opposite"),
            (0.0, 0.0, 5, "not shown"),
            (np.nan, np.nan, 0, "not shown"),
        ],
    )
    def test_held(self, low, high, n, status):
        assert judge_held(between(low, high, n), 0.02) == status

    @pytest.mark.parametrize(
        ("statuses", "status"),
        [
            (["shown", "shown"], "shown"),
            (["shown", "not shown"], "partly"),
            (["shown", "opposite"], "partly"),
            (["partly", "opposite"], "partly"),
            (["opposite", "not shown"], "opposite"),
            (["not shown", "not shown"], "not shown"),
            ([], "not shown"),
        ],
    )
    def test_together(self, statuses, status):
        assert combine(statuses) == status


class TestComparisons:
    @pytest.mark.parametrize(
        ("trainings", "pairs"),
        [
            (["ce"], []),
            (["sib", "ce"], [("sib", "ce")]),
            (["a", "b"], [("b", "a")]),
            (["ce", "sib-self", "sib-shuffled"], [("sib-self", "ce")]),
            (["ce", "sib", "sib-shuffled"], [("sib", "ce"), ("sib", "sib-shuffled")]),
            (["ce", "mine", "mine-shuffled"], [("mine", "ce"), ("mine", "mine-shuffled")]),
            ([], []),
        ],
    )
    def test_default(self, trainings, pairs):
        assert default_comparisons(trainings) == pairs

    def test_headline(self):
        assert pick_headline(["iou", "foreground_focus"]) == "foreground_focus"
        assert pick_headline(["own", "iou"]) == "iou"
        assert pick_headline(["own"]) == ""

    def test_directions(self):
        known = known_directions({"own": False, "iou": False})
        assert (known["foreground_focus"], known["deletion"], known["bg_gap"]) == (True, False, False)
        assert (known["own"], known["iou"]) == (False, False)


class TestClaims:
    @pytest.mark.parametrize("seeds", [(0,), (0, 1)])
    def test_differences_are_paired_by_image_and_seed(self, seeds):
        """Random scores, a fifth of them undefined and a fifth of the rows missing."""
        random = np.random.default_rng(len(seeds))

        def score(*_):
            return np.nan if random.random() < 0.2 else random.random()

        results = make_results(images=24, seeds=seeds, score=score, curves=False)
        kept = random.random(len(results.rows)) < 0.8
        results = Results(results.rows[kept].sample(frac=1, random_state=0), results.curves)
        claims = make_claims(results)
        for metric in ("foreground_focus", "deletion"):
            for finding in claim(claims, "sib", "ce", metric).findings:
                found = paired(results, ("sib", finding.name, metric), ("ce", finding.name, metric))
                difference, undefined = finding.gain.interval, np.isnan(found).all(1)
                assert difference[3:] == ((~undefined).sum(), undefined.sum())
                if len(seeds) == 1:  # of the same images in another order: another draw
                    expected, close = bootstrap_mean(found[:, 0]), 0.05
                else:
                    expected, close = mean_over_seeds_and_images(found), 1e-9
                assert difference.mean == pytest.approx(expected.mean)
                assert difference[1:3] == pytest.approx(expected[1:3], abs=close)
                assert finding.gain.seeds == len(seeds)

    @pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
    def test_the_numbers_are_those_of_difference(self, seeds):
        random = np.random.default_rng(1)
        results = make_results(seeds=seeds, score=lambda *_: random.random(), curves=False)
        table = results.difference("sib", "ce").set_index(["method", "metric"])
        for metric in ("foreground_focus", "deletion"):
            for finding in claim(make_claims(results), "sib", "ce", metric).findings:
                line = table.loc[(finding.name, metric)]
                assert Interval.of(line) == pytest.approx(finding.gain.interval)
                assert (line["seeds"], line["p_value"]) == (len(seeds), pytest.approx(finding.gain.p_value))
        accuracy = results.hits().difference("sib", "ce").iloc[0]
        assert Interval.of(accuracy) == claim(make_claims(results), "sib", "ce", "accuracy").overall.interval

    def test_control_is_of_the_same_training(self):
        results = make_results(curves=False)
        found = claim(make_claims(results), "sib", "control_center", "foreground_focus")
        assert [f.name for f in found.findings] == ["sib", "gradcam"]
        for finding in found.findings:
            expected = paired(
                results, ("sib", finding.name, "foreground_focus"), ("sib", "control_center", "foreground_focus")
            )
            assert finding.gain.interval.mean == pytest.approx(expected.mean())

    def test_overall_is_the_mean_over_methods(self):
        results = make_results(curves=False)
        found = claim(make_claims(results), "sib", "ce", "foreground_focus")
        overall = found.overall.interval
        assert overall.mean == pytest.approx(np.mean([f.gain.interval.mean for f in found.findings]))
        assert overall.mean == pytest.approx(0.2)
        assert overall.n == 8

    def test_gains_are_shown_where_they_are(self):
        """sib gains .2 of focus and loses .1 of deletion, where lower is better."""
        claims = make_claims(make_results(curves=False))
        assert claim(claims, "sib", "ce", "foreground_focus").status == "shown"
        assert claim(claims, "sib", "ce", "deletion").status == "shown"
        turned = make_claims(make_results(curves=False), [("ce", "sib")])
        assert claim(turned, "ce", "sib", "foreground_focus").status == "opposite"
        assert claim(turned, "ce", "sib", "deletion").status == "opposite"

    def test_a_gain_of_one_method_is_partly_shown(self):
        def score(training, method, metric, image):
            return (0.1 if (training, method) == ("sib", "gradcam") else 0) + image % 3 / 10

        found = claim(make_claims(make_results(score=score)), "sib", "ce", "foreground_focus")
        assert {f.name: f.status for f in found.findings} == {"sib": "not shown", "gradcam": "shown"}
        assert (found.status, found.count) == ("partly", (1, 2))

    def test_few_images_show_nothing(self):
        found = make_claims(make_results(images=5, curves=False))
        assert {c.status for c in found} == {"not shown"}

    def test_scopes_are_apart(self):
        claims = make_claims(make_results(splits=("a", "b"), curves=False))
        assert {c.scope for c in claims} == {SCOPE._replace(split=s) for s in ("a", "b")}
        assert claim(claims, "sib", "ce", "deletion", "a").overall.interval.n == 8

    def test_a_metric_without_a_direction_is_not_claimed(self):
        results = make_results(metrics=("own",), curves=False)
        assert {c.metric for c in make_claims(results)} == {"accuracy"}
        assert {c.metric for c in make_claims(results, directions={"own": True})} == {"accuracy", "own"}

    def test_accuracy(self):
        results = make_results(images=40, hit=lambda training, image: training == "ce" or image % 4 > 0, curves=False)
        found = claim(make_claims(results), "sib", "ce", "accuracy")
        assert found.overall.interval.mean == -0.25
        assert found.status == "opposite"
        assert claim(make_claims(results, margin=0.5), "sib", "ce", "accuracy").status == "shown"

    def test_a_loss_on_a_rare_class_does_not_escape(self):
        """Classes of 57 and 3 images; the training loses the rare one: accuracy holds, balanced accuracy does not."""
        results = make_results(images=60, hit=lambda training, image: True, curves=False, seeds=(0, 1))
        first = results.rows["image_id"].isin(results.rows["image_id"].unique()[:3])
        lost = first & (results.rows["training"] == "sib")
        rows = results.rows.assign(label=first.astype(int), predicted=(first & ~lost).astype(int))
        claims = make_claims(Results(rows, results.curves), margin=0.1)
        held, balanced = (claim(claims, "sib", "ce", metric) for metric in ("accuracy", "balanced_accuracy"))
        assert (held.overall.interval.mean, balanced.overall.interval.mean) == pytest.approx((-0.05, -0.5))
        assert held.status != "opposite"
        assert balanced.status == "opposite"
        said = [v.claim for v in summarize(claims, {SCOPE: "test"}, margin=0.1)]
        assert "Balanced accuracy holds: it does not lose more than 0.1, over 2 seeds" in said
        assert "claimed of the balanced accuracy too" in explain(claims)
        assert "balanced" not in explain(make_claims(results))

    def test_without_a_second_training_only_controls_are_claimed(self):
        claims = make_claims(make_results(trainings=("",), curves=False))
        assert {(c.training, c.against, c.metric) for c in claims} == {("", "control_center", "foreground_focus")}

    def test_a_training_that_a_scope_lacks_is_not_compared_there(self):
        both, one = make_results(curves=False), make_results(splits=("other",), trainings=("sib",), curves=False)
        claims = make_claims(Results.concat([both, one]))
        assert {c.against for c in claims if c.scope.split == "other"} == {"control_center"}


def vary(per_seed, images=80):
    """Seeds whose trainings gain so much of focus, each image a little more or less; nobody gains in deletion."""
    parts = []
    for seed, gain in enumerate(per_seed):

        def score(training, method, metric, image, gain=gain):
            noise = np.random.default_rng([image, len(method)]).normal(0, 0.07)
            return 0.5 + (training == "sib") * (metric == "foreground_focus") * (gain + noise)

        parts.append(make_results(images=images, methods=("sib", "gradcam"), seeds=(seed,), score=score, curves=False))
    return Results.concat(parts)


class TestSeeds:
    PER_SEED = (0.12, 0.10, 0.02, -0.05, 0.02)  # on average .042, and not to be relied on

    def test_a_gain_over_images_that_is_not_there_over_seeds_is_not_shown(self):
        """As it was seen on a set kept back: +.042 [.026, .057] over images, of five trainings that differ."""
        found = claim(make_claims(vary(self.PER_SEED)), "sib", "ce", "foreground_focus")
        these = found.overall.these
        assert these.low > 0.02
        assert these.high < 0.07
        assert (found.status, found.these) == ("not shown", "shown")
        assert found.overall.interval.low < 0 < 0.1 < found.overall.interval.high
        (part,) = summarize([found], {SCOPE: "test"})[0].parts
        assert part.words == (
            "0 of 2 methods, mean +0.040 [−0.046, +0.126], 80 images, 5 seeds; not shown for VJP-IB (R M), Grad-CAM; "
            "of these 5 trainings alone it is shown (+0.040 [+0.029, +0.052] over images)"
        )

    def test_a_gain_of_every_training_is_shown(self):
        found = claim(make_claims(vary((0.05, 0.04, 0.06, 0.05, 0.045))), "sib", "ce", "foreground_focus")
        assert (found.status, found.these) == ("shown", "shown")
        assert found.overall.seeds == 5

    def test_few_seeds_are_named(self):
        found = claim(make_claims(vary((0.05, 0.03))), "sib", "ce", "foreground_focus")
        assert (found.status, found.these) == ("not shown", "shown")
        (part,) = summarize([found], {SCOPE: "test"})[0].parts
        assert part.words.endswith("over images), but 2 seeds are few")

    def test_the_opposite_of_these_trainings(self):
        found = claim(make_claims(vary((-0.2, -0.02, -0.01))), "sib", "ce", "foreground_focus")
        (part,) = summarize([found], {SCOPE: "test"})[0].parts
        assert "; of these 3 trainings alone the opposite is shown (−0.0" in part.words

    def test_accuracy(self):
        """It falls by .25 in one training of three: not shown to hold, nor to fall."""
        parts = [
            make_results(
                images=40, seeds=(seed,), hit=lambda t, i, seed=seed: t == "ce" or seed or i % 4 > 0, curves=False
            )
            for seed in range(3)
        ]
        found = claim(make_claims(Results.concat(parts)), "sib", "ce", "accuracy")
        assert (found.overall.interval.mean, found.status) == (pytest.approx(-1 / 12), "not shown")
        assert found.these == "opposite"

    @pytest.mark.parametrize(
        ("seeds", "text"),
        [
            ([1], "for this training"),
            ([0, 1], "for this training"),
            ([5, 5], "over 5 seeds"),
            ([3, 1], "over 1 to 3 seeds"),
        ],
    )
    def test_extent(self, seeds, text):
        assert extent(seeds) == text

    def test_every_verdict_says_of_which_trainings(self):
        one, several = make_results(curves=False), make_results(seeds=(0, 1, 2), splits=("other",), curves=False)
        names = {SCOPE: "test", SCOPE._replace(split="other"): "other"}
        for results, text in [
            (one, "for this training"),
            (several, "over 3 seeds"),
            (Results.concat([one, several]), "over 1 to 3 seeds"),
        ]:
            verdicts = summarize(make_claims(results), names)
            assert len(verdicts) == 3
            assert all(v.claim.endswith(f", {text}") for v in verdicts)

    def test_the_explanation_is_of_the_seeds_there_are(self):
        one, several = make_results(curves=False), make_results(seeds=(0, 1), splits=("other",), curves=False)
        texts = [explain(make_claims(r)) for r in (one, several, Results.concat([one, several]))]
        assert [("With one seed" in t, "Over several seeds" in t) for t in texts] == [
            (True, False),
            (False, True),
            (True, True),
        ]
        assert "fewer than 6 pairs" in texts[0]


class TestSummary:
    def verdicts(self, results, **options):
        return summarize(make_claims(results, **options), {SCOPE: "test", SCOPE._replace(split="other"): "other"})

    def test_most_important_first(self):
        explained = make_results(curves=False)
        reliance = make_results(methods=("classifier",), metrics=("bg_gap", "mixed_rand"), curves=False)
        found = [(v.subject, v.claim) for v in self.verdicts(Results.concat([explained, reliance]))]
        assert found == [
            ("sib against ce", "Foreground focus improves for every method, for this training"),
            ("sib against ce", "Accuracy holds: it does not lose more than 0.02, for this training"),
            (
                "sib against ce",
                "The background matters less: the gap between backgrounds of the same and of other classes shrinks, "
                "for this training",
            ),
            (
                "sib against model-free controls",
                "Foreground focus of every method is above that of the control center, for this training",
            ),
        ]

    def test_says_who_they_are(self):
        first = self.verdicts(make_results(curves=False))[0]
        assert first.about == "sib: S-IB with object masks from the data; ce: cross-entropy alone"
        own = self.verdicts(make_results(trainings=("old", "new"), curves=False))[0]
        assert (own.subject, own.about) == ("new against old", "")

    def test_scopes_are_put_together(self):
        good, bad = make_results(curves=False), make_results(splits=("other",), score=lambda *_: 0.5, curves=False)
        first = self.verdicts(Results.concat([good, bad]))[0]
        assert [(p.scope, p.status) for p in first.parts] == [("test", "shown"), ("other", "not shown")]
        assert (first.status, first.count) == ("partly", (2, 4))

    def test_words(self):
        def score(training, method, metric, image):
            gains = {"sib": 0.1, "gradcam": -0.1, "saliency": 0}
            return (training == "sib") * gains.get(method, 0)

        results = make_results(methods=("sib", "gradcam", "saliency"), score=score, curves=False)
        (part,) = self.verdicts(results)[0].parts
        difference = "mean +0.000 [+0.000, +0.000], 8 images"
        assert part.words == f"1 of 3 methods, {difference}; not shown for Saliency; the opposite for Grad-CAM"

    def test_words_of_many(self):
        methods = ("sib", "gradcam", "saliency", "smoothgrad")
        results = make_results(methods=methods, score=lambda t, m, *_: 0.1 * (t == "sib") * (m == "sib"), curves=False)
        assert self.verdicts(results)[0].parts[0].words.endswith("; not shown for all others")

    def test_one_method(self):
        first = self.verdicts(make_results(methods=("sib",), curves=False))[0]
        assert first.claim == "Foreground focus improves, for this training"
        assert first.parts[0].words == "+0.200 [+0.200, +0.200], 8 images"

    def test_the_margin_is_named(self):
        content = gather(make_results(curves=False), margin=0.1)
        assert content.verdicts[1].claim == "Accuracy holds: it does not lose more than 0.1, for this training"
