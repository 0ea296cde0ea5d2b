//! The leaderboard as one self-contained page, and its figures.

use super::board::{ALPHA, Board, Estimate, Field, Leaderboard, Standing};
use super::protocol::folder_name;
use super::tables::{heading, order, short};
use crate::figure::{Axis, Figure, Mark, density, five_numbers};
use crate::report::document;
use maud::{Markup, html};

/// Cases listed per dataset, the worst first.
const LISTED: usize = 30;

/// Where the picture of a case lies, by field, method and case; `None` without one.
pub type Pictures<'a> = &'a dyn Fn(&Field, usize, usize) -> Option<String>;

/// Figures of all datasets.
pub fn figures(board: &Board, leaderboard: &Leaderboard) -> Vec<Figure> {
    let mut all = Vec::new();
    for (field, standing) in board.fields.iter().zip(&leaderboard.standings) {
        for column in 0..board.columns.len() {
            all.push(distribution(board, field, standing, column));
        }
        all.push(rank_map(board, standing));
        all.extend(significance(board, standing));
    }
    all
}

fn named(board: &Board, standing: &Standing) -> Vec<String> {
    order(&standing.by_mean).into_iter().map(|method| board.methods[method].clone()).collect()
}

/// Box plots over violins of the single cases; means with intervals where there are no single values.
fn distribution(board: &Board, field: &Field, standing: &Standing, column: usize) -> Figure {
    let metric = &board.columns[column];
    let mut marks = Vec::new();
    for (place, method) in order(&standing.by_mean).into_iter().enumerate() {
        let (at, colour) = (place as f64, method);
        match field.values[method][column].per_case() {
            Some(values) => {
                marks.push(Mark::Violin { at, shape: density(values), colour });
                marks.extend(five_numbers(values).map(|five| Mark::Box { at, five, colour }));
            }
            None => {
                let e = standing.estimates[method][column];
                marks.push(Mark::Whiskers { points: vec![[at, e.low, e.high]], colour });
                let points = vec![[at, e.value]];
                marks.push(Mark::Dots { name: String::new(), points, colour, radius: 4.0 });
            }
        }
    }
    let caption = match field.values[0][column].per_case() {
        Some(_) => {
            "Each case once: box of quartiles, whiskers within 1.5 quartile ranges, shape of the distribution."
        }
        None => "Value of all cases with its 95 % interval.",
    };
    Figure {
        name: format!("{}-{}", folder_name(&field.dataset), folder_name(&metric.id)),
        title: format!("{}: {}", field.dataset, metric.name),
        caption: caption.into(),
        x: Axis::named("", named(board, standing)),
        y: Axis::of(&heading(metric)),
        marks,
    }
}

/// How often a method takes a rank when cases are drawn.
fn rank_map(board: &Board, standing: &Standing) -> Figure {
    let n = board.methods.len();
    let mut marks = Vec::new();
    for (place, method) in order(&standing.by_mean).into_iter().enumerate() {
        for rank in 0..n {
            let share = standing.stability.share[method][rank];
            let text = if share >= 0.005 { format!("{:.0} %", 100.0 * share) } else { String::new() };
            marks.push(Mark::Tile { at: [place as f64, (rank + 1) as f64], shade: share, text });
        }
    }
    let tau = standing.stability.tau;
    let agreement = if tau.is_finite() {
        format!(" Mean Kendall tau with the full ranking: {tau:.2}.")
    } else {
        String::new()
    };
    Figure {
        name: format!("{}-ranks", folder_name(&standing.dataset)),
        title: format!("{}: how firm the ranking is", standing.dataset),
        caption: format!(
            "Share of {} draws of cases in which a method takes a rank.{agreement}",
            board.draws
        ),
        x: Axis::named("", named(board, standing)),
        y: Axis {
            name: format!("rank by {}", board.columns[0].name),
            // The first rank stands on top.
            range: Some([n as f64 + 0.5, 0.5]),
            ..Axis::default()
        },
        marks,
    }
}

