//! From marks in the data's units to SVG.

use super::{Axis, Figure, Mark};
use maud::{Markup, PreEscaped, html};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 340.0;
/// Room right of and above the plot.
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
/// Height of one line of the legend.
const LEGEND: f64 = 18.0;
/// Width of a letter of a tick, about.
const LETTER: f64 = 6.6;

const STYLE: &str = "\
.f{--paper:#fff;--ink:#16202a;--quiet:#5b6875;--rule:#dde2e7;--c0:#00657a;--c1:#c45500;--c2:#7b4fb0;--c3:#2f7d32;--c4:#b0246a;--c5:#5b6875;\
font:12px system-ui,'Liberation Sans',Arial,sans-serif;font-variant-numeric:tabular-nums}\
@media(prefers-color-scheme:dark){.f{--paper:#181e24;--ink:#e6ebf0;--quiet:#98a5b1;--rule:#2c353e;--c0:#5cc3d6;--c1:#f5a04c;--c2:#c2a0f0;\
--c3:#86d089;--c4:#f08ab9;--c5:#98a5b1}}\
.f text{fill:var(--quiet)}.f .g{stroke:var(--rule);stroke-width:1;fill:none}.f .on{fill:var(--paper)}.f .ink{fill:var(--ink)}\
.f .k0{--c:var(--c0)}.f .k1{--c:var(--c1)}.f .k2{--c:var(--c2)}.f .k3{--c:var(--c3)}.f .k4{--c:var(--c4)}.f .k5{--c:var(--c5)}\
.f .l{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}.f .d{stroke-dasharray:5 4;stroke-width:1.4}\
.f .b{fill:var(--c);opacity:.18;stroke:none}.f .p{fill:var(--c)}.f .t{fill:var(--c0)}.f .x{fill:var(--c);fill-opacity:.25;stroke:var(--c);stroke-width:1.4}";

/// A straight scale from data to picture.
pub struct Scale {
    /// Range of the data.
    pub from: [f64; 2],
    /// Its place in the picture.
    pub to: [f64; 2],
}

impl Scale {
    /// Where a value lies, to a tenth.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value - self.from[0]) / (self.from[1] - self.from[0]);
        let place = self.to[0] + share * (self.to[1] - self.to[0]);
        (place * 10.0).round() / 10.0
    }
}

/// The figure as an SVG element with its own style sheet.
pub fn svg(figure: &Figure) -> Markup {
    let (xs, ys) = extents(&figure.marks);
    let x_range = figure.x.range.unwrap_or_else(|| airy(xs));
    let y_range = figure.y.range.unwrap_or_else(|| airy(ys));
    let (x_ticks, y_ticks) = (ticks(&figure.x, x_range, 6), ticks(&figure.y, y_range, 5));
    let longest = y_ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
    let left = (26.0 + LETTER * longest.min(24) as f64).max(44.0);
    // Long names under the axis stand slanted.
    let room = (WIDTH - left - RIGHT) / x_ticks.len().max(1) as f64;
    let widest = x_ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0) as f64 * LETTER;
    let slanted = !figure.x.names.is_empty() && widest > room - 6.0;
    let under = if slanted { 24.0 + (widest * 0.5).min(90.0) } else { 20.0 };
    let legend = legend(&figure.marks);
    let bottom = under + 22.0 + LEGEND * legend.len().div_ceil(2) as f64;
    let x = Scale { from: x_range, to: [left, WIDTH - RIGHT] };
    let y = Scale { from: y_range, to: [HEIGHT - bottom, TOP] };
    let base = HEIGHT - bottom;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
            aria-label=(figure.title) class="f" {
            title { (figure.title) }
            style { (PreEscaped(STYLE)) }
            @for (tick, text) in &y_ticks {
                // Between names there is nothing to read off, and lines would cross the texts of tiles.
                @if figure.y.names.is_empty() {
                    line.g x1=(left) x2=(WIDTH - RIGHT) y1=(y.at(*tick)) y2=(y.at(*tick)) {}
                }
                text x=(left - 7.0) y=(y.at(*tick) + 4.0) text-anchor="end" { (short(text)) }
            }
            @for (tick, text) in &x_ticks {
                @if slanted {
                    text x=(x.at(*tick)) y=(base + 14.0) text-anchor="end"
                        transform=(format!("rotate(-30 {} {})", x.at(*tick), base + 14.0)) { (short(text)) }
                } @else {
                    text x=(x.at(*tick)) y=(base + 17.0) text-anchor="middle" { (text) }
                }
            }
            path.g d=(format!("M{left} {TOP}V{base}H{}", WIDTH - RIGHT)) {}
            text x=((left + WIDTH - RIGHT) / 2.0) y=(base + under + 12.0) text-anchor="middle" { (figure.x.name) }
            text x="12" y=((TOP + base) / 2.0) text-anchor="middle"
                transform=(format!("rotate(-90 12 {})", (TOP + base) / 2.0)) { (figure.y.name) }
            @for mark in &figure.marks { (draw(mark, &x, &y)) }
            @for (number, (name, colour, dashed)) in legend.iter().enumerate() {
                @let (column, line) = (number % 2, number / 2);
                @let (px, py) = (left + column as f64 * (WIDTH - left) / 2.0, base + under + 31.0 + LEGEND * line as f64);
                path class=(format!("l k{}{}", colour % 6, if *dashed { " d" } else { "" })) d=(format!("M{px} {}h22", py - 4.0)) {}
                text x=(px + 28.0) y=(py) { (name) }
            }
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= 24 {
        return text.to_owned();
    }
    text.chars().take(23).chain(['…']).collect()
}

