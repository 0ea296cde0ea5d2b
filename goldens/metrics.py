"""Golden values of crates/metrics, made with the reference packages.

    python goldens/metrics.py crates/metrics/tests/goldens [--metrics-reloaded FOLDER]

Needs numpy, scipy, scikit-learn, scikit-image, scikit-survival, lifelines, statsmodels, pycocotools, SimpleITK,
MedPy, MONAI, surface-distance, nltk, sacrebleu, rouge-score, pingouin, krippendorff, fairlearn, connected-components-3d,
dcurves, MLstatkit, irrCAC, prdc, netcal (the last four without their dependencies, which pin old versions of numpy).
MetricsReloaded is not on PyPI: give a checkout. Every file holds cases with their inputs, the values under the ids
of `galen evaluate --kind`, and the versions of the packages that made them.
"""

import argparse
import importlib.metadata
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")
np.NaN, np.Inf = np.nan, np.inf  # surface-distance 0.1 still uses them
rng = np.random.default_rng(20240607)


def number(v):
    v = float(v)
    if math.isnan(v):
        return "undefined"
    if math.isinf(v):
        return "infinite" if v > 0 else "-infinite"
    return v


def plain(values):
    return {k: [number(x) for x in v] if isinstance(v, (list, np.ndarray)) else number(v) for k, v in values.items()}


def case(name, inputs, expected, options=None):
    return {"case": name, "input": inputs, "options": options or {}, "expected": plain(expected)}


def binned_error(y, s, bins):
    """Expected calibration error, bins (a, b], 0 into the first."""
    y, s = np.asarray(y, float), np.asarray(s, float)
    b = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), s, side="left") - 1, 0, bins - 1)
    return sum(np.mean(b == k) * abs(s[b == k].mean() - y[b == k].mean()) for k in set(b))


def coverage(right, confidence):
    """Risk and coverage by their definition: equal confidences share their mean error."""
    from sklearn.metrics import roc_auc_score

    right, confidence = np.asarray(right, bool), np.asarray(confidence, float)
    share = {c: 1 - right[confidence == c].mean() for c in set(confidence)}
    wrong = np.cumsum([share[c] for c in np.sort(confidence)[::-1]])
    n = len(right)
    best = np.cumsum(np.sort(~right))
    k = np.arange(1, n + 1)
    return {
        "aurc": (wrong / k).mean(), "e-aurc": (wrong / k).mean() - (best / k).mean(), "augrc": (wrong / n).mean(),
        "failure-auroc": roc_auc_score(right, confidence) if 0 < right.sum() < n else np.nan,
    }


def tempered(y, p, q):
    """Temperature of p and y by scikit-learn, and q after it."""
    from sklearn.calibration import _TemperatureScaling

    fit = _TemperatureScaling().fit(p, y)
    return 1 / fit.beta_, fit.predict(q) if q.shape[1] > 2 else np.column_stack([1 - fit.predict(q)[:, 1], fit.predict(q)[:, 1]])


# ---------------------------------------------------------------- tables