/// Which method is better than which beyond chance; nothing for pooled metrics.
fn significance(board: &Board, standing: &Standing) -> Option<Figure> {
    let better = standing.better.as_ref()?;
    let order = order(&standing.by_mean);
    let n = order.len();
    let mut marks = Vec::new();
    for (x, &column) in order.iter().enumerate() {
        for (y, &row) in order.iter().enumerate().filter(|(y, _)| *y != x) {
            let p = better[row][column];
            let text = if p < 0.001 { "< .001".to_owned() } else { format!("{p:.3}") };
            let shade = if p < ALPHA { 0.9 } else { 0.0 };
            marks.push(Mark::Tile { at: [x as f64, (n - 1 - y) as f64], shade, text });
        }
    }
    let mut rows = named(board, standing);
    rows.reverse();
    Some(Figure {
        name: format!("{}-significance", folder_name(&standing.dataset)),
        title: format!("{}: row better than column", standing.dataset),
        caption: format!(
            "One-sided Wilcoxon signed-rank p over cases, adjusted after Holm; full below {ALPHA}."
        ),
        x: Axis::named("", named(board, standing)),
        y: Axis::named("", rows),
        marks,
    })
}

/// The whole document.
pub fn page(
    board: &Board,
    leaderboard: &Leaderboard,
    about: &[(String, Vec<String>)],
    pictures: Pictures,
) -> String {
    let best = leaderboard.mean_rank[leaderboard.order[0]];
    let leading = leaderboard.order.iter().filter(|&&method| leaderboard.mean_rank[method] == best);
    let leading: Vec<&str> = leading.map(|&method| board.methods[method].as_str()).collect();
    let verb = if leading.len() == 1 { "leads" } else { "share the lead" };
    let figures = figures(board, leaderboard);
    let main = html! {
                header {
                    p.brand { "Galen" span { "comparison" } }
                    h1 { (board.title) }
                    p.verdict.neutral {
                        span.sign aria-hidden="true" { "→" }
                        span { (leading.join(", ")) " " (verb) " by " (board.columns[0].name) " (mean rank " (short(best)) " of "
                            (board.methods.len()) ")." }
                    }
                    ul.notes { @for note in &board.notes { li { (note) } } }
                }
                @for (field, standing) in board.fields.iter().zip(&leaderboard.standings) {
                    (table(board, field, standing))
                }
                section {
                    h2 { "Distributions and ranks" }
                    div.charts { @for figure in &figures { (figure.markup()) } }
                }
                @for (field, standing) in board.fields.iter().zip(&leaderboard.standings) {
                    (cases(board, field, standing, pictures))
                }
                (facts(board, about))
                section.definitions {
                    h2 { "Definitions" }
                    ol { @for column in &board.columns { li { b { (column.name) } ". " (column.definition) } } }
                }
                footer {
                    p { "Galen " (env!("CARGO_PKG_VERSION")) ". A research tool, not a medical device." }
                    p { "One file, no scripts, nothing loaded from elsewhere; pictures of cases lie beside it." }
                }
    };
    document(&board.title, "", main).into_string()
}

fn table(board: &Board, field: &Field, standing: &Standing) -> Markup {
    html! { section {
        h2 { (standing.dataset) " " span.quiet { (standing.cases) " cases" } }
        div.scroll { table.means {
            thead { tr {
                th.number { "rank" } th { "method" }
                @for column in &board.columns {
                    th.number { (heading(column)) " " (if column.higher_is_better { "↑" } else { "↓" }) }
                }
                th.number { "rank in draws" }
                @if standing.by_case.is_some() { th.number { "mean case rank" } th.number { "rank by wins" } }
                th.number { "failed" }
            } }
            tbody { @for method in order(&standing.by_mean) { tr {
                td.number { (short(standing.by_mean[method])) }
                th { (board.methods[method]) }
                @for (estimate, column) in standing.estimates[method].iter().zip(&board.columns) {
                    td.number { (cell(estimate, column.decimals)) }
                }
                @let [median, low, high] = standing.stability.rank[method];
                td.number { span.value { (short(median)) } span.interval { (short(low)) " to " (short(high)) } }
                @if let (Some(by_case), Some(by_wins)) = (&standing.by_case, &standing.by_wins) {
                    td.number { (format!("{:.2}", by_case[method])) }
                    td.number { (short(by_wins[method])) }
                }
                td.number { (field.failures[method].len()) }
            } } }
        } }
        p.quiet { "Mean over cases with its 95 % percentile interval (" (board.draws) " draws of cases, seed " (board.seed)
            "); ranks by " (board.columns[0].name) "." }
    } }
}

