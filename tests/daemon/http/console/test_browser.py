"""The console in a real browser: each page of a running sidecar, with and without scripts, in light and dark, on a phone.

A sidecar, its journal and its index are those of an operator; Chromium is Debian's. axe-core looks for what keeps people from
using a page.
"""

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.daemon.http.console.browsing import (
    CHROMIUM,
    HOSTILE,
    OPERATOR,
    READER,
    Console,
    chromium,
    log_in,
    make_traffic,
)
from tests.mta.processes import wait_until

pytestmark = [
    pytest.mark.daemon,  # `make check` leaves it out
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]

LONG = f"policy?name={'x' * 300}"
PAGES = ("", "live", "search", "explain", "trial", "policy", LONG, "policy/warnings", "suppression")
PHONE, WIDE = {"width": 360, "height": 740}, {"width": 2000, "height": 1200}
# As many seconds as a busy machine needs; nothing waits for longer than it must.
PATIENCE = 60_000
UNREADABLE = """
async () => (await axe.run({runOnly: ["color-contrast"]})).violations.flatMap(one => one.nodes.map(node => node.html))
"""
"""Elements whose text has too little contrast with what is behind it."""


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    with Console() as made:
        make_traffic(made)
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


class Tab:
    """A page of a browser, with the faults that it reports."""

    def __init__(self, context: BrowserContext, console: Console) -> None:
        context.set_default_timeout(PATIENCE)
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        self._console = console

    def open(self, path: str) -> Page:
        """Open a page of the console."""
        answer = self.page.goto(f"{self._console.address_of_pages}/console/{path}")
        assert answer is not None
        assert answer.status == 200, path
        return self.page

    def records(self, query: str = "") -> list[str]:
        """Return the addresses of records that a search finds."""
        links = self.open(f"search{query}").locator("a[href*='/console/record']").all()
        return [str(link.get_attribute("href")).removeprefix("/console/") for link in links]


@pytest.fixture(scope="module")
def plain(browser: Browser, console: Console) -> Iterator[Tab]:
    """The tab of all tests that need no options of the browser: a process for each takes half a second."""
    with browser.new_context() as context:
        yield Tab(context, console)


