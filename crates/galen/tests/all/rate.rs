//! Forms for raters: blind, saved at once, for this machine alone.

use crate::house::House;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

const STUDY: &str = "title = 'Kidneys'\nkind = 'pairs'\nquestion = 'Which?'\n[[method]]\nname = 'Alpha'\n\
    pictures = 'one'\n[[method]]\nname = 'Beta'\npictures = 'two'\n";

fn house() -> House {
    let house = House::empty();
    for folder in ["one", "two"] {
        fs::create_dir(house.path().join(folder)).unwrap();
        for case in 0..3 {
            let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><title>{folder}</title></svg>");
            fs::write(house.path().join(format!("{folder}/scan{case}.svg")), svg).unwrap();
        }
    }
    fs::write(house.path().join("study.toml"), STUDY).unwrap();
    house
}

/// A running server; killed when it goes out of scope.
struct Running {
    child: Child,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn start(house: &House) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_galen"))
        .args(["verify", "rate", "study.toml", "--out", "answers.csv"])
        .current_dir(house.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    Running { child, port }
}

/// One request, the whole answer as text.
fn ask(port: u16, first: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{first} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(port: u16, path: &str) -> String {
    ask(port, &format!("GET {path}"), &format!("Host: 127.0.0.1:{port}\r\n"), "")
}

fn post(port: u16, body: &str) -> String {
    ask(port, "POST /answer", &format!("Host: 127.0.0.1:{port}\r\n"), body)
}

#[test]
fn raters_answer_blind_and_every_answer_is_on_disk() {
    let house = house();
    let server = start(&house);
    let port = server.port;
    assert!(get(port, "/").contains("Begin"));
    assert!(get(port, "/favicon.ico").starts_with("HTTP/1.1 204"));
    let page = get(port, "/rate?rater=Ann");
    assert!(page.contains("0 of 3 answered") && page.contains("/picture/0/left?rater=Ann"), "{page}");
    for secret in ["Alpha", "Beta", "scan0", "one/", "two/"] {
        assert!(!page.contains(secret), "{secret} stands in the page");
    }
    let picture = get(port, "/picture/0/left?rater=Ann");
    assert!(
        picture.contains("image/svg+xml") && !picture.contains("scan") && !picture.contains(".svg"),
        "{picture}"
    );
    let left = if picture.contains("<title>one") { "Alpha" } else { "Beta" };
    let saved = post(port, "rater=Ann&item=0&answer=1");
    assert!(saved.starts_with("HTTP/1.1 303") && saved.contains("Location: /rate?rater=Ann"), "{saved}");
    let answers = fs::read_to_string(house.path().join("answers.csv")).unwrap();
    let side = if left == "Alpha" { 1 } else { 2 };
    assert!(answers.contains(&format!(",Alpha,Beta,{side}\n")), "{answers}");
    assert!(get(port, "/rate?rater=Ann").contains("1 of 3 answered"));
    drop(server);

    // Killed and started anew: nothing is lost, and another rater begins at nothing.
    let server = start(&house);
    let port = server.port;
    assert!(get(port, "/rate?rater=Ann").contains("1 of 3 answered"));
    for item in 0..3 {
        post(port, &format!("rater=Bob&item={item}&answer=0"));
        post(port, &format!("rater=Ann&item={item}&answer=2"));
    }
    assert!(get(port, "/rate?rater=Ann").contains("Thank you, Ann"));
    let results =
        house.galen(&["verify", "rate", "study.toml", "--out", "answers.csv", "--results", "--json"]);
    let results: serde_json::Value = serde_json::from_slice(&results.stdout).unwrap();
    assert_eq!((&results["raters"], &results["answers"]), (&2.into(), &6.into()));
    assert!(results["agreement"].as_array().unwrap().iter().any(|a| a[0] == "fleiss-kappa"), "{results}");
}

#[test]
fn strangers_and_nonsense_are_turned_away() {
    let house = house();
    let server = start(&house);
    let port = server.port;
    assert!(ask(port, "GET /", "Host: evil.example\r\n", "").starts_with("HTTP/1.1 403"));
    let foreign = format!("Host: 127.0.0.1:{port}\r\nOrigin: http://evil.example\r\n");
    assert!(ask(port, "POST /answer", &foreign, "rater=Eve&item=0&answer=1").starts_with("HTTP/1.1 403"));
    for body in ["rater=Ann&item=9&answer=1", "rater=Ann&item=0&answer=7", "rater=&item=0&answer=1", "%%%"] {
        assert!(post(port, body).starts_with("HTTP/1.1 400"), "{body}");
    }
    assert!(get(port, "/../study.toml").starts_with("HTTP/1.1 404"));
    assert!(get(port, "/picture/0/../x").starts_with("HTTP/1.1 404"));
    assert!(get(port, "/rate?rater=").contains("Please give a name"));
    assert!(!house.path().join("answers.csv").exists());
    fs::remove_file(house.path().join("two/scan1.svg")).unwrap();
    let output = house.galen(&["verify", "rate", "study.toml", "--out", "answers.csv"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("Beta has no picture of scan1"), "{text}");
}
