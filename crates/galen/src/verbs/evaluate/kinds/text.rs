//! The numbers of a kind as text.

use super::Document;
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
    for d in &document.definitions {
        text += &format!(
            "\n{}: {}. Range {}. Empty: {}. Beware: {}. Source: {}.",
            d.id, d.definition, d.range, d.empty, d.pitfall, d.source
        );
    }
    text
}

/// A number, or the numbers of a short list, for people.
pub(super) fn cell(value: &Value) -> String {
    let number = |value: &f64| match value {
        v if v.is_nan() => "undefined".to_owned(),
        v => format!("{v:.6}"),
    };
    match value {
        Value::One(value) => number(value),
        Value::Many(values) if values.len() <= 8 => values.iter().map(number).collect::<Vec<_>>().join(" "),
        Value::Many(values) => format!("{} values, see --json", values.len()),
    }
}