def binary():
    from sklearn import metrics as sk
    from statsmodels.api import GLM, Logit, families
    from scipy import stats
    from scipy.special import logit
    from sklearn.dummy import DummyClassifier

    def values(y, s):
        y, s = np.asarray(y), np.asarray(s, float)
        p = (s >= 0.5).astype(int)
        tn, fp, fn, tp = sk.confusion_matrix(y, p, labels=[0, 1]).ravel()
        precision, recall, _ = sk.precision_recall_curve(y, s)
        n, prev = len(y), y.mean()
        pt = 0.2
        t = s >= pt
        benefit = (t & (y == 1)).sum() / n - (t & (y == 0)).sum() / n * pt / (1 - pt)
        of_all = prev - (1 - prev) * pt / (1 - pt)

        def ece(bins, norm=1):
            b = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), s, side="left") - 1, 0, bins - 1)
            gaps = [(np.mean(b == k), abs(s[b == k].mean() - y[b == k].mean())) for k in range(bins) if (b == k).any()]
            if norm == "max":
                return max(g for _, g in gaps)
            return sum(w * g**norm for w, g in gaps) ** (1 / norm)

        # DeLong by its definition, every pair tried.
        pos, neg = s[y == 1], s[y == 0]
        psi = (pos[:, None] > neg[None]) + 0.5 * (pos[:, None] == neg[None])
        se = np.sqrt(psi.mean(1).var(ddof=1) / len(pos) + psi.mean(0).var(ddof=1) / len(neg)) if min(len(pos), len(neg)) > 1 else np.nan
        out = {
            "n": n, "prevalence": prev,
            "auroc": sk.roc_auc_score(y, s), "pauroc/fpr<=.2/mcclish": sk.roc_auc_score(y, s, max_fpr=0.2),
            "average-precision/step": sk.average_precision_score(y, s), "pr-auc/trapezoid": sk.auc(recall, precision),
            "delong-se": se, "brier": sk.brier_score_loss(y, s), "log-loss": sk.log_loss(y, s),
            "brier-skill": 1 - sk.brier_score_loss(y, s) / (prev * (1 - prev)),
            "ece/positive/10 equal-width right-closed": ece(10), "ece/positive/15 equal-width right-closed": ece(15),
            "mce/positive/15 equal-width": ece(15, "max"), "rmsce/positive/15 equal-width": ece(15, 2),
            "accuracy@.5": sk.accuracy_score(y, p), "balanced-accuracy@.5": sk.balanced_accuracy_score(y, p),
            "recall@.5": sk.recall_score(y, p), "specificity@.5": sk.recall_score(y, p, pos_label=0),
            "precision@.5": sk.precision_score(y, p, zero_division=np.nan), "npv@.5": sk.precision_score(y, p, pos_label=0, zero_division=np.nan),
            "f1@.5": sk.f1_score(y, p), "f2@.5": sk.fbeta_score(y, p, beta=2), "mcc@.5": sk.matthews_corrcoef(y, p),
            "kappa@.5": sk.cohen_kappa_score(y, p), "youden@.5": sk.balanced_accuracy_score(y, p, adjusted=True),
            "fpr@.5": fp / (fp + tn), "net-benefit@pt.2": benefit, "net-benefit-all@pt.2": of_all,
            "standardised-net-benefit@pt.2": benefit / prev, "interventions-avoided@pt.2": (benefit - of_all) / (pt / (1 - pt)),
            "observed/expected": y.sum() / s.sum(),
        } | coverage(y == p, np.abs(s - 0.5))
        # dcurves takes a data frame; its untreated form is this formula.
        fn2, tn2 = ((~t) & (y == 1)).sum(), ((~t) & (y == 0)).sum()
        out["net-benefit-untreated@pt.2"] = tn2 / n - fn2 / n * (1 - pt) / pt
        # DeLong's interval on the logit scale, by its definition.
        a = out["auroc"]
        if 0 < a < 1 and np.isfinite(se):
            from scipy.special import expit

            half = stats.norm.ppf(0.975) * se / (a * (1 - a))
            out["delong-ci95/low"], out["delong-ci95/high"] = expit(logit(a) - half), expit(logit(a) + half)
        # Groups of equal size by rank, ties in the order of the table.
        order = np.argsort(s, kind="stable")
        by_rank = lambda bins: [g for g in (order[np.arange(n) * bins // n == k] for k in range(bins)) if len(g)]
        out["ece/positive/15 equal-mass"] = sum(len(g) / n * abs(s[g].mean() - y[g].mean()) for g in by_rank(15))
        groups = [(y[g].sum(), s[g].sum(), len(g)) for g in by_rank(10)]
        if all(0 < e < m for _, e, m in groups):
            out["hosmer-lemeshow/chi2"] = sum((o - e) ** 2 / (e * (1 - e / m)) for o, e, m in groups)
            out["hosmer-lemeshow/p"] = stats.chi2.sf(out["hosmer-lemeshow/chi2"], 8)
        # Errors of cost 1: the error rate, and beside that of always naming the commoner class.
        out["expected-cost@.5"] = sk.zero_one_loss(y, p)
        out["normalised-expected-cost@.5"] = sk.zero_one_loss(y, p) / sk.zero_one_loss(y, DummyClassifier(strategy="most_frequent").fit(y, y).predict(y))
        spread = ((1 - 2 * s) ** 2 * s * (1 - s)).sum()
        if spread > 0:
            z = ((y - s) * (1 - 2 * s)).sum() / np.sqrt(spread)
            out["spiegelhalter/z"], out["spiegelhalter/p"] = z, 2 * stats.norm.sf(abs(z))
        if fp and tn:
            out["plr@.5"], out["nlr@.5"] = sk.class_likelihood_ratios(y, p)
            if fn and tp:
                out["dor@.5"] = out["plr@.5"] / out["nlr@.5"]
        if n >= 100:
            x = logit(np.clip(s, 1e-12, 1 - 1e-12))
            out["calibration-slope"] = Logit(y, np.column_stack([np.ones(n), x])).fit(disp=0, tol=1e-14, maxiter=200, gtol=1e-14).params[1]
            out["calibration-intercept"] = GLM(y, np.ones(n), family=families.Binomial(), offset=x).fit(tol=1e-14, maxiter=200).params[0]
        return out

    p = np.round(rng.beta(2, 3, 300), 3)
    y = (rng.random(300) < p**1.3).astype(int)
    rare = np.round(rng.random(150) ** 2, 2)
    tables = {
        "worked example with ties": ([0, 0, 1, 1, 0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.2, 0.9]),
        "300 cases": (y, p),
        "rare positives, many ties": (np.r_[np.ones(3), np.zeros(147)].astype(int), rare),
        "all scores equal": ([0, 1, 0, 1, 1], [0.5] * 5),
        "perfect": ([0, 0, 0, 1, 1, 1], [0.0, 0.1, 0.2, 0.8, 0.9, 1.0]),
        "everything wrong": ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]),
        "nothing called positive": ([0, 1, 0, 1], [0.1, 0.3, 0.2, 0.15]),
        "one positive": ([0, 0, 1, 0], [0.3, 0.2, 0.9, 0.6]),
    }
    cases = [case(k, {"label": list(map(int, y)), "score": list(map(float, s))}, values(y, s)) for k, (y, s) in tables.items()]

    # Intervals over draws: scipy draws otherwise, so they agree within the error of drawing.
    y, s = (np.asarray(v) for v in tables["300 cases"])
    area = lambda y, s: (stats.rankdata(s)[y == 1].sum() - y.sum() * (y.sum() + 1) / 2) / (y.sum() * (1 - y).sum())
    drawn = {}
    for method in ["percentile", "BCa"]:
        found = stats.bootstrap((y, s), area, paired=True, vectorized=False, n_resamples=4000, method=method, random_state=1)
        drawn[method.lower()] = [float(v) for v in found.confidence_interval]
    next(c for c in cases if c["case"] == "300 cases")["scipy_bootstrap"] = drawn

    # Fitted on one table, measured on another.
    from sklearn.isotonic import IsotonicRegression

    def sure(n, digits):
        p = rng.beta(2, 3, n)
        z = 2.5 * logit(p)
        return (rng.random(n) < p).astype(int), np.round(1 / (1 + np.exp(-z)), digits).clip(0.001, 0.999)

    for name, n, digits in [("fits on 200 cases", 200, 4), ("fits with ties", 80, 1)]:
        (yc, sc), (yt, st) = sure(n, digits), sure(120, digits)
        two = lambda s: np.column_stack([1 - s, s])
        temperature, after = tempered(yc, two(sc), two(st))
        isotonic = IsotonicRegression(out_of_bounds="clip").fit(sc, yc).predict(st)
        expected = {"temperature": temperature}
        for key, q in {"temperature-scaled": after[:, 1], "isotonic": isotonic}.items():
            expected[f"{key}/brier"] = ((q - yt) ** 2).mean()
            eps = np.finfo(float).eps
            expected[f"{key}/log-loss"] = -np.log(np.clip(np.where(yt == 1, q, 1 - q), eps, 1 - eps)).mean()
            expected[f"{key}/ece/positive/15 equal-width right-closed"] = binned_error(yt, q, 15)
        table = lambda y, s: {"label": y.tolist(), "score": s.tolist()}
        cases.append(case(name, table(yt, st) | {"calibration": table(yc, sc)}, expected))
    return cases


def multiclass():
    import torch
    from sklearn import metrics as sk
    from torchmetrics.functional.classification import multiclass_calibration_error

    def values(y, p):
        y, p = np.asarray(y), np.asarray(p)
        d, k = p.argmax(1), p.shape[1]
        out = {
            "accuracy": sk.accuracy_score(y, d), "balanced-accuracy": sk.balanced_accuracy_score(y, d),
            "brier/sum-over-classes": ((p - np.eye(k)[y]) ** 2).sum(1).mean(), "log-loss": sk.log_loss(y, p, labels=range(k)),
            "f1/macro": sk.f1_score(y, d, average="macro"), "f1/weighted": sk.f1_score(y, d, average="weighted"),
            "kappa/none": sk.cohen_kappa_score(y, d, labels=range(k)), "kappa/linear": sk.cohen_kappa_score(y, d, weights="linear", labels=range(k)),
            "kappa/quadratic": sk.cohen_kappa_score(y, d, weights="quadratic", labels=range(k)), "mcc": sk.matthews_corrcoef(y, d),
            "top2": sk.top_k_accuracy_score(y, p, k=2, labels=range(k)),
            "classes-without-cases": k - len(set(y)), "n": len(y),
            "ece/class-wise/15 equal-width": np.mean([binned_error(y == c, p[:, c], 15) for c in range(k)]),
        } | coverage(y == d, p.max(1))
        # torchmetrics computes in float32: no more than seven digits, so its bins are summed here in double.
        top, right = p.max(1), d == y
        b = np.clip(np.searchsorted(np.linspace(0, 1, 16), top, side="left") - 1, 0, 14)
        out["ece/top-label/15 equal-width"] = sum(np.mean(b == j) * abs(top[b == j].mean() - right[b == j].mean()) for j in set(b))
        near = multiclass_calibration_error(torch.tensor(p), torch.tensor(y), num_classes=k, n_bins=15, norm="l1")
        assert abs(out["ece/top-label/15 equal-width"] - near) < 1e-5, (out["ece/top-label/15 equal-width"], near)
        if set(y) == set(range(k)):
            for how in ["ovr", "ovo"]:
                out[f"auroc/{how}/macro"] = sk.roc_auc_score(y, p, multi_class=how)
            out["auroc/ovr/weighted"] = sk.roc_auc_score(y, p, multi_class="ovr", average="weighted")
        return out

    def soft(n, k, digits, strength=1.0):
        y = rng.integers(0, k, n)
        z = rng.normal(size=(n, k)) + strength * np.eye(k)[y]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        p = np.round(p, digits)
        p[:, -1] = np.round(1 - p[:, :-1].sum(1), 6)
        return y, np.clip(p, 0, 1)

    tables = {"four classes": soft(80, 4, 3), "three classes with ties": soft(60, 3, 1, 0.5), "a class without cases": None}
    y, p = soft(40, 4, 3)
    tables["a class without cases"] = (np.where(y == 3, 0, y), p)
    cases = [case(k, {"label": y.tolist(), "p": p.tolist()}, values(y, p)) for k, (y, p) in tables.items()]
    (yc, pc), (yt, pt) = soft(150, 3, 4, 1.5), soft(70, 3, 4, 1.5)
    temperature, after = tempered(yc, pc, pt)
    expected = {
        "temperature": temperature, "temperature-scaled/brier/sum-over-classes": ((after - np.eye(3)[yt]) ** 2).sum(1).mean(),
        "temperature-scaled/log-loss": -np.log(after[np.arange(70), yt]).mean(),
        "temperature-scaled/ece/top-label/15 equal-width": binned_error(after.argmax(1) == yt, after.max(1), 15),
    }
    table = lambda y, p: {"label": y.tolist(), "p": p.tolist()}
    cases.append(case("fitted on 150 cases", table(yt, pt) | {"calibration": table(yc, pc)}, expected))
    return cases


def multilabel():
    from sklearn import metrics as sk

    def values(y, s):
        d = (s >= 0.5).astype(int)
        out = {
            "n": len(y), "f1/macro": sk.f1_score(y, d, average="macro"), "f1/micro": sk.f1_score(y, d, average="micro"), "hamming": sk.hamming_loss(y, d),
            "findings-of-one-class": sum(len(set(c)) == 1 for c in y.T), "lrap": sk.label_ranking_average_precision_score(y, s), "subset-accuracy": sk.accuracy_score(y, d),
            "jaccard/samples": sk.jaccard_score(y, d, average="samples", zero_division=1), "coverage-error": sk.coverage_error(y, s),
        }
        mixed = [k for k in range(y.shape[1]) if 0 < y[:, k].sum() < len(y)]
        some = [k for k in range(y.shape[1]) if y[:, k].sum()]
        out["auroc/macro"] = np.mean([sk.roc_auc_score(y[:, k], s[:, k]) for k in mixed])
        out["map/macro"] = np.mean([sk.average_precision_score(y[:, k], s[:, k]) for k in some])
        return out

    s = np.round(rng.random((60, 5)), 2)
    y = (rng.random((60, 5)) < s * np.array([0.9, 0.7, 0.5, 0.3, 0.2])).astype(int)
    none = y.copy()
    none[:, 4] = 0
    none[:10] = 0
    tables = {"five findings": (y, s), "a finding nobody has, cases without any": (none, s)}
    return [case(k, {"y": y.tolist(), "s": s.tolist()}, values(y, s)) for k, (y, s) in tables.items()]


def survival():
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import multivariate_logrank_test
    from lifelines.utils import concordance_index, restricted_mean_survival_time
    from sksurv import metrics as sm
    from sksurv.nonparametric import kaplan_meier_estimator
    from sksurv.util import Surv

    def values(t, e, r, times, surv, tau, group):
        t, e, r = np.asarray(t, float), np.asarray(e, bool), np.asarray(r, float)
        truth = Surv.from_arrays(e, t)
        auc, mean = sm.cumulative_dynamic_auc(truth, truth, r, times)
        kt, ks = kaplan_meier_estimator(e, t)
        out = {
            "c/harrell/exact ties (lifelines)": concordance_index(t, -r, e),
            "c/harrell/tied_tol1e-8 (scikit-survival)": sm.concordance_index_censored(e, t, r)[0],
            "c/uno tau": sm.concordance_index_ipcw(truth, truth, r, tau=tau)[0],
            "auc/cumulative-dynamic": auc, "auc/cumulative-dynamic/mean": mean,
            "brier/ipcw": sm.brier_score(truth, truth, surv, times)[1], "ibs": sm.integrated_brier_score(truth, truth, surv, times),
            "km/time": kt, "km/surv": ks, "median-survival": KaplanMeierFitter().fit(t, e).median_survival_time_,
        }
        curve = KaplanMeierFitter().fit(t, e)
        out["rmst"] = restricted_mean_survival_time(curve, t=t.max())
        marginal = np.tile(curve.survival_function_at_times(times).values, (len(t), 1))
        out["ibs/kaplan-meier"] = sm.integrated_brier_score(truth, truth, marginal, times)
        out["events"], out["c/uno tau/value"], out["n"] = e.sum(), tau, len(t)
        out["brier/times"] = out["auc/cumulative-dynamic/times"] = times
        if group is not None:
            test = multivariate_logrank_test(t, group, e)
            out["logrank/chi2"], out["logrank/p"] = test.test_statistic, test.p_value
        return out

    def table(n, digits, groups):
        x = rng.normal(size=n)
        t = np.round(rng.exponential(5 * np.exp(-0.6 * x)) + 0.1, digits)
        c = np.round(rng.exponential(8, n) + 0.1, digits)
        r = np.round(x + 0.3 * rng.normal(size=n), digits)
        g = [f"g{i}" for i in rng.integers(0, groups, n)] if groups else None
        return np.minimum(t, c), (t <= c).astype(int), r, g

    cases = []
    toy = ([1, 2, 2, 3, 4, 5, 5, 6], [1, 1, 0, 1, 0, 1, 1, 0], [0.9, 0.7, 0.7, 0.8, 0.3, 0.4, 0.2, 0.2], ["a", "b"] * 4)
    tables = {"worked example": toy, "risks 1e-9 apart": ([1, 2, 3, 4], [1, 1, 1, 0], [0.5 + 1e-9, 0.5, 0.4, 0.3], None)}
    tables |= {"120 cases, two groups": table(120, 3, 2), "90 cases with ties, three groups": table(90, 0, 3), "60 cases": table(60, 1, 0)}
    for name, (t, e, r, g) in tables.items():
        t = np.asarray(t, float)
        times = np.array([1.5, 3.5, 4.5]) if "example" in name else np.round(np.quantile(t, [0.2, 0.4, 0.6, 0.8]) + 0.05, 3)
        if "1e-9" in name:
            times = np.array([1.5, 2.5])
        surv = np.round(np.exp(-np.outer(np.exp(0.5 * (np.asarray(r) - np.mean(r))), times) / t.mean()), 4)
        tau = float(np.quantile(t, 0.8)) + 0.01
        inputs = {"time": t.tolist(), "event": list(map(int, e)), "risk": list(map(float, r)), "group": g, "times": times.tolist(), "survival": surv.tolist()}
        cases.append(case(name, inputs, values(t, e, r, times, surv, tau, g), {"tau": tau}))
    return cases


def agreement():
    import krippendorff
    import pandas as pd
    from irrCAC.raw import CAC
    import pingouin as pg
    from scipy import stats
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    def values(x):
        full = x[~np.isnan(x).any(1)]
        long = pd.DataFrame([(i, j, v) for i, row in enumerate(full) for j, v in enumerate(row)], columns=["s", "r", "v"])
        icc = pg.intraclass_corr(long, targets="s", raters="r", ratings="v").set_index("Type")["ICC"]
        names = {"ICC1": "ICC(1,1)", "ICC2": "ICC(A,1)", "ICC3": "ICC(C,1)", "ICC1k": "ICC(1,k)", "ICC2k": "ICC(A,k)", "ICC3k": "ICC(C,k)"}
        out = {f"icc/{names.get(k, k)}": v for k, v in icc.items()}
        out["krippendorff/interval"] = krippendorff.alpha(x.T, level_of_measurement="interval")
        out["krippendorff/nominal"] = krippendorff.alpha(x.T, level_of_measurement="nominal")
        a, b = full[:, 0], full[:, 1]
        out["ccc"] = 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
        out["subjects"], out["complete-subjects"], out["raters"] = len(x), len(full), x.shape[1]
        d = full[:, 0] - full[:, 1]
        out["bland-altman/bias(r0-r1)"] = d.mean()
        out["bland-altman/loa-low"], out["bland-altman/loa-high"] = d.mean() - 1.96 * d.std(ddof=1), d.mean() + 1.96 * d.std(ddof=1)
        out["pearson(r0,r1)"], out["spearman(r0,r1)"] = stats.pearsonr(*full[:, :2].T)[0], stats.spearmanr(*full[:, :2].T)[0]
        if (full == full.round()).all():
            a, b = full[:, 0].astype(int), full[:, 1].astype(int)
            out["cohen-kappa(r0,r1)"] = cohen_kappa_score(a, b)
            out["cohen-kappa/quadratic(r0,r1)"] = cohen_kappa_score(a, b, weights="quadratic")
            out["fleiss-kappa"] = fleiss_kappa(aggregate_raters(full.astype(int))[0])
            # irrCAC rounds to five digits: the formula, and the package beside it.
            votes = aggregate_raters(full.astype(int))[0]
            k, q = votes.sum(1)[0], votes.sum(0) / votes.sum()
            chance = (q * (1 - q)).sum() / (len(q) - 1)
            out["gwet-ac1"] = ((votes * (votes - 1)).sum(1) / (k * (k - 1)) - chance).mean() / (1 - chance)
            near = CAC(pd.DataFrame(full.astype(int))).gwet()["est"]["coefficient_value"]
            assert abs(out["gwet-ac1"] - near) < 2e-5, (out["gwet-ac1"], near)
            out["mos"] = full.mean()
        return out

    base = rng.normal(50, 10, (20, 1))
    volumes = np.round(base + rng.normal(0, 3, (20, 3)) + np.array([0, 2, -1]), 1)
    opinions = np.clip(np.round(rng.normal(3, 1, (25, 1)) + rng.normal(0, 0.7, (25, 4))), 1, 5)
    missing = volumes.copy()
    missing[[1, 5, 9], [0, 2, 1]] = np.nan
    tables = {"volumes, three raters": volumes, "opinions, four raters": opinions, "missing ratings": missing, "two raters": volumes[:8, :2]}
    rows = lambda x: [[None if np.isnan(v) else float(v) for v in row] for row in x]
    return [case(k, {"rows": rows(x)}, values(x)) for k, x in tables.items()]


def fairness():
    from fairlearn import metrics as fm
    from sklearn import metrics as sk

    def values(y, s, g):
        d = (s >= 0.5).astype(int)
        auc = [sk.roc_auc_score(y[g == k], s[g == k]) for k in np.unique(g) if 0 < y[g == k].sum() < (g == k).sum()]
        return {
            "auroc-gap": max(auc) - min(auc), "worst-group-auroc": min(auc),
            "worst-group-accuracy": fm.MetricFrame(metrics=sk.accuracy_score, y_true=y, y_pred=d, sensitive_features=g).group_min(),
            "demographic-parity-diff": fm.demographic_parity_difference(y, d, sensitive_features=g),
            "disparate-impact": fm.demographic_parity_ratio(y, d, sensitive_features=g),
            "equal-opportunity-diff": fm.equal_opportunity_difference(y, d, sensitive_features=g),
            "predictive-parity-diff": fm.MetricFrame(metrics=sk.precision_score, y_true=y, y_pred=d, sensitive_features=g).difference(),
            "groups": len(np.unique(g)), "groups-of-one-class": sum(len(set(y[g == k])) == 1 for k in np.unique(g)),
            "equalized-odds-diff": fm.equalized_odds_difference(y, d, sensitive_features=g),
            "calibration-gap": np.ptp([binned_error(y[g == k], s[g == k], 10) for k in np.unique(g)]),
            "equity-scaled-auroc": sk.roc_auc_score(y, s) / (1 + sum(abs(sk.roc_auc_score(y, s) - a) for a in auc)),
        }

    cases = []
    for name, n, k in [("two groups", 60, 2), ("four groups", 120, 4)]:
        s, g = np.round(rng.random(n), 2), np.array([f"site{i}" for i in rng.integers(0, k, n)])
        y = (rng.random(n) < s).astype(int)
        cases.append(case(name, {"label": y.tolist(), "score": s.tolist(), "group": g.tolist()}, values(y, s, g)))
    return cases


def conformal():
    cases = []
    for name, n, alpha in [("alpha 0.1", 50, 0.1), ("alpha 0.2, ties", 39, 0.2)]:
        def soft(m):
            y = rng.integers(0, 4, m)
            z = rng.normal(size=(m, 4)) + 1.5 * np.eye(4)[y]
            p = np.round(np.exp(z) / np.exp(z).sum(1, keepdims=True), 2 if "ties" in name else 4)
            p[:, -1] = np.round(1 - p[:, :-1].sum(1), 6)
            return y, np.clip(p, 0, 1)

        (yc, pc), (yt, pt) = soft(n), soft(30)
        score = 1 - pc[np.arange(n), yc]
        q = np.quantile(score, np.ceil((n + 1) * (1 - alpha)) / n, method="higher")
        sets = 1 - pt <= q
        expected = {"qhat": q, "qhat/exact-rank": np.sort(score)[int(np.ceil((n + 1) * (1 - alpha))) - 1], "mean-set-size": sets.sum(1).mean(), "coverage": sets[np.arange(30), yt].mean(), "alpha": alpha, "empty-sets": (sets.sum(1) == 0).mean(), "worst-class-coverage": min(sets[yt == k, k].mean() for k in set(yt))}
        inputs = {"calibration": {"label": yc.tolist(), "p": pc.tolist()}, "test": {"label": yt.tolist(), "p": pt.tolist()}}
        cases.append(case(name, inputs, expected, {"alpha": alpha}))
    return cases


def tests():
    import pingouin as pg
    from scipy import stats
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests

    cases = []
    pairs = {
        "12 pairs": (12, 3), "40 pairs": (40, 4), "60 pairs": (60, 4), "10 pairs with ties and zeros": (10, 1), "30 pairs with ties and zeros": (30, 1),
    }
    for name, (n, digits) in pairs.items():
        a = np.round(rng.normal(0.8, 0.4, n), digits)
        b = np.round(a - rng.normal(0.1, 0.3, n), digits)
        w = stats.wilcoxon(a, b)
        expected = {
            "wilcoxon/stat": w.statistic, "wilcoxon/p/auto": w.pvalue, "spearman": stats.spearmanr(a, b)[0],
            "wilcoxon/rank-biserial": pg.wilcoxon(a, b)["RBC"].iloc[0],
            "pearson": stats.pearsonr(a, b)[0], "kendall-tau-b": stats.kendalltau(a, b)[0],
        }
        if n <= 12:
            d = a - b
            signs = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) * 2 - 1
            expected["permutation/sign-flip/p"] = np.mean(np.abs((signs * d).mean(1)) >= abs(d.mean()) * (1 - 1e-12))
        cases.append(case(name, {"a": a.tolist(), "b": b.tolist()}, expected))
    for b, c in [(0, 0), (3, 9), (12, 12), (40, 61), (300, 260)]:
        m = [[50, b], [c, 20]]
        expected = {"mcnemar/exact/p": mcnemar(m, exact=True).pvalue}
        if b + c:
            chi = mcnemar(m, exact=False, correction=True)
            expected |= {"mcnemar/chi2 with continuity/stat": chi.statistic, "mcnemar/chi2 with continuity/p": chi.pvalue}
        cases.append(case(f"2 x 2 with {b} and {c}", {"table": m}, expected))
    for name, p in {"seven p-values": [0.01, 0.04, 0.03, 0.005, 0.5, 0.04, 1.0], "one p-value": [0.03]}.items():
        expected = {"holm/adjusted": multipletests(p, method="holm")[1], "bh/adjusted": multipletests(p, method="fdr_bh")[1]}
        cases.append(case(name, {"p": p}, expected))
    from MLstatkit import Delong_test

    for name, n, digits in [("two scores of 60 cases", 60, 3), ("two scores with ties", 50, 1)]:
        y = (rng.random(n) < 0.4).astype(int)
        a, b = (np.round(np.clip(0.3 + w * y + 0.25 * rng.normal(size=n), 0, 1), digits) for w in (0.35, 0.2))
        z, p, _, _, area_a, area_b, *_ = Delong_test(y, a, b)
        # Its z is of the second score against the first.
        expected = {"delong/auroc-difference": area_a - area_b, "delong/z": -z, "delong/p": p}
        cases.append(case(name, {"label": y.tolist(), "a": a.tolist(), "b": b.tolist()}, expected))
    return cases