@pytest.fixture
def tab(browser: Browser, console: Console, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A tab that has logged in as operator; `request.param` has the options of the browser."""
    with ExitStack() as stack:
        if options := getattr(request, "param", None):
            made = Tab(stack.enter_context(browser.new_context(**options)), console)
        else:
            made = request.getfixturevalue("plain")
        made.faults.clear()
        if not made.page.url.startswith(console.address_of_pages) or "/login" in made.open("search").url:
            log_in(made.page, console)
        wait_until(lambda: len(made.records()) >= 15, "the index has the records")
        yield made
        assert not made.faults


LOOKS = [
    pytest.param({"color_scheme": "light"}, id="light-and-dark"),
    pytest.param({"color_scheme": "light", "viewport": PHONE}, id="phone"),
    pytest.param({"color_scheme": "dark", "viewport": WIDE, "java_script_enabled": False}, id="without-scripts"),
]


@pytest.mark.parametrize("tab", LOOKS, indirect=True)
def test_every_page(tab: Tab, request: pytest.FixtureRequest) -> None:
    """No page is wider than the window, and axe-core finds nothing; scripts are only needed for what is live."""
    addresses = ["login", *PAGES, *(tab.records(f"?type={one}")[0] for one in ("Rejection", "OOB", "Feedback"))]
    scripts = "without-scripts" not in request.node.name
    with_axe = "light-and-dark" in request.node.name
    for address in addresses:
        page = tab.open(address)
        assert page.get_by_role("heading", level=1).is_visible(), address
        if scripts:
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), address
        if with_axe:
            found = Axe().run(page)
            assert not found.violations_count, f"{address}: {found.generate_report()}"
            # The colours are all that differs, and axe-core is in the page now.
            page.emulate_media(color_scheme="dark")
            assert page.evaluate(UNREADABLE) == [], f"{address}, dark"
            page.emulate_media(color_scheme="light")


def test_records_fit_a_window_of_any_width(tab: Tab) -> None:
    """The widest table, on both sides of the width at which its rows become blocks."""
    page = tab.open("search?domain=bounce.example")
    for width in (320, 600, 880, 900, 1000, 1215, 1217, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width


def test_the_keyboard_and_the_skip_link(tab: Tab) -> None:
    page = tab.open("policy")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    expect(page.get_by_text("Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("main :focus")).to_have_count(1)
    outline = page.locator(":focus").evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"


def test_the_navigation_clicks_through_all_pages(tab: Tab) -> None:
    page = tab.open("")
    for name in ("Live", "Search", "Explain", "What if", "Policy", "Suppression", "Overview"):
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(name)


@pytest.mark.parametrize("tab", [pytest.param({"timezone_id": "Pacific/Auckland"}, id="auckland")], indirect=True)
def test_times_are_those_of_the_reader(tab: Tab) -> None:
    time = tab.open("search").locator("td time").first
    utc = str(time.get_attribute("title"))
    assert utc.endswith(" UTC")
    assert time.inner_text() != utc.removesuffix(" UTC")


def test_from_the_overview_to_a_record_and_its_fix(tab: Tab) -> None:
    page = tab.open("")
    page.get_by_role("link", name="gmail.example").click()
    page.locator("a", has_text="Rejection").first.click()
    expect(page.get_by_role("heading", name="What the current policy does")).to_be_visible()
    expect(page.locator("pre", has_text='["gmail.example"]').first).to_be_visible()
    page.get_by_role("link", name="Ask about a similar message").click()
    expect(page.get_by_text("550 5.7.1 relaying not permitted").first).to_be_visible()


def test_live_records_arrive_and_can_be_paused(tab: Tab, console: Console) -> None:
    page = tab.open("live?domain=new.example")
    expect(page.locator("#state")).to_contain_text("Live")
    console.message("first@sender.example", "x@new.example")
    expect(page.locator("#rows")).to_contain_text("first@sender.example", timeout=PATIENCE)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("Paused")
    console.message("second@sender.example", "x@new.example")
    wait_until(lambda: any("second@" in one["sender"] for one in console.records()), "it is recorded")
    expect(page.locator("#rows")).not_to_contain_text("second@sender.example")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#rows tbody tr").first).to_contain_text("second@sender.example", timeout=PATIENCE)
    assert page.locator("#rows", has_text="first@sender.example").count() == 1


def test_explain_with_a_message(tab: Tab) -> None:
    page = tab.open("explain")
    page.get_by_label("Peer").fill("203.0.113.9")
    page.get_by_label("Recipients").fill("x@bounce.example")
    page.get_by_label("Message (optional)").fill("Subject: hello\n\nHello.\n")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#answer + *")).to_be_visible()
    expect(page.get_by_text("not a report, because").first).to_be_visible()


def test_what_if(tab: Tab) -> None:
    page = tab.open("trial")
    field = page.get_by_label("Listener domains, TOML or JSON")
    field.fill(field.input_value().replace("relay_to = false", "relay_to = true"))
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Danger:")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("This is an open relay").first).to_be_visible()
    assert not Axe().run(page).violations_count


def test_the_suppression_list_by_an_operator_and_a_reader(tab: Tab, browser: Browser, console: Console) -> None:
    page = tab.open("suppression")
    page.locator("#a-address").fill("gone@isp.example")
    page.locator("#a-reason").fill("asked by phone")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="On the list", exact=True)).to_be_visible(timeout=PATIENCE)
    assert not Axe().run(page).violations_count
    with browser.new_context() as context:
        other = Tab(context, console)
        log_in(other.page, console, READER)
        expect(other.open("suppression").get_by_role("link", name="gone@isp.example")).to_be_visible()
        assert not other.page.get_by_role("button", name="Add").count()
        other.page.get_by_role("link", name="gone@isp.example").click()
        assert not other.page.get_by_role("button", name="Remove").count()
    page.get_by_label("Reason to remove it").fill("fixed")
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Not on the list")).to_be_visible(timeout=PATIENCE)
    made = [one["meta"]["by"] for one in console.records() if one["type"] == "Suppression"]
    assert made == ["operator in the console"] * 2


def test_hostile_records_do_nothing(tab: Tab) -> None:
    """No script of a sender runs, no picture of one is loaded, and nothing is loaded from another host."""
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    paths = tab.records("?domain=x.example") + tab.records("?text=characters")
    assert len({*paths}) >= len(HOSTILE)
    for path in ("", "live", "search", *paths):
        page = tab.open(path)
        assert "taken" not in page.title()
        assert not page.locator("main img, main script, main iframe").count()
        text = page.locator("main").inner_text()
        assert not {"\u202e", "\x1b"} & {*text}
    assert asked
    assert all(one.startswith(tab.page.url.partition("/console")[0]) for one in asked)


def test_sessions_outlast_a_reload_and_end_with_their_token(browser: Browser, console: Console) -> None:
    with browser.new_context() as context:
        tab = Tab(context, console)
        log_in(tab.page, console)
        cookie = next(one for one in context.cookies() if one["name"] == "sidecar")
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
        revision = tab.open("policy").get_by_role("heading", name="Revision").inner_text()
        token = console.directory / "operator-token"
        console.write(
            domains=(console.directory / "listener_domains.toml").read_text() + '["later.example"]\nrelay_to = true\n'
        )
        console.signal(signal.SIGHUP)
        wait_until(lambda: tab.open("policy").get_by_role("heading", name="Revision").inner_text() != revision, "it reloads")
        token.write_text("another-token-of-the-tests-0123456789\n")
        console.signal(signal.SIGHUP)

        def is_out() -> bool:
            tab.page.goto(f"{console.address_of_pages}/console/policy")
            return "/console/login" in tab.page.url

        wait_until(is_out, "the session ends with its token")
        log_in(tab.page, console, OPERATOR)
        expect(tab.page.get_by_role("alert")).to_contain_text("not one of the tokens")
        token.write_text(f"{OPERATOR}\n")
        console.signal(signal.SIGHUP)

        wait_until(lambda: not is_out(), "the token is the old one again")
        tab.faults.clear()


def test_logging_out(tab: Tab) -> None:
    page = tab.open("")
    page.get_by_role("button", name="Log out").click()
    page.goto(page.url.replace("/login", "/policy"))
    assert "/console/login" in page.url
