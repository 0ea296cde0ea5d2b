//! What every page of ours begins and ends with.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// One file that loads nothing and runs nothing; `style` adds to the common style sheet.
pub fn document(title: &str, style: &str, main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) (PreEscaped(style)) }
            }
            body { main { (main) } }
        }
    }
}