/// A value over its interval, so that many columns fit the width of a page.
fn cell(estimate: &Estimate, decimals: usize) -> Markup {
    let number = |value: f64| format!("{value:.decimals$}");
    html! {
        @if estimate.value.is_nan() { "-" } @else {
            span.value { (number(estimate.value)) }
            @if estimate.low.is_finite() { span.interval { (number(estimate.low)) " to " (number(estimate.high)) } }
        }
    }
}

/// Cases with the lowest mean over methods first, with links to their pictures.
fn cases(board: &Board, field: &Field, standing: &Standing, pictures: Pictures) -> Markup {
    let values: Vec<&[f64]> = field.values.iter().filter_map(|row| row[0].per_case()).collect();
    if values.len() != board.methods.len() {
        return html! {};
    }
    let mean = |case: usize| {
        let sum: f64 = values.iter().map(|v| v[case]).sum::<f64>() / values.len() as f64;
        // Without a value in some method it cannot be ordered, and comes last.
        if sum.is_nan() {
            f64::INFINITY
        } else if board.columns[0].higher_is_better {
            sum
        } else {
            -sum
        }
    };
    let mut worst: Vec<usize> = (0..field.cases.len()).collect();
    worst.sort_by(|&a, &b| mean(a).total_cmp(&mean(b)));
    let methods = order(&standing.by_mean);
    html! { section {
        h2 { (field.dataset) ", cases " span.quiet { "the hardest " (worst.len().min(LISTED)) " of " (worst.len())
            ", by " (board.columns[0].name) } }
        div.scroll { table.per-case {
            thead { tr { th { "case" } @for &method in &methods { th.number { (board.methods[method]) } } } }
            tbody { @for &case in worst.iter().take(LISTED) { tr {
                th { (field.cases[case]) }
                @for &method in &methods { td.number {
                    @let text = if values[method][case].is_nan() { "-".to_owned() }
                        else { format!("{:.*}", board.columns[0].decimals, values[method][case]) };
                    @match pictures(field, method, case) {
                        Some(file) => a href=(file) { (text) },
                        None => (text),
                    }
                    @if field.failures[method].iter().any(|(name, _)| *name == field.cases[case]) { " failed" }
                } }
            } } }
        } }
    } }
}

fn facts(board: &Board, about: &[(String, Vec<String>)]) -> Markup {
    html! { section {
        h2 { "What was run" }
        div.facts {
            div.group { h3 { "Setup, the same for all" } dl { @for (name, value) in &board.facts {
                div { dt { (name) } dd { (value) } }
            } } }
            @for (name, lines) in about { div.group { h3 { (name) } dl { @for line in lines { div { dt {} dd { (line) } } } } } }
        }
    } }
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::board;
    use super::*;

    #[test]
    fn the_page_names_everyone_and_escapes() {
        let board = board();
        let leaderboard = board.leaderboard();
        let picture = |field: &Field, method: usize, case: usize| {
            Some(format!("pictures/{method}/{}.svg", field.cases[case]))
        };
        let html = page(&board, &leaderboard, &[], &picture);
        assert!(html.contains("two leads by DICE") && html.contains("A &amp; B"));
        assert!(html.contains("href=\"pictures/0/case_3.svg\"") && html.contains("failed"));
        assert!(!html.contains("NaN") && html.matches("<svg").count() == 4);
        let names: Vec<String> = figures(&board, &leaderboard).into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["A---B-dice", "A---B-hd95", "A---B-ranks", "A---B-significance"]);
    }
}