def text():
    import sacrebleu
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.bleu_score import corpus_bleu
    from nltk.translate.meteor_score import meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    import re

    class NoSynonyms:
        def synsets(self, _):
            return []

    words = lambda s: re.findall("[a-z0-9]+", s.lower())

    def values(pairs):
        out = {}
        for stem in [0, 1]:
            scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=bool(stem))
            for k in ["rouge1", "rouge2", "rougeL"]:
                out[f"{k}-f/stem{stem}"] = np.mean([scorer.score(r, h)[k].fmeasure for r, h in pairs])
        refs, hyps = [r for r, _ in pairs], [h for _, h in pairs]
        out["bleu/sacrebleu 13a exp"] = sacrebleu.corpus_bleu(hyps, [refs]).score
        out["chrf2/sacrebleu"] = sacrebleu.corpus_chrf(hyps, [refs]).score
        if any(words(h) for h in hyps):
            out["bleu4/nltk, lower alnum tokens, no smoothing"] = corpus_bleu([[words(r)] for r in refs], [words(h) for h in hyps])

        def f1(r, h):
            r, h = words(r), words(h)
            if not r and not h:
                return 1.0
            both = sum(min(r.count(w), h.count(w)) for w in set(r))
            return 2 * both / (len(r) + len(h))

        out["n"], out["empty-hypotheses"] = len(pairs), sum(not words(h) for h in hyps)
        out["token-f1/lower alnum"] = np.mean([f1(r, h) for r, h in pairs])
        out["exact-match/lower alnum"] = np.mean([words(r) == words(h) for r, h in pairs])
        out["meteor-es/alpha.9 beta3 gamma.5"] = np.mean([meteor_score([words(r)], words(h), wordnet=NoSynonyms()) for r, h in pairs])
        return out

    report = [
        ("There is no evidence of acute cardiopulmonary disease. Heart size is normal.", "No acute cardiopulmonary disease is seen; the heart is normal in size."),
        ("Stable 2.5-cm nodule in the right upper lobe, unchanged since 2019.", "A stable nodule of 2.5 cm in the right upper lobe is unchanged."),
        ("Bilateral pleural effusions with overlying atelectasis.", "Small bilateral effusions and atelectatic changes."),
    ]
    hard = [("Normal study.", "normal study"), ("", "words"), ("words", ""), ("Radiologically relational, hopeful; geologies!", "relation hopefully & geology (radical)")]
    sets = {"one pair": report[:1], "three reports": report, "short and empty": hard, "equal": [(r, r) for r, _ in report], "nothing shared": [("abc def ghi jkl", "mno pqr stu vwx")]}
    cases = [case(k, {"pairs": v}, values(v)) for k, v in sets.items()]

    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    found = [(["edema", "effusion"], ["effusion"]), ([], []), (["fracture"], ["edema", "fracture"]), (["effusion"], [])]
    binarizer = MultiLabelBinarizer().fit([l for pair in found for l in pair])
    r, h = (binarizer.transform([pair[i] for pair in found]) for i in (0, 1))
    vectors = [(np.round(rng.normal(size=(n, 6)), 3), np.round(rng.normal(size=(m, 6)), 3)) for n, m in [(4, 3), (2, 5), (1, 1), (3, 3)]]
    scores = []
    for a, b in vectors:  # as bert_score.utils.greedy_cos_idf without idf
        c = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
        p, q = c.max(0).mean(), c.max(1).mean()
        scores.append((p, q, 2 * p * q / (p + q)))
    expected = {f"label-f1/{k}": f1_score(r, h, average=k, zero_division=1) for k in ["micro", "macro", "samples"]}
    expected |= dict(zip(["bertscore-matching/precision", "bertscore-matching/recall", "bertscore-matching/f1"], np.mean(scores, axis=0)))
    inputs = {"pairs": [("a", "a")] * 4, "labels": found, "vectors": [(a.tolist(), b.tolist()) for a, b in vectors]}
    cases.append(case("labels and vectors", inputs, expected))
    return cases