fn draw(mark: &Mark, x: &Scale, y: &Scale) -> Markup {
    let inside = |value: f64| value.clamp(y.from[0].min(y.from[1]), y.from[1].max(y.from[0]));
    match mark {
        Mark::Line { points, colour, dashed, name } => {
            let class = format!("l k{}{}", colour % 6, if *dashed { " d" } else { "" });
            html! { path class=(class) d=(path(points, x, y)) { @if !name.is_empty() { title { (name) } } } }
        }
        Mark::Band { points, colour } => {
            let whole: Vec<_> = points.iter().filter(|p| p.iter().all(|v| v.is_finite())).collect();
            let there = whole.iter().map(|p| [p[0], inside(p[2])]);
            let back = whole.iter().rev().map(|p| [p[0], inside(p[1])]);
            let ring: Vec<[f64; 2]> = there.chain(back).collect();
            html! { @if !ring.is_empty() { path class=(format!("b k{}", colour % 6)) d=(path(&ring, x, y) + "Z") {} } }
        }
        Mark::Dots { points, colour, radius, .. } => {
            let finite = points.iter().filter(|p| p[0].is_finite() && p[1].is_finite());
            html! { g class=(format!("p k{}", colour % 6)) {
                @for p in finite { circle cx=(x.at(p[0])) cy=(y.at(p[1])) r=(radius) fill-opacity="0.75" {} }
            } }
        }
        Mark::Whiskers { points, colour } => {
            let finite = points.iter().filter(|p| p.iter().all(|v| v.is_finite()));
            html! { g class=(format!("l k{}", colour % 6)) { @for p in finite {
                @let at = x.at(p[0]);
                path d=(format!("M{} {}h8M{at} {}V{}M{} {}h8", at - 4.0, y.at(inside(p[1])), y.at(inside(p[1])),
                    y.at(inside(p[2])), at - 4.0, y.at(inside(p[2])))) {}
            } } }
        }
        Mark::Box { at, five, colour } => {
            let half = (x.at(at + 0.28) - x.at(*at)).min(34.0);
            let (cx, [low, first, median, third, high]) = (x.at(*at), five.map(|v| y.at(v)));
            html! { g class=(format!("k{}", colour % 6)) {
                path.l d=(format!("M{cx} {low}V{first}M{cx} {third}V{high}")) {}
                rect.x x=(cx - half) y=(third) width=(2.0 * half) height=((first - third).max(0.5)) {}
                path.l d=(format!("M{} {median}h{}", cx - half, 2.0 * half)) {}
            } }
        }
        Mark::Violin { at, shape, colour } => {
            let half = 0.42;
            let right = shape.iter().map(|[value, share]| [at + half * share, *value]);
            let left = shape.iter().rev().map(|[value, share]| [at - half * share, *value]);
            let ring: Vec<[f64; 2]> = right.chain(left).collect();
            html! { @if !ring.is_empty() { path class=(format!("x k{}", colour % 6)) d=(path(&ring, x, y) + "Z") {} } }
        }
        Mark::Tile { at, shade, text } => {
            let (left, right) = (x.at(at[0] - 0.48), x.at(at[0] + 0.48));
            let (one, other) = (y.at(at[1] - 0.48), y.at(at[1] + 0.48));
            let shade = shade.clamp(0.0, 1.0);
            let class = if shade > 0.55 { "on" } else { "ink" };
            html! {
                rect.g x=(left) y=(one.min(other)) width=(right - left) height=((one - other).abs()) {}
                rect.t x=(left) y=(one.min(other)) width=(right - left) height=((one - other).abs())
                    fill-opacity=(format!("{shade:.3}")) {}
                text class=(class) x=(x.at(at[0])) y=(y.at(at[1]) + 4.0) text-anchor="middle" { (text) }
            }
        }
    }
}

