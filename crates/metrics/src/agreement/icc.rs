//! Intraclass correlations from the mean squares of a two-way table (McGraw and Wong 1996).

use crate::measures::{Definition, Measures, define, ratio};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "icc/ICC(1,1)",
        "one-way random, single rating: (MSR - MSW) / (MSR + (k - 1) MSW)",
        "-1/(k-1)..1",
        "no variance at all: undefined",
        "each subject has its own raters",
        "Shrout and Fleiss 1979; pingouin intraclass_corr",
    ),
    define(
        "icc/ICC(A,1)",
        "two-way random, absolute agreement, single: (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)",
        "-inf..1",
        "no variance at all: undefined",
        "falls when subjects are alike",
        "McGraw and Wong 1996; pingouin intraclass_corr",
    ),
    define(
        "icc/ICC(C,1)",
        "two-way, consistency, single: (MSR - MSE) / (MSR + (k - 1) MSE)",
        "-1/(k-1)..1",
        "no variance at all: undefined",
        "forgives a constant offset of a rater",
        "McGraw and Wong 1996; pingouin intraclass_corr",
    ),
    define(
        "icc/ICC(1,k)",
        "one-way random, mean of k: (MSR - MSW) / MSR",
        "-inf..1",
        "subjects all alike: undefined",
        "for means of k ratings only",
        "Shrout and Fleiss 1979; pingouin intraclass_corr",
    ),
    define(
        "icc/ICC(A,k)",
        "two-way random, absolute agreement, mean of k: (MSR - MSE) / (MSR + (MSC - MSE) / n)",
        "-inf..1",
        "no variance at all: undefined",
        "for means of k ratings only",
        "McGraw and Wong 1996; pingouin intraclass_corr",
    ),
    define(
        "icc/ICC(C,k)",
        "two-way, consistency, mean of k: (MSR - MSE) / MSR",
        "-inf..1",
        "subjects all alike: undefined",
        "for means of k ratings only",
        "McGraw and Wong 1996; pingouin intraclass_corr",
    ),
];

/// All six forms of complete rows.
pub fn measure(rows: &[Vec<f64>], m: &mut Measures) {
    let (n, k) = (rows.len() as f64, rows[0].len() as f64);
    let grand = rows.iter().flatten().sum::<f64>() / (n * k);
    let row_means: Vec<f64> = rows.iter().map(|row| row.iter().sum::<f64>() / k).collect();
    let column_means: Vec<f64> =
        (0..rows[0].len()).map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / n).collect();
    let square = |values: &[f64]| values.iter().map(|v| (v - grand) * (v - grand)).sum::<f64>();
    let (mut within, mut error) = (0.0, 0.0);
    for (row, mean) in rows.iter().zip(&row_means) {
        for (value, column) in row.iter().zip(&column_means) {
            within += (value - mean) * (value - mean);
            error += (value - mean - column + grand) * (value - mean - column + grand);
        }
    }
    let msr = k * square(&row_means) / (n - 1.0);
    let msc = n * square(&column_means) / (k - 1.0);
    let msw = within / (n * (k - 1.0));
    let mse = error / ((n - 1.0) * (k - 1.0));
    m.put("icc/ICC(1,1)", ratio(msr - msw, msr + (k - 1.0) * msw));
    m.put("icc/ICC(A,1)", ratio(msr - mse, msr + (k - 1.0) * mse + k * (msc - mse) / n));
    m.put("icc/ICC(C,1)", ratio(msr - mse, msr + (k - 1.0) * mse));
    m.put("icc/ICC(1,k)", ratio(msr - msw, msr));
    m.put("icc/ICC(A,k)", ratio(msr - mse, msr + (msc - mse) / n));
    m.put("icc/ICC(C,k)", ratio(msr - mse, msr));
}