# ---------------------------------------------------------------- images


def runs(mask):
    """Lengths of alternating runs, background first."""
    flat = np.asarray(mask).ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.r_[0, edges, flat.size]).tolist()
    return ([0] + lengths) if flat[0] else lengths


def ellipsoid(size, centre, radius):
    g = np.indices(size)
    return sum(((g[i] - centre[i]) / radius[i]) ** 2 for i in range(3)) <= 1


def mask_pairs():
    a = lambda: np.zeros((16, 48, 48), bool)
    organ = ellipsoid((16, 48, 48), (8, 24, 22), (5, 13, 11))
    moved = ellipsoid((16, 48, 48), (8.4, 25.5, 22), (5, 12, 11.5))
    speck, blob = organ.copy(), organ.copy()
    speck[1:3, 1:3, 44:46] = True
    blob[:3, :10, :10] = True
    sphere = ellipsoid((24, 24, 24), (11, 11, 11), (8, 8, 8))
    shifted = ellipsoid((24, 24, 24), (11, 11, 12), (8, 8, 8))
    full = np.ones((6, 6, 6), bool)
    cut = full.copy()
    cut[5] = False
    one, two = np.zeros((5, 7, 7), bool), np.zeros((5, 7, 7), bool)
    one[2, 3, 2] = two[2, 3, 4] = True
    noise = [rng.random((10, 12, 14)) < p for p in (0.2, 0.25)]
    g = np.indices((20, 30, 30))
    tube = lambda dy, r: (g[1] - 15 - dy - 8 * np.sin(g[0] / 6)) ** 2 + (g[2] - 15) ** 2 <= r * r
    blobs = [sum(ellipsoid((14, 30, 30), c, (2, 2.5, 2.5)) for c in cs) > 0 for cs in (((4, 6, 6), (8, 20, 9), (9, 9, 22)), ((4, 7, 7), (8, 19, 10), (10, 24, 24)))]
    empty = np.zeros((5, 7, 7), bool)
    return {
        "anisotropic ellipsoids": (organ, moved, (5.0, 1.0, 1.0), 1.0),
        "a far speck": (organ, speck, (5.0, 1.0, 1.0), 1.0),
        "a blob in the corner": (organ, blob, (5.0, 1.0, 1.0), 1.0),
        "sphere moved by a voxel": (sphere, shifted, (1.0, 1.0, 1.0), 1.0),
        "full volume, a slab missing": (full, cut, (1.0, 1.0, 1.0), 1.0),
        "one voxel each": (one, two, (5.0, 1.0, 1.0), 1.0),
        "noise": (*noise, (2.0, 0.8, 0.7), 0.9),
        "tubes": (tube(0, 3), tube(1, 2.2), (1.0, 0.9, 0.9), 1.0),
        "three lesions": (*blobs, (3.0, 0.7, 0.7), 2.0),
        "both empty": (empty, empty, (5.0, 1.0, 1.0), 1.0),
        "prediction empty": (one, empty, (5.0, 1.0, 1.0), 1.0),
        "reference empty": (empty, one, (5.0, 1.0, 1.0), 1.0),
    }


