//! The forms over HTTP, on the loopback address only.

use super::answers::Answers;
use super::forms;
use super::study::Study;
use crate::session::Session;
use galen_core::{Error, Result};
use std::io::{Cursor, Read};
use std::time::Duration;
use tiny_http::{Header, Method, Request, Response, Server};

/// Most bytes of a form.
const FORM: u64 = 4096;

type Reply = Response<Cursor<Vec<u8>>>;

/// Serves the study until Ctrl-C.
pub fn serve(study: &Study, answers: &mut Answers, port: u16, session: &Session) -> Result<()> {
    let server = Server::http(("127.0.0.1", port)).map_err(|error| {
        Error::input(format!("port {port}"), error, "choose another --port, or leave it out for a free one")
    })?;
    let address = server.server_addr().to_ip().map_or(port, |address| address.port());
    session.document(&serde_json::json!({ "url": format!("http://127.0.0.1:{address}/") }))?;
    session.say(format!("open http://127.0.0.1:{address}/ (Ctrl-C ends; every answer is saved at once)"));
    while !session.stopped() {
        let wait = Duration::from_millis(200);
        let request = server.recv_timeout(wait).map_err(|error| Error::system("the server", &error))?;
        if let Some(request) = request {
            handle(request, study, answers, address)?;
        }
    }
    Ok(())
}

fn handle(mut request: Request, study: &Study, answers: &mut Answers, port: u16) -> Result<()> {
    let reply = if foreign(&request, port) {
        text(403, "this page is for this machine")
    } else {
        answer(&mut request, study, answers)?
    };
    // A browser that went away is no reason to stop.
    let _ = request.respond(reply);
    Ok(())
}

/// Asked under another name (as a page from elsewhere could make a browser do), or sent by another page's form?
fn foreign(request: &Request, port: u16) -> bool {
    let own = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let header = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str().to_owned())
    };
    let host = header("Host").is_some_and(|host| own.contains(&host));
    let origin = header("Origin")
        .is_none_or(|origin| origin == "null" || own.iter().any(|host| origin == format!("http://{host}")));
    !(host && origin)
}

fn answer(request: &mut Request, study: &Study, answers: &mut Answers) -> Result<Reply> {
    let url = request.url().to_owned();
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let fields = forms::fields(query);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (request.method(), &parts[..]) {
        (Method::Get, [""]) => Ok(html(forms::start(study, None))),
        // Browsers ask for it by themselves and complain when it is not found.
        (Method::Get, ["favicon.ico"]) => Ok(text(204, "")),
        (Method::Get, ["rate"]) => Ok(rate(study, answers, &fields)),
        (Method::Get, ["picture", number, side]) => Ok(picture(study, number, side, &fields)),
        (Method::Post, ["answer"]) => {
            let mut form = String::new();
            // What is longer, or no text, is no form of ours.
            let read = request.as_reader().take(FORM).read_to_string(&mut form);
            if read.is_err() {
                Ok(text(400, "no form"))
            } else {
                store(study, answers, &forms::fields(&form))
            }
        }
        _ => Ok(text(404, "there is nothing here")),
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The rater of a form, with a name that can stand in a table.
fn rater(fields: &[(String, String)]) -> Option<String> {
    let name = field(fields, "rater")?.trim();
    let fits = (1..=40).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

fn rate(study: &Study, answers: &Answers, fields: &[(String, String)]) -> Reply {
    let Some(rater) = rater(fields) else {
        return html(forms::start(study, Some("Please give a name of 1 to 40 letters.")));
    };
    let items = study.items(&rater);
    let given: Vec<Option<u8>> = items.iter().map(|item| answers.of(&rater, item)).collect();
    let done = given.iter().flatten().count();
    let asked = field(fields, "item").and_then(|item| item.parse::<usize>().ok());
    let next = asked.filter(|number| *number < items.len());
    match next.or_else(|| given.iter().position(Option::is_none)) {
        Some(number) => html(forms::item(study, &rater, number, &items, done, given[number])),
        None => html(forms::end(study, &rater, items.len())),
    }
}

fn picture(study: &Study, number: &str, side: &str, fields: &[(String, String)]) -> Reply {
    let found = || {
        let items = study.items(&rater(fields)?);
        let item = items.get(number.parse::<usize>().ok()?)?;
        let method = item.methods.get(usize::from(side == "right"))?;
        study.picture(item.case, *method).ok()
    };
    match found() {
        Some((bytes, media)) => Response::from_data(bytes)
            .with_header(header("Content-Type", media))
            .with_header(header("Cache-Control", "no-store"))
            // An SVG may hold scripts; as a picture in a page it runs none, and opened alone it must not either.
            .with_header(header(
                "Content-Security-Policy",
                "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
            )),
        None => text(404, "there is no such picture"),
    }
}

fn store(study: &Study, answers: &mut Answers, fields: &[(String, String)]) -> Result<Reply> {
    let number = field(fields, "item").and_then(|item| item.parse::<usize>().ok());
    let given = field(fields, "answer").and_then(|answer| answer.parse::<u8>().ok());
    let (Some(rater), Some(number), Some(given)) = (rater(fields), number, given) else {
        return Ok(text(400, "rater, item and answer are needed"));
    };
    let items = study.items(&rater);
    let Some(item) = items.get(number) else { return Ok(text(400, "there is no such item")) };
    if let Err(error) = answers.put(study, &rater, item, given) {
        // A full disk must stop the rating; a wrong mark is answered.
        return if error.kind() == galen_core::Kind::Input {
            Ok(text(400, &error.to_string()))
        } else {
            Err(error)
        };
    }
    let next = format!("/rate?rater={}", forms::encoded(&rater));
    Ok(text(303, "saved").with_header(header("Location", &next)))
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name.as_bytes(), value.as_bytes()).expect("ASCII without line ends")
}

fn text(status: u16, words: &str) -> Reply {
    Response::from_string(words).with_status_code(status)
}

fn html(page: String) -> Reply {
    Response::from_data(page.into_bytes())
        .with_header(header("Content-Type", "text/html; charset=utf-8"))
        .with_header(header("Cache-Control", "no-store"))
        .with_header(header(
            "Content-Security-Policy",
            "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        ))
}
