//! The leaderboard as text, CSV and LaTeX, and all single values as CSV.

use super::board::{Board, Estimate, Leaderboard};
use comfy_table::Table;

/// The table for a terminal.
pub fn terminal(board: &Board, leaderboard: &Leaderboard) -> String {
    let mut text = String::new();
    for standing in &leaderboard.standings {
        let mut table = Table::new();
        let mut header = vec!["rank".to_owned(), "method".to_owned()];
        header.extend(board.columns.iter().map(heading));
        header.push("rank in draws".into());
        if standing.by_case.is_some() {
            header.push("mean case rank".into());
        }
        table.set_header(header);
        for &method in &order(&standing.by_mean) {
            let mut row = vec![short(standing.by_mean[method]), board.methods[method].clone()];
            let cells = standing.estimates[method].iter().zip(&board.columns);
            row.extend(cells.map(|(estimate, column)| with_interval(estimate, column.decimals)));
            let [median, low, high] = standing.stability.rank[method];
            row.push(format!("{} [{}, {}]", short(median), short(low), short(high)));
            row.extend(standing.by_case.as_ref().map(|ranks| format!("{:.2}", ranks[method])));
            table.add_row(row);
        }
        text += &format!("{} ({} cases)\n{table}\n", standing.dataset, standing.cases);
    }
    text + &format!(
        "mean [95 % interval over {} draws of cases]; ranked by {}",
        board.draws, board.columns[0].name
    )
}

/// One row per dataset, method and metric.
pub fn csv(board: &Board, leaderboard: &Leaderboard) -> String {
    let mut text = String::from(
        "dataset,method,metric,value,low,high,cases,failed,rank,mean_case_rank,rank_by_wins,rank_median,rank_low,rank_high\n",
    );
    for (standing, field) in leaderboard.standings.iter().zip(&board.fields) {
        for (m, method) in board.methods.iter().enumerate() {
            for (column, estimate) in board.columns.iter().zip(&standing.estimates[m]) {
                let mut cells = vec![quoted(&standing.dataset), quoted(method), quoted(&column.id)];
                cells.extend([estimate.value, estimate.low, estimate.high].map(number));
                cells.push(standing.cases.to_string());
                cells.push(field.failures[m].len().to_string());
                // Ranks are those of the first metric; on other rows they would be mistaken for ranks of theirs.
                if column.id == board.columns[0].id {
                    cells.push(number(standing.by_mean[m]));
                    let optional =
                        |ranks: &Option<Vec<f64>>| ranks.as_ref().map_or_else(String::new, |r| number(r[m]));
                    cells.push(optional(&standing.by_case));
                    cells.push(optional(&standing.by_wins));
                    cells.extend(standing.stability.rank[m].map(number));
                } else {
                    cells.extend(std::iter::repeat_n(String::new(), 6));
                }
                text += &(cells.join(",") + "\n");
            }
        }
    }
    text
}

/// One row per dataset, method and case, one column per metric; nothing for pooled metrics alone.
pub fn cases_csv(board: &Board) -> String {
    let ids: Vec<String> = board.columns.iter().map(|column| quoted(&column.id)).collect();
    let mut text = format!("dataset,method,case,{},failure\n", ids.join(","));
    for field in &board.fields {
        for (m, method) in board.methods.iter().enumerate() {
            for (c, case) in field.cases.iter().enumerate() {
                let mut cells = vec![quoted(&field.dataset), quoted(method), quoted(case)];
                let value = |values: &super::board::Values| {
                    values.per_case().map_or_else(String::new, |v| number(v[c]))
                };
                cells.extend(field.values[m].iter().map(value));
                let failure = field.failures[m].iter().find(|(name, _)| name == case);
                cells.push(failure.map_or_else(String::new, |(_, reason)| quoted(reason)));
                text += &(cells.join(",") + "\n");
            }
        }
    }
    text
}