def mask_input(ref, pred, spacing):
    return {"size": list(ref.shape), "spacing": list(spacing), "reference": runs(ref), "prediction": runs(pred)}


def seg():
    import SimpleITK as sitk
    import surface_distance as sd
    import torch
    from medpy.metric import binary as mp
    from monai import metrics as mm
    from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn
    from scipy.ndimage import center_of_mass
    from skimage.morphology import skeletonize
    from sklearn.metrics import accuracy_score

    def values(ref, pred, spacing, tolerance):
        some = ref.any() and pred.any()
        out = {"pixel-accuracy": accuracy_score(ref.ravel(), pred.ravel())}
        tp, fp, fn, _ = compute_tp_fp_fn_tn(ref, pred)
        out["dice/nnunet"] = np.nan if tp + fp + fn == 0 else 2 * tp / (2 * tp + fp + fn)
        out["iou/nnunet"] = np.nan if tp + fp + fn == 0 else tp / (tp + fp + fn)
        for name, mask in {"ref": ref, "pred": pred}.items():
            image = sitk.GetImageFromArray(mask.astype(np.uint8))
            image.SetSpacing(spacing[::-1])
            shapes = sitk.LabelShapeStatisticsImageFilter()
            shapes.Execute(image)
            out[f"volume-ml/{name}"] = shapes.GetPhysicalSize(1) / 1000 if shapes.HasLabel(1) else 0.0
        r, p = (torch.tensor(m[None, None].astype(np.float32)) for m in (ref, pred))
        out["dice/monai"] = mm.compute_dice(p, r)[0, 0]
        out["hd/voxel/monai"] = mm.compute_hausdorff_distance(p, r, include_background=True, spacing=spacing)[0, 0]
        out["hd95/max-directed/voxel/monai"] = mm.compute_hausdorff_distance(p, r, include_background=True, spacing=spacing, percentile=95)[0, 0]
        out["asd/pred-to-ref/voxel/monai"] = mm.compute_average_surface_distance(p, r, include_background=True, spacing=spacing)[0, 0]
        out["assd/pooled/voxel/monai"] = mm.compute_average_surface_distance(p, r, include_background=True, symmetric=True, spacing=spacing)[0, 0]
        out["nsd/voxel/monai"] = mm.compute_surface_dice(p, r, [tolerance], include_background=True, spacing=spacing)[0, 0]
        if ref.any() or pred.any():
            out["dice/medpy"] = mp.dc(pred, ref)
        if some:
            out["hd/voxel/medpy"] = mp.hd(pred, ref, voxelspacing=spacing)
            out["hd95/pooled/voxel/medpy"] = mp.hd95(pred, ref, voxelspacing=spacing)
            out["assd/pooled/voxel/medpy"] = mp.assd(pred, ref, voxelspacing=spacing)
            out["sensitivity-voxel"], out["ppv-voxel"] = mp.sensitivity(pred, ref), mp.precision(pred, ref)
            d = sd.compute_surface_distances(ref, pred, spacing)
            out["nsd/surfel/deepmind"] = sd.compute_surface_dice_at_tolerance(d, tolerance)
            out["hd/surfel/deepmind"] = sd.compute_robust_hausdorff(d, 100)
            out["hd95/surfel/deepmind"] = sd.compute_robust_hausdorff(d, 95)
            out["asd/ref-to-pred/surfel/deepmind"], out["asd/pred-to-ref/surfel/deepmind"] = sd.compute_average_surface_distance(d)
            areas = d["surfel_areas_gt"].sum(), d["surfel_areas_pred"].sum()
            out["assd/surfel"] = (out["asd/ref-to-pred/surfel/deepmind"] * areas[0] + out["asd/pred-to-ref/surfel/deepmind"] * areas[1]) / sum(areas)
            out["centre-distance-mm"] = np.linalg.norm((np.array(center_of_mass(ref)) - center_of_mass(pred)) * spacing)
            out["surface-area-mm2/ref"], out["surface-area-mm2/pred"] = d["surfel_areas_gt"].sum(), d["surfel_areas_pred"].sum()
            images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (ref, pred)]
            [i.SetSpacing(spacing[::-1]) for i in images]
            f = sitk.HausdorffDistanceImageFilter()
            f.Execute(*images)
            out["hd/itk"], out["hd-average/itk"] = f.GetHausdorffDistance(), f.GetAverageHausdorffDistance()
            o = sitk.LabelOverlapMeasuresImageFilter()
            o.Execute(images[0], images[1])
            out["voe"], out["volume-similarity"] = 1 - o.GetJaccardCoefficient(), 1 - abs(o.GetVolumeSimilarity()) / 2
            out["dice/itk"], out["volume-similarity/itk"] = o.GetDiceCoefficient(), -o.GetVolumeSimilarity()
            sr, sp = skeletonize(ref, method="lee") > 0, skeletonize(pred, method="lee") > 0
            precision, recall = (sp & ref).sum() / sp.sum(), (sr & pred).sum() / sr.sum()
            out["cldice/lee-skimage"], out["skeleton-recall/lee-skimage"] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0, recall
        if RELOADED:
            from MetricsReloaded.metrics.pairwise_measures import BinaryPairwiseMeasures as B

            # MetricsReloaded 0.1 compares a bound method with 0 in places: only what runs is taken.
            b = B(pred.astype(np.uint8), ref.astype(np.uint8), pixdim=list(spacing), dict_args={"nsd": tolerance, "boundary_dist": 2, "hd_perc": 95})
            for key, call in {
                "dice/metricsreloaded": b.dsc, "iou/metricsreloaded": b.intersection_over_union, "hd/voxel/metricsreloaded": b.measured_hausdorff_distance,
                "hd95/max-directed/voxel/metricsreloaded": b.measured_hausdorff_distance_perc, "assd/pooled/voxel/metricsreloaded": b.measured_average_distance,
                "masd/voxel/metricsreloaded": b.measured_masd, "nsd/voxel/metricsreloaded": b.normalised_surface_distance, "boundary-iou/d2vox/metricsreloaded": b.boundary_iou,
            }.items():
                out[key] = call()
        return out

    return [case(k, mask_input(r, p, s), values(r, p, s, t), {"tolerance": t}) for k, (r, p, s, t) in mask_pairs().items()]


