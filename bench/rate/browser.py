"""Two raters judge pictures in a headless Chromium, with the keyboard alone.

    python bench/rate/browser.py target/release/galen [--chromium /usr/bin/chromium] [--shots FOLDER]

Needs playwright (only its Python part; the browser is the one that is named). Checks that nothing shown says who made
a picture, that each answer is on disk before the next picture, that a killed server and a closed browser lose nothing,
that raters see different orders, and that the results name winners and agreement. Exits 1 at the first thing that is
not so.
"""

import argparse
import atexit
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

parser = argparse.ArgumentParser()
parser.add_argument("galen", type=Path)
parser.add_argument("--chromium", default="/usr/bin/chromium")
parser.add_argument("--shots", type=Path)
arguments = parser.parse_args()
galen = arguments.galen.resolve()
METHODS = {"Alpha": 14, "Beta": 34}


def picture(method, case):
    """A scan-like picture; the ring is off by as much as the method is bad."""
    off = METHODS[method]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" width="400" height="400">
<defs><radialGradient id="g"><stop offset="0" stop-color="#bbb"/><stop offset="1" stop-color="#222"/></radialGradient></defs>
<rect width="400" height="400" fill="#000"/><ellipse cx="200" cy="200" rx="170" ry="{130 + 5 * case}" fill="url(#g)"/>
<circle cx="{180 + 10 * case}" cy="210" r="60" fill="#ddd"/><circle cx="{180 + 10 * case + off}" cy="210" r="60" fill="none" stroke="#ffb000" stroke-width="3"/>
</svg>"""


def check(true, what):
    if not true:
        sys.exit(f"not so: {what}")
    print("ok:", what)


class Server:
    def __init__(self, folder):
        command = [galen, "verify", "rate", "study.toml", "--out", "answers.csv"]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        atexit.register(self.kill)
        self.url = next(word for word in self.process.stdout.readline().split() if word.startswith("http"))

    def kill(self):
        self.process.kill()
        self.process.wait()


def answers(folder):
    with open(folder / "answers.csv") as file:
        return list(csv.DictReader(file))


def shot(page, name):
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=arguments.shots / f"{name}.png", full_page=True)


def begin(page, url, rater):
    page.goto(url)
    shot(page, "start")
    check(page.evaluate("document.activeElement.name") == "rater", "the cursor waits in the field for the name")
    page.keyboard.type(rater)
    page.keyboard.press("Enter")
    page.wait_for_selector("form.answers")


def study(folder, kind, cases):
    for method in METHODS:
        (folder / f"pictures-{method}").mkdir(parents=True)
        for case in range(cases):
            (folder / f"pictures-{method}" / f"patient{case}.svg").write_text(picture(method, case))
    lines = "".join(f"[[method]]\nname = '{m}'\npictures = 'pictures-{m}'\n" for m in METHODS)
    question = "Which outline would you rather use?" if kind == "pairs" else "How good is the outline?"
    (folder / "study.toml").write_text(f"title = 'Rings'\nkind = '{kind}'\nquestion = '{question}'\n{lines}")


def shown(page):
    """What the rater could read or find: the page, and the bodies and headers of its pictures."""
    found = [page.content()]
    for image in page.query_selector_all("figure img"):
        found.append(image.get_attribute("src"))
        check(image.evaluate("i => i.complete && i.naturalWidth > 0"), "a picture is drawn")
        answer = page.request.get(page.url.split("/rate")[0] + image.get_attribute("src"))
        found.append(json.dumps(answer.headers))
    return " ".join(found)


def better(page, url):
    """Key of the side whose ring is nearer; taken from the picture's own numbers, as an eye would."""
    offsets = []
    for image in page.query_selector_all("figure img"):
        text = page.request.get(url.rstrip("/") + image.get_attribute("src")).text()
        centres = [float(part.split('"')[1]) for part in text.split("<circle cx=")[1:]]
        offsets.append(abs(centres[1] - centres[0]))
    return "1" if offsets[0] < offsets[1] else "2"


