//! The numbers of a kind as text.

use super::Document;
use crate::report::Grid;
use comfy_table::Table;
use galen_metrics::Value;

/// The numbers as a table, with definitions when they were asked for.
pub(super) fn table(document: &Document) -> String {
    let mut table = Table::new();
    table.set_header(["id", "value"]);
    for (id, value) in document.values.iter() {
        table.add_row([id.to_owned(), cell(value)]);
    }
    let mut text = table.to_string();
    for group in groups(document) {
        let mut table = Table::new();
        table.set_header(group.head);
        group.rows.into_iter().for_each(|row| {
            table.add_row(row);
        });
        text += &format!("\n{}\n{table}", group.title);
    }
    for d in &document.definitions {
        text += &format!(
            "\n{}: {}. Range {}. Empty: {}. Beware: {}. Source: {}.",
            d.id, d.definition, d.range, d.empty, d.pitfall, d.source
        );
    }
    text
}

/// The groups of each attribute, with its gaps in the title.
pub(super) fn groups(document: &Document) -> Vec<Grid> {
    let head =
        ["group", "n", "prevalence", "AUROC [95 %]", "TPR", "FPR", "precision", "called positive", "ECE"];
    let number = |v: f64| if v.is_nan() { "-".to_owned() } else { format!("{v:.3}") };
    let grid = |(name, groups): (&str, &[galen_metrics::fairness::Group])| {
        let rows = groups.iter().map(|group| {
            let of = |id: &str| number(group.values.number(id));
            let area = format!("{} [{}, {}]", of("auroc"), of("auroc-low"), of("auroc-high"));
            let n = format!("{:.0}", group.values.number("n"));
            let rest = ["tpr", "fpr", "precision", "selection-rate", "ece"].map(of);
            let area = if group.values.number("auroc").is_nan() { "one class only".to_owned() } else { area };
            [vec![group.name.clone(), n, of("prevalence"), area], rest.to_vec()].concat()
        });
        let own = document.attributes.iter().find(|a| a.name == name);
        let gap = |id: &str| number(own.map_or(&document.values, |a| &a.values).number(id));
        Grid {
            title: format!(
                "By {name}: equal opportunity differs by {}, demographic parity by {}, AUROC by {} (p {}), worst group {}",
                gap("equal-opportunity-diff"),
                gap("demographic-parity-diff"),
                gap("auroc-gap"),
                gap("auroc-gap/p permuted"),
                gap("worst-group-auroc")
            ),
            head: head.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    };
    document.attributes().map(grid).collect()
}

/// A number, or the numbers of a short list, for people: whole numbers without a point, tiny ones with their power.
pub(super) fn cell(value: &Value) -> String {
    let number = |value: &f64| match *value {
        v if v.is_nan() => "undefined".to_owned(),
        f64::INFINITY => "infinite".to_owned(),
        f64::NEG_INFINITY => "-infinite".to_owned(),
        v if v.fract() == 0.0 && v.abs() < 1e15 => format!("{v:.0}"),
        v if v.abs() < 1e-4 => format!("{v:.2e}"),
        v => format!("{v:.6}"),
    };
    match value {
        Value::One(value) => number(value),
        Value::Many(values) if values.len() <= 8 => values.iter().map(number).collect::<Vec<_>>().join(" "),
        Value::Many(values) => format!("{} values, see --json", values.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let text = |v: f64| cell(&Value::One(v));
        assert_eq!([300.0, -0.25, 3.2e-7, 0.0, 1.0].map(text), ["300", "-0.250000", "3.20e-7", "0", "1"]);
        assert_eq!([f64::NAN, f64::INFINITY].map(text), ["undefined", "infinite"]);
        assert_eq!(cell(&Value::Many(vec![0.5; 9])), "9 values, see --json");
    }
}