/// Path data; breaks where a number is not finite, and runs along the border of a fixed range.
fn path(points: &[[f64; 2]], x: &Scale, y: &Scale) -> String {
    let mut data = String::new();
    let mut pen_down = false;
    let [low, high] = [y.from[0].min(y.from[1]), y.from[0].max(y.from[1])];
    for &[px, py] in points {
        let finite = px.is_finite() && py.is_finite();
        if finite {
            let command = if pen_down { 'L' } else { 'M' };
            data.push_str(&format!("{command}{} {}", x.at(px), y.at(py.clamp(low, high))));
        }
        pen_down = finite;
    }
    data
}

/// Named marks, once each.
fn legend(marks: &[Mark]) -> Vec<(String, usize, bool)> {
    let mut found: Vec<(String, usize, bool)> = Vec::new();
    for mark in marks {
        let entry = match mark {
            Mark::Line { name, colour, dashed, .. } => (name.clone(), *colour, *dashed),
            Mark::Dots { name, colour, .. } => (name.clone(), *colour, false),
            _ => continue,
        };
        if !entry.0.is_empty() && !found.contains(&entry) {
            found.push(entry);
        }
    }
    found
}

/// Finite x and y of all marks.
fn extents(marks: &[Mark]) -> (Vec<f64>, Vec<f64>) {
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    for mark in marks {
        match mark {
            Mark::Line { points, .. } | Mark::Dots { points, .. } => {
                points.iter().for_each(|p| {
                    xs.push(p[0]);
                    ys.push(p[1]);
                });
            }
            Mark::Band { points, .. } | Mark::Whiskers { points, .. } => points.iter().for_each(|p| {
                xs.push(p[0]);
                ys.extend([p[1], p[2]]);
            }),
            Mark::Box { at, five, .. } => {
                xs.push(*at);
                ys.extend(five);
            }
            Mark::Violin { at, shape, .. } => {
                xs.push(*at);
                ys.extend(shape.iter().map(|p| p[0]));
            }
            Mark::Tile { at, .. } => {
                xs.push(at[0]);
                ys.push(at[1]);
            }
        }
    }
    xs.retain(|v| v.is_finite());
    ys.retain(|v| v.is_finite());
    (xs, ys)
}

/// Range of values with a little air; `[0, 1]` when there are none.
fn airy(values: Vec<f64>) -> [f64; 2] {
    let [low, high] =
        values.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(*v), b.max(*v)]);
    if low > high {
        return [0.0, 1.0];
    }
    let air = if high > low { (high - low) * 0.04 } else { 0.5 };
    [low - air, high + air]
}

fn ticks(axis: &Axis, [low, high]: [f64; 2], wanted: usize) -> Vec<(f64, String)> {
    if !axis.names.is_empty() {
        return axis.names.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect();
    }
    let (low, high) = (low.min(high), high.max(low));
    if axis.log {
        let whole = (low.ceil() as i64)..=(high.floor() as i64);
        return whole.map(|power| (power as f64, format!("{}", 10f64.powi(power as i32)))).collect();
    }
    let rough = (high - low) / wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= rough).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 50.0) as usize;
    let decimals = (-step.log10()).ceil().clamp(0.0, 6.0) as usize;
    (0..=count)
        .map(|index| (first + index as f64) * step)
        // Adding zero turns -0 into 0.
        .map(|tick| (tick, format!("{:.decimals$}", tick + 0.0).replace('-', "−")))
        .collect()
}