def pairs(browser, folder):
    study(folder, "pairs", 6)
    server = Server(folder)
    orders = {}
    for rater in ["Ann", "Dr. Björn"]:
        context = browser.new_context()
        page = context.new_page()
        problems = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        begin(page, server.url, rater)
        order = []
        for number in range(6):
            seen = shown(page)
            for secret in [*METHODS, "patient", "pictures-", "study.toml"]:
                check(secret not in seen, f"{secret} is nowhere in what {rater} is sent")
            order.append(page.request.get(server.url.rstrip("/") + page.query_selector("img").get_attribute("src")).text())
            if number == 0:
                shot(page, "pairs")
            before = len(answers(folder)) if (folder / "answers.csv").exists() else 0
            # The second rater finds one pair equal; arrows do what numbers do.
            key = better(page, server.url)
            if rater != "Ann" and number == 2:
                key = "0"
            elif number % 2:
                key = {"1": "ArrowLeft", "2": "ArrowRight"}[key]
            with page.expect_navigation():
                page.keyboard.press(key)
            check(len(answers(folder)) == before + 1, f"answer {number + 1} of {rater} is on disk")
            if rater == "Ann" and number == 2:
                # A power cut: browser and server are gone.
                context.close()
                server.kill()
                server = Server(folder)
                context = browser.new_context(color_scheme="dark")
                page = context.new_page()
                begin(page, server.url, rater)
                check("3 of 6 answered" in page.content(), "nothing is lost by a killed server and a closed browser")
                shot(page, "pairs-dark")
        check("Thank you" in page.content(), f"{rater} is thanked at the end")
        shot(page, "end")
        page.click("a")
        with page.expect_navigation():
            page.keyboard.press("b")
        check("chosen" in page.content(), "b goes back to an answered pair, which shows its answer")
        check(not problems, f"no error in the console of {rater}: {problems}")
        orders[rater] = order
        context.close()
    check(orders["Ann"] != orders["Dr. Björn"], "the raters saw different orders or sides")
    phone = browser.new_context(viewport={"width": 380, "height": 760}).new_page()
    begin(phone, server.url, "Phone")
    shot(phone, "phone")
    check(phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off on a phone")
    server.kill()
    return results(folder)


def opinions(browser, folder):
    study(folder, "opinion", 4)
    server = Server(folder)
    for rater, shift in [("Ann", 0), ("Bob", -1)]:
        page = browser.new_context().new_page()
        begin(page, server.url, rater)
        shot(page, "opinion")
        for number in range(8):
            text = page.request.get(server.url.rstrip("/") + page.query_selector("img").get_attribute("src")).text()
            good = f'stroke="#ffb000"' in text and any(f'cx="{180 + 10 * c + METHODS["Alpha"]}"' in text for c in range(4))
            with page.expect_navigation():
                page.keyboard.press(str((5 if good and number % 3 else 4 if good else 2) + shift))
        check("Thank you" in page.content(), f"{rater} is done with all pictures")
    # A key that is no mark does nothing.
    page.goto(server.url + "rate?rater=Cy")
    page.keyboard.press("9")
    page.keyboard.press("x")
    check("0 of 8 answered" in page.content(), "other keys do nothing")
    server.kill()
    return results(folder)


def results(folder):
    command = [galen, "verify", "rate", "study.toml", "--out", "answers.csv", "--results"]
    print(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
    found = json.loads(subprocess.run([*command, "--json"], cwd=folder, capture_output=True, check=True).stdout)
    check(found["methods"][0]["method"] == "Alpha", "the nearer ring is preferred")
    check(found["raters"] == 2 and len(found["agreement"]) >= 3, "two raters, and how far they agree")
    return found


with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
    browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
    pairs(browser, Path(folder) / "pairs")
    opinions(browser, Path(folder) / "opinions")
    browser.close()
print("all is so")