def lesion():
    import cc3d
    import torch
    from torchmetrics.functional.detection import panoptic_quality

    cases = []
    for name, (ref, pred, spacing, _) in mask_pairs().items():
        for connectivity in [26, 18, 6]:
            (lr, nr), (lp, np_) = (cc3d.connected_components(m, connectivity=connectivity, return_N=True) for m in (ref, pred))
            ml = np.prod(spacing) / 1000
            hit = [i for i in range(1, nr + 1) if pred[lr == i].any()]
            false = [j for j in range(1, np_ + 1) if not ref[lp == j].any()]
            dice = 0.0
            for i in hit:
                touching = np.isin(lp, np.setdiff1d(np.unique(lp[lr == i]), [0]))
                dice += 2 * (touching & (lr == i)).sum() / (touching.sum() + (lr == i).sum())
            none = nr + np_ == 0
            expected = {
                "n_ref": nr, "n_pred": np_, "detected/any-overlap": len(hit), "sensitivity": len(hit) / nr if nr else np.nan, "fp-components/any-overlap": len(false),
                "f1/any-overlap (TP=detected ref)": 1.0 if none else 2 * len(hit) / (len(hit) + nr + len(false)),
                "fp-volume-ml": np.isin(lp, false).sum() * ml, "fn-volume-ml": np.isin(lr, [i for i in range(1, nr + 1) if i not in hit]).sum() * ml,
                "lesionwise-dice/sum over ref, FP add zero": 1.0 if none else dice / (nr + len(false)),
            }
            if np_:
                expected["precision/any-overlap"] = (np_ - len(false)) / np_
            if not none:
                # One class of things; the background is stuff of its own and is left out of the numbers.
                maps = [torch.tensor(np.stack([l > 0, l], -1).reshape(1, -1, 2).astype(np.int64)) for l in (lp, lr)]
                pq = panoptic_quality(*maps, things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
                row = pq.reshape(-1, 3)[0]
                expected["panoptic/pq"], expected["panoptic/sq"], expected["panoptic/rq"] = row
            cases.append(case(f"{name}, {connectivity}", mask_input(ref, pred, spacing), expected, {"connectivity": connectivity}))
    return cases


def image():
    import torch
    from monai.metrics import MultiScaleSSIMMetric, SSIMMetric
    from scipy.stats import entropy
    from skimage import metrics as sm
    from sklearn.metrics import mutual_info_score

    cases = []
    for name, size, noise in [("2D", (40, 52), 0.1), ("3D", (14, 18, 16), 0.05), ("3D, strong noise", (12, 13, 21), 0.5)]:
        g = np.indices(size)
        a = np.round(0.5 + 0.4 * np.sin(sum(g) / 5.0) * np.cos(g[-1] / 7.0), 3)
        b = np.round(a + noise * rng.normal(size=size), 3)
        ssim = lambda **k: sm.structural_similarity(a, b, data_range=1.0, **k)
        expected = {
            "mse": sm.mean_squared_error(a, b), "mae": np.abs(a - b).mean(), "nmse": ((a - b) ** 2).sum() / (a**2).sum(), "psnr": sm.peak_signal_noise_ratio(a, b, data_range=1.0),
            "nrmse/euclidean": sm.normalized_root_mse(a, b), "ssim/uniform7/sample-cov (skimage default)": ssim(), "ssim/uniform7/population": ssim(use_sample_covariance=False),
            "ssim/gauss11 s1.5/population/valid (skimage)": ssim(gaussian_weights=True, sigma=1.5, use_sample_covariance=False), "ncc": np.corrcoef(a.ravel(), b.ravel())[0, 1],
        }
        # The bins of numpy's joint histogram, in nats.
        joint = np.histogram2d(a.ravel(), b.ravel(), bins=32)[0]
        expected["mutual-information/32 bins"] = mutual_info_score(None, None, contingency=joint)
        expected["nmi/32 bins"] = (entropy(joint.sum(1)) + entropy(joint.sum(0))) / entropy(joint.ravel())
        if len(size) == 3:
            slices = [sm.structural_similarity(u, v, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False) for u, v in zip(a, b)]
            expected["ssim/slice-mean/gauss11"] = np.mean(slices)
        cases.append(case(name, {"size": ([1] + list(size))[-3:], "reference": a.ravel().tolist(), "image": b.ravel().tolist()}, expected, {"data_range": 1.0}))
    # Large enough for five scales; made by formula on both sides, since 176 x 192 numbers are no small file.
    y, x = np.indices((176, 192))
    a = ((x * 7 + y * 13) % 101) / 100
    b = np.clip(a + ((x * 3 + y * 5) % 17 - 8) / 100, 0, 1)
    t = lambda v: torch.tensor(v[None, None])
    value = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0, kernel_size=11, kernel_sigma=1.5)(t(b), t(a))[0, 0]
    cases.append(case("five scales", {"formula": [1, 176, 192]}, {"ms-ssim/5 scales": value}, {"data_range": 1.0}))
    map_ = rng.integers(0, 3, size=(4, 12, 13))
    a, b = (np.round(map_ * 0.25 + 0.1 * rng.normal(size=map_.shape), 3) for _ in range(2))
    expected = {}
    for key, v in {"image": b, "reference": a}.items():
        one, two, air = (v[map_ == k] for k in (1, 2, 0))
        expected[f"tct/{key}"] = abs(one.mean() - two.mean()) / np.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 2)
        expected[f"cnr/{key}"], expected[f"snr/{key}"] = abs(one.mean() - two.mean()) / air.std(ddof=1), one.mean() / air.std(ddof=1)
    cases.append(case("two tissues", {"tissues": map_.ravel().tolist(), "reference": a.ravel().tolist(), "image": b.ravel().tolist()}, expected))
    return cases