/// A table for a paper (package booktabs); the best mean of each metric is bold.
pub fn latex(board: &Board, leaderboard: &Leaderboard) -> String {
    let columns = "l".to_owned() + &"r".repeat(board.columns.len() + 1);
    let mut text = format!("% Needs \\usepackage{{booktabs}}.\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n");
    let arrow = |up: bool| if up { "$\\uparrow$" } else { "$\\downarrow$" };
    let heads: Vec<String> = board
        .columns
        .iter()
        .map(|c| {
            let unit = if c.unit.is_empty() { String::new() } else { format!(", {}", escaped(&c.unit)) };
            format!("{}{unit} {}", escaped(&c.name), arrow(c.higher_is_better))
        })
        .collect();
    text += &format!("Method & {} & Rank \\\\\n", heads.join(" & "));
    for standing in &leaderboard.standings {
        let span = board.columns.len() + 2;
        text += &format!(
            "\\midrule\n\\multicolumn{{{span}}}{{l}}{{{} ({} cases)}} \\\\\n",
            escaped(&standing.dataset),
            standing.cases
        );
        let best: Vec<f64> = (0..board.columns.len())
            .map(|c| {
                let values = standing.estimates.iter().map(|row| row[c].value).filter(|v| v.is_finite());
                let up = board.columns[c].higher_is_better;
                values.reduce(|a, b| if up { a.max(b) } else { a.min(b) }).unwrap_or(f64::NAN)
            })
            .collect();
        for &method in &order(&standing.by_mean) {
            let cells: Vec<String> = standing.estimates[method]
                .iter()
                .zip(&board.columns)
                .zip(&best)
                .map(|((estimate, column), best)| {
                    let cell = with_interval(estimate, column.decimals);
                    if estimate.value == *best { format!("\\textbf{{{cell}}}") } else { cell }
                })
                .collect();
            let rank = short(standing.by_mean[method]);
            text += &format!("{} & {} & {rank} \\\\\n", escaped(&board.methods[method]), cells.join(" & "));
        }
    }
    text + "\\bottomrule\n\\end{tabular}\n"
}

/// Methods by rank, best first; equals in the order of the protocol.
pub fn order(ranks: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by(|&a, &b| ranks[a].total_cmp(&ranks[b]));
    order
}

/// Name and unit of a metric.
pub fn heading(column: &super::board::Column) -> String {
    if column.unit.is_empty() { column.name.clone() } else { format!("{}, {}", column.name, column.unit) }
}

/// `0.853 [0.841, 0.864]`.
pub fn with_interval(estimate: &Estimate, decimals: usize) -> String {
    if estimate.value.is_nan() {
        return "-".into();
    }
    format!("{:.decimals$} [{:.decimals$}, {:.decimals$}]", estimate.value, estimate.low, estimate.high)
}

/// A rank without needless digits.
pub fn short(rank: f64) -> String {
    if rank.fract() == 0.0 { format!("{rank:.0}") } else { format!("{rank:.1}") }
}

fn number(value: f64) -> String {
    if value.is_nan() { String::new() } else { value.to_string() }
}

/// A cell of CSV.
pub fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(letter);
            }
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '²' => out.push_str("$^2$"),
            '³' => out.push_str("$^3$"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::board;
    use super::*;

    #[test]
    fn every_table_says_the_same() {
        let board = board();
        let leaderboard = board.leaderboard();
        let csv = csv(&board, &leaderboard);
        let rows: Vec<&str> = csv.lines().collect();
        assert_eq!(rows.len(), 5);
        assert!(rows[1].starts_with("A & B,one,dice,0.535") && rows[1].contains(",8,1,2,2,2,2,2,2"), "{csv}");
        assert!(rows[2].ends_with(",8,1,,,,,,"), "{csv}");
        let latex = latex(&board, &leaderboard);
        assert!(latex.contains("A \\& B (8 cases)") && latex.contains("\\textbf{0.7"), "{latex}");
        assert!(latex.find("two &").unwrap() < latex.find("one &").unwrap());
        let text = terminal(&board, &leaderboard);
        assert!(text.contains("0.535 [") && text.contains("ranked by DICE"), "{text}");
        let cases = cases_csv(&board);
        assert_eq!(cases.lines().count(), 17);
        assert!(cases.contains("case_0,0.5,4.5,there is no prediction\n"), "{cases}");
    }

    #[test]
    fn cells_survive_their_format() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(escaped("50 %_{x}\\"), "50 \\%\\_\\{x\\}\\textbackslash{}");
    }
}
