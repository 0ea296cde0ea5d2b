//! One slice of one case as a picture of its own: the scan, the reference filled, the prediction as a line.

use super::page::COLOURS;
use super::slice::{Plane, View, black_and_white};
use super::{Window, outline};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use galen_core::{Error, LabelMap, Labels, Result, Volume};
use maud::html;

/// An SVG that needs nothing else; shows the axial slice with most of every structure.
pub fn overlay(
    title: &str,
    image: &Volume,
    truth: Option<&LabelMap>,
    prediction: Option<&LabelMap>,
    labels: &Labels,
) -> Result<String> {
    let view = View::of(&image.geometry, Plane::Axial)
        .ok_or_else(|| Error::bug("overlay", "an image without an axial view"))?;
    let scored = labels.scored();
    let depth = image.geometry.size[view.through];
    let slice = view.fullest(truth.or(prediction), &scored, depth);
    let values = image.channel_f32(0);
    let png = view.png(image, &values, slice, black_and_white(Window::Percentiles, &values))?;
    let [width, height] = view.extent();
    let draw = |map: Option<&LabelMap>, filled: bool| {
        html! { @if let Some(map) = map { @for (index, label) in scored.iter().enumerate() {
            @let data = outline::path(&view.mask(map, slice, label), view.size, view.pixel);
            @let colour = COLOURS[index % COLOURS.len()];
            @if !data.is_empty() {
                path d=(data) stroke=(colour) vector-effect="non-scaling-stroke" stroke-linejoin="round"
                    fill=(if filled { colour } else { "none" }) fill-opacity="0.2" fill-rule="evenodd"
                    stroke-width=(if filled { 1.0 } else { 2.0 }) stroke-dasharray=[filled.then_some("3 2.5")] {}
            }
        } } }
    };
    let caption = format!("{title}, {} slice {} of {depth}", view.name.to_lowercase(), slice + 1);
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" width="640" height=(format!("{:.0}", 640.0 * height / width))
            viewBox=(format!("0 0 {width:.2} {height:.2}")) role="img" {
            title { (caption) }
            image width=(format!("{width:.2}")) height=(format!("{height:.2}")) preserveAspectRatio="none"
                href=(format!("data:image/png;base64,{}", STANDARD.encode(png))) {}
            (draw(truth, true))
            (draw(prediction, false))
        }
    };
    Ok(svg.into_string())
}