def registration():
    cases = []
    for name, n, noise in [("twenty landmarks", 20, 2.0), ("one landmark", 1, 1.0), ("all right", 5, 0.0)]:
        fixed = np.round(rng.random((n, 3)) * 100, 2)
        moved = np.round(fixed + noise * rng.normal(size=(n, 3)), 2)
        d = np.sort(np.linalg.norm(fixed - moved, axis=1))
        expected = {"tre/mean": d.mean(), "tre/median": np.median(d), "tre/max": d.max(), "tre30": d[-max(1, -(-3 * n // 10)):].mean()}
        cases.append(case(name, {"fixed": fixed.tolist(), "moved": moved.tolist()}, expected))
    for name, size, strength in [("smooth", (7, 8, 9), 0.1), ("folding", (6, 9, 7), 1.5), ("no motion", (4, 4, 5), 0.0)]:
        field = np.round(strength * rng.normal(size=(3, *size)), 4)
        slopes = np.stack([np.stack(np.gradient(part)) for part in field])[:, :, 1:-1, 1:-1, 1:-1]
        determinant = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3))
        expected = {
            "folding-ratio": (determinant <= 0).mean(), "sdlogj": np.log(np.maximum(determinant, 1e-9)).std(),
            "jacobian/min": determinant.min(), "jacobian/max": determinant.max(),
        }
        cases.append(case(name, {"size": list(size), "field": field.ravel().tolist()}, expected))
    return cases


def features():
    import contextlib
    import io

    import torch
    from prdc import compute_prdc
    from scipy.linalg import sqrtm
    from torchmetrics.image.inception import InceptionScore

    cases = []
    for name, n, m, d in [("fewer rows than features", 12, 15, 20), ("more rows than features", 60, 50, 6), ("equal sets", 20, 20, 5), ("rank one", 10, 10, 4)]:
        x, y = np.round(rng.normal(size=(n, d)), 3), np.round(rng.normal(0.3, 1.2, size=(m, d)), 3)
        if name == "equal sets":
            y = x
        if name == "rank one":
            x = np.outer(np.arange(n), np.ones(d)) / 10
            y = np.round(x * 1.5 + 0.25, 3)
        c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        root = np.sqrt(np.clip(np.linalg.eigvals(c1 @ c2).real, 0, None)).sum() if "rank" in name or "fewer" in name else np.trace(sqrtm(c1 @ c2)).real
        k = lambda a, b: (a @ b.T / d + 1) ** 3
        off = lambda q: (q.sum() - np.trace(q)) / (len(q) * (len(q) - 1))
        gauss = lambda a, b: np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 200)
        expected = {
            "fid/cov ddof1": ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * root,
            "n/real": n, "n/generated": len(y),
            "kid/unbiased full set/poly3": off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean(),
            "cmmd/gauss sigma10 x1000 biased": 1000 * (gauss(x, x).mean() + gauss(y, y).mean() - 2 * gauss(x, y).mean()),
        }
        # On a line all neighbours are equally far: rounding decides.
        if name != "rank one":
            names = {"precision": "precision/k5 manifold", "recall": "recall/k5 manifold", "density": "density/k5", "coverage": "coverage/k5"}
            with contextlib.redirect_stdout(io.StringIO()):
                expected |= {names[k]: v for k, v in compute_prdc(x, y, nearest_k=5).items()}
        cases.append(case(name, {"real": x.tolist(), "generated": y.tolist()}, expected))

    class Logits(torch.nn.Module):
        num_features = 5

        def forward(self, rows):
            return rows

    for name, n, sharp in [("class probabilities", 43, 3.0), ("unsure class probabilities", 20, 0.2)]:
        z = np.round(sharp * rng.normal(size=(n, 5)), 3)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        score = InceptionScore(feature=Logits(), splits=1).set_dtype(torch.float64)
        score.features = [torch.tensor(z)]
        split = lambda q: np.exp((q * np.log(q / q.mean(0))).sum(1).mean())
        parts = [split(p[i * (n // 10):(i + 1) * (n // 10)]) for i in range(10)]
        expected = {"is/whole set": score.compute()[0], "is/10 splits/mean": np.mean(parts), "is/10 splits/sd": np.std(parts)}
        cases.append(case(name, {"class_probabilities": p.tolist()}, expected))
    a, b = (np.round(rng.normal(size=(2, 3, 4, 5)), 3) for _ in range(2))
    unit = lambda t: torch.nn.functional.normalize(torch.tensor(t), dim=1)
    expected = {"lpips/unit weights": ((unit(a) - unit(b)) ** 2).sum(1).mean()}
    cases.append(case("stacks of features", {"shape": [2, 3, 20], "stacks": [a.ravel().tolist(), b.ravel().tolist()]}, expected))
    return cases


# ---------------------------------------------------------------- detection


def detection2d():
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def values(images, targets, detections, classes):
        gt = COCO()
        gt.dataset = {"images": [{"id": i} for i in images], "categories": [{"id": c} for c in classes], "annotations": [dict(t, id=i + 1, area=t["bbox"][2] * t["bbox"][3]) for i, t in enumerate(targets)]}
        with contextlib.redirect_stdout(io.StringIO()):
            gt.createIndex()
            e = COCOeval(gt, gt.loadRes([dict(d) for d in detections]), "bbox")
            e.evaluate(), e.accumulate(), e.summarize()
        keys = ["ap@[.5:.95]/coco101", "ap@.5/coco101", "ap@.75/coco101"]
        counts = {"targets": sum(not t["iscrowd"] for t in targets), "detections": len(detections), "images": len({v["image_id"] for v in targets + detections})}
        return counts | dict(zip(keys, e.stats[:3])) | {"ar@1": e.stats[6], "ar@10": e.stats[7], "ar@100": e.stats[8]}

    cases = []
    for name, n, classes, crowd in [("two classes", 8, [1, 2], False), ("crowds and a class without targets", 6, [1, 2, 3], True)]:
        targets, detections = [], []
        for i in range(1, n + 1):
            for _ in range(rng.integers(0, 5)):
                c = int(rng.choice(classes[:2]))
                box = np.round(np.r_[rng.random(2) * 80, 8 + rng.random(2) * 30], 1).tolist()
                targets.append({"image_id": i, "category_id": c, "bbox": box, "iscrowd": int(crowd and rng.random() < 0.2)})
                for _ in range(rng.integers(0, 3)):
                    moved = np.round(np.array(box) + rng.normal(0, 2, 4), 1).tolist()
                    detections.append({"image_id": i, "category_id": int(rng.choice(classes) if rng.random() < 0.2 else c), "bbox": moved, "score": round(float(rng.random()), 2)})
            for _ in range(rng.integers(0, 3)):
                box = np.round(np.r_[rng.random(2) * 80, 8 + rng.random(2) * 30], 1).tolist()
                detections.append({"image_id": i, "category_id": int(rng.choice(classes)), "bbox": box, "score": round(float(rng.random()), 2)})
        expected = values(range(1, n + 1), targets, detections, classes)
        curves = plain_curves(targets, detections, 2, 0.5)
        expected["ap@.5/11-point"] = np.mean([c[1] for c in curves])
        expected["ap@.5/all-point"] = np.mean([c[2] for c in curves])
        assert abs(np.mean([c[0] for c in curves]) - expected["ap@.5/coco101"]) < 1e-9
        cases.append(case(name, {"targets": targets, "detections": detections}, expected))
    return cases


def plain_curves(targets, detections, axes, overlap):
    """Per class: 101-point, 11-point and all-point average precision and last recall, matched as COCO does."""

    def iou(d, t, crowd):
        d, t = np.asarray(d), np.asarray(t)
        side = np.minimum(d[:axes] + d[axes:], t[:axes] + t[axes:]) - np.maximum(d[:axes], t[:axes])
        both = np.prod(np.maximum(side, 0))
        return both / (np.prod(d[axes:]) if crowd else np.prod(d[axes:]) + np.prod(t[axes:]) - both)

    out = []
    for c in sorted({t["category_id"] for t in targets}):
        own = [t for t in targets if t["category_id"] == c]
        count = sum(not t["iscrowd"] for t in own)
        if not count:
            continue
        found = sorted((d for d in detections if d["category_id"] == c), key=lambda d: (d["image_id"], -d["score"]))
        taken, hits = set(), []
        for d in found:
            fits = [(iou(d["bbox"], t["bbox"], t["iscrowd"]), -t["iscrowd"], i) for i, t in enumerate(own) if t["image_id"] == d["image_id"] and i not in taken]
            free = [f for f in fits if f[0] >= overlap and not own[f[2]]["iscrowd"]]
            crowd = [f for f in fits if f[0] >= overlap and own[f[2]]["iscrowd"]]
            if free:
                taken.add(max(free)[2])
            hits.append(1 if free else None if crowd else 0)
        order = sorted(range(len(found)), key=lambda i: -found[i]["score"])
        h = np.array([hits[i] for i in order if hits[i] is not None], float)
        recall, precision = np.cumsum(h) / count, np.cumsum(h) / np.arange(1, len(h) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        at = lambda points: np.mean([best[np.searchsorted(recall, r)] if len(h) and r <= recall[-1] else 0.0 for r in points])
        area = (np.diff(np.r_[0.0, recall]) * best).sum()
        out.append((at(np.linspace(0, 1, 101)), at(np.linspace(0, 1, 11)), area, recall[-1] if len(h) else 0.0))
    return out


def detection3d():
    cases = []
    for name, n, classes in [("one class", 6, [1]), ("two classes", 9, [1, 2])]:
        targets, detections = [], []
        for i in range(1, n + 1):
            for _ in range(rng.integers(0, 4)):
                c = int(rng.choice(classes))
                box = np.round(np.r_[rng.random(3) * 60, 6 + rng.random(3) * 20], 1)
                targets.append({"image_id": i, "category_id": c, "bbox": box.tolist(), "iscrowd": 0})
                for _ in range(rng.integers(0, 3)):
                    moved = np.round(box + rng.normal(0, 2.5, 6), 1)
                    moved[3:] = np.maximum(moved[3:], 1)
                    detections.append({"image_id": i, "category_id": c, "bbox": moved.tolist(), "score": round(float(rng.random()), 3)})
            for _ in range(rng.integers(0, 2)):
                box = np.round(np.r_[rng.random(3) * 60, 6 + rng.random(3) * 20], 1).tolist()
                detections.append({"image_id": i, "category_id": int(rng.choice(classes)), "bbox": box, "score": round(float(rng.random()), 3)})
        curves = {t: plain_curves(targets, detections, 3, t) for t in [0.1 + 0.05 * k for k in range(9)]}
        each = [np.mean([c[0] for c in v]) for v in curves.values()]
        expected = {
            "ap@.1/coco101": each[0], "ap@.5/coco101": each[-1], "map@[.1:.5]/coco101": np.mean(each), "recall@.1/100": np.mean([c[3] for c in curves[0.1]]),
            "targets": len(targets), "detections": len(detections), "images": len({v["image_id"] for v in targets + detections}),
        }
        kept = [d for d in detections if d["score"] >= 0.5]
        hits = sum(round(c[3] * sum(t["category_id"] == k for t in targets)) for k, c in zip(sorted({t["category_id"] for t in targets}), plain_curves(targets, kept, 3, 0.1)))
        expected |= {
            "operating/precision": hits / len(kept), "operating/recall": hits / len(targets), "operating/f1": 2 * hits / (len(kept) + len(targets)),
            "operating/f2": 5 * hits / (len(kept) + 4 * len(targets)), "operating/fppi": (len(kept) - hits) / n,
        }
        cases.append(case(name, {"targets": targets, "detections": detections}, expected, {"images": n}))
    return cases


def froc():
    from monai.metrics import compute_froc_curve_data, compute_froc_score

    cases = []
    for name, hits, misses, targets, images in [("forty candidates", 15, 25, 20, 6), ("ties", 8, 12, 10, 3), ("no false candidate", 5, 0, 6, 2), ("few images", 3, 4, 5, 1)]:
        digits = 1 if name == "ties" else 3
        tp, fp = np.round(rng.random(hits) ** 0.5, digits), np.round(rng.random(misses), digits)
        curve = compute_froc_curve_data(fp, tp, targets, images)
        expected = {
            "froc/camelyon points/linear interp (monai)": compute_froc_score(*curve),
            "froc/luna16 points/linear interp (monai)": compute_froc_score(*curve, eval_thresholds=(0.125, 0.25, 0.5, 1, 2, 4, 8)),
        }
        every = np.sort(np.unique(np.r_[tp, fp]))[::-1]
        rate, found = [(fp >= t).sum() / images for t in every], [(tp >= t).sum() / targets for t in every]
        last = lambda x: ([0.0] + [f for r, f in zip(rate, found) if r <= x])[-1]
        expected["froc/luna16 points/last step"] = np.mean([last(x) for x in (0.125, 0.25, 0.5, 1, 2, 4, 8)])
        expected["sensitivity/all candidates"], expected["fppi/all candidates"] = len(tp) / targets, len(fp) / images
        cases.append(case(name, {"hits": tp.tolist(), "misses": fp.tolist()}, expected, {"targets": targets, "images": images}))
    return cases


FAMILIES = {
    "binary": (binary, ["scikit-learn", "statsmodels", "scipy"]), "multiclass": (multiclass, ["scikit-learn", "torchmetrics"]), "multilabel": (multilabel, ["scikit-learn"]),
    "survival": (survival, ["scikit-survival", "lifelines"]), "agreement": (agreement, ["pingouin", "krippendorff", "scipy", "scikit-learn", "statsmodels", "numpy", "irrCAC"]),
    "fairness": (fairness, ["fairlearn", "scikit-learn", "numpy"]), "conformal": (conformal, ["numpy"]), "tests": (tests, ["scipy", "statsmodels", "pingouin", "MLstatkit"]),
    "text": (text, ["sacrebleu", "rouge-score", "nltk", "scikit-learn"]), "seg": (seg, ["monai", "surface-distance", "MedPy", "SimpleITK", "scikit-image", "nnunetv2", "scikit-learn", "scipy"]),
    "lesion": (lesion, ["connected-components-3d", "torchmetrics"]), "image": (image, ["scikit-image", "monai", "scikit-learn", "scipy"]), "registration": (registration, ["numpy"]), "features": (features, ["scipy", "numpy", "prdc", "torchmetrics"]),
    "detection2d": (detection2d, ["pycocotools"]), "detection3d": (detection3d, ["numpy"]), "froc": (froc, ["monai"]),
}

parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path)
parser.add_argument("--metrics-reloaded", type=Path)
parser.add_argument("--only", nargs="*")
arguments = parser.parse_args()
RELOADED = arguments.metrics_reloaded
if RELOADED:
    sys.path.insert(0, str(RELOADED))
for kind, (make, packages) in FAMILIES.items():
    rng = np.random.default_rng(20240607)  # each family on its own: one may be made again alone
    if arguments.only and kind not in arguments.only:
        continue
    versions = {name: importlib.metadata.version(name) for name in packages}
    if kind == "seg" and RELOADED:
        versions["MetricsReloaded"] = "checkout"
    cases = ",\n".join(json.dumps(c) for c in make())
    path = arguments.out / f"{kind}.json"
    path.write_text(f'{{"kind": "{kind}", "versions": {json.dumps(versions)}, "cases": [\n{cases}\n]}}\n')
    print(kind, path.stat().st_size)
