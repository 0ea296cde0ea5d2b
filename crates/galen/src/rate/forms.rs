//! The pages that a rater sees. They load nothing from elsewhere; their script only turns keys into clicks.

use super::study::{Item, Kind, Study};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#f6f7f8;--card:#fff;--ink:#16202a;--quiet:#5b6875;--rule:#dde2e7;--accent:#00657a}\
@media(prefers-color-scheme:dark){:root{--paper:#101418;--card:#181e24;--ink:#e6ebf0;--quiet:#98a5b1;--rule:#2c353e;--accent:#5cc3d6}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.5 system-ui,'Liberation Sans',Arial,sans-serif}\
main{max-width:1240px;margin:0 auto;padding:20px}h1{font-size:1.15rem;margin:0}header{display:flex;gap:16px;align-items:baseline;flex-wrap:wrap}\
.quiet{color:var(--quiet);font-size:.9rem}progress{width:100%;accent-color:var(--accent);height:8px}h2{font-size:1.25rem;margin:14px 0}\
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px}\
figure{margin:0;background:#000;border-radius:10px;overflow:hidden;display:grid;place-items:center;min-height:240px}\
img{display:block;max-width:100%;max-height:66vh;width:auto;height:auto;min-width:60%}\
.answers{display:flex;gap:12px;flex-wrap:wrap;justify-content:center;margin:18px 0}\
button,.start input{font:inherit;padding:12px 20px;border:1px solid var(--rule);border-radius:10px;background:var(--card);color:var(--ink);cursor:pointer}\
button:focus-visible,a:focus-visible{outline:3px solid var(--accent)}button.chosen{border-color:var(--accent);border-width:2px}\
kbd{display:inline-block;border:1px solid var(--rule);border-radius:5px;padding:0 7px;margin-right:8px;color:var(--quiet);font-size:.85rem}\
nav{display:flex;justify-content:space-between}a{color:var(--accent)}.start{display:flex;gap:12px;flex-wrap:wrap;margin:18px 0}";

/// Keys to clicks: a button or link names its key.
const SCRIPT: &str = "\
document.addEventListener('keydown',e=>{if(e.target.tagName==='INPUT'||e.ctrlKey||e.metaKey||e.altKey)return;\
const b=[...document.querySelectorAll('[data-key]')].find(b=>b.dataset.key.split(' ').includes(e.key));\
if(b){e.preventDefault();b.click()}});";

fn page(study: &Study, body: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (study.title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } script { (PreEscaped(SCRIPT)) } }
        }
    };
    page.into_string()
}

/// The first page: who are you?
pub fn start(study: &Study, problem: Option<&str>) -> String {
    let items = study.items("").len();
    page(
        study,
        html! {
            header { h1 { (study.title) } }
            p { (study.question) }
            p.quiet { (items) " pictures or pairs. Who made them is hidden; order and sides are shuffled for each rater. Every "
                "answer is saved at once: you can stop and come back under the same name." }
            @if let Some(problem) = problem { p role="alert" { b { (problem) } } }
            form.start method="get" action="/rate" {
                input name="rater" placeholder="your name or code" required maxlength="40" autofocus autocomplete="off";
                button type="submit" { "Begin" }
            }
        },
    )
}

/// One item.
pub fn item(
    study: &Study,
    rater: &str,
    number: usize,
    items: &[Item],
    done: usize,
    chosen: Option<u8>,
) -> String {
    let sides: &[&str] = if study.kind == Kind::Pairs { &["left", "right"] } else { &["one"] };
    let answers: Vec<(String, String, u8)> = match study.kind {
        Kind::Pairs => vec![
            ("left".into(), "1 ArrowLeft".into(), 1),
            ("equal".into(), "0 ArrowDown".into(), 0),
            ("right".into(), "2 ArrowRight".into(), 2),
        ],
        Kind::Opinion => (1..=study.scale).map(|mark| (mark.to_string(), mark.to_string(), mark)).collect(),
    };
    let key = |keys: &str| keys.split(' ').next().unwrap_or_default().to_owned();
    page(
        study,
        html! {
            header {
                h1 { (study.title) }
                span.quiet { "rater " (rater) ", " (done) " of " (items.len()) " answered" }
            }
            progress max=(items.len()) value=(done) aria-label="answered" {}
            h2 { (study.question) }
            div.pictures { @for side in sides {
                figure { img src=(format!("/picture/{number}/{side}?rater={}", encoded(rater))) alt=(format!("picture {side}")) {} }
            } }
            form.answers method="post" action="/answer" {
                input type="hidden" name="rater" value=(rater);
                input type="hidden" name="item" value=(number);
                @for (name, keys, value) in &answers {
                    button type="submit" name="answer" value=(value) data-key=(keys) class=[(chosen == Some(*value)).then_some("chosen")] {
                        kbd { (key(keys)) } (name)
                    }
                }
            }
            @if study.kind == Kind::Opinion { p.quiet { "1 is the worst, " (study.scale) " the best." } }
            nav {
                @if number > 0 { a href=(address(rater, number - 1)) data-key="b" { kbd { "b" } "back" } } @else { span {} }
                @if chosen.is_some() && number + 1 < items.len() {
                    a href=(address(rater, number + 1)) data-key="n" { kbd { "n" } "next" }
                }
            }
        },
    )
}

/// All answered.
pub fn end(study: &Study, rater: &str, items: usize) -> String {
    page(
        study,
        html! {
            header { h1 { (study.title) } }
            h2 { "Thank you, " (rater) ": all " (items) " are answered." }
            p { a href=(address(rater, items.saturating_sub(1))) { "Look at the last one again" } }
        },
    )
}

/// Address of an item.
pub fn address(rater: &str, number: usize) -> String {
    format!("/rate?rater={}&item={number}", encoded(rater))
}

/// Text for an address or a form.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Fields of an address or a form, decoded; what is no UTF-8 is dropped.
pub fn fields(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(n, v)| Some((decoded(n)?, decoded(v)?)))
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::study::tests::study;
    use super::*;

    #[test]
    fn pages_tell_nobody_who_made_what() {
        let (_folder, study) = study("pairs", 3);
        let items = study.items("Ann");
        let html = item(&study, "Ann <b>", 1, &items, 1, Some(2));
        assert!(html.contains("1 of 3 answered") && html.contains("Ann &lt;b&gt;"), "{html}");
        assert!(html.contains("/picture/1/left?rater=Ann%20%3Cb%3E"), "{html}");
        assert!(!html.contains("case") && !html.contains(">A<") && !html.contains(">B<"), "{html}");
        assert!(html.contains("class=\"chosen\""), "{html}");
    }

    #[test]
    fn fields_survive_the_way() {
        let name = "Dr. Ü & co = 1+1";
        let query = format!("rater={}&item=3", encoded(name));
        assert_eq!(fields(&query), [("rater".into(), name.into()), ("item".into(), "3".into())]);
        assert_eq!(fields("a=%4"), []);
    }
}
