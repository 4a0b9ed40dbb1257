"""The console in a real browser, with the records that a real Postfix caused, and with a fleet on a real NATS server."""

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.commands.fleet.test_fleet import Operator
from tests.daemon.http.console.browsing import CHROMIUM, chromium
from tests.demo.console import TOKENS, demo
from tests.demo.scenes import DOMAINS
from tests.fleet.servers import needs_nats, server
from tests.mta.places import free_port
from tests.mta.processes import wait_until

pytestmark = [
    pytest.mark.mta,
    needs_nats,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]

PAGES = ("Overview", "Live", "Search", "Explain", "What if", "Policy", "Suppression", "Nodes")
PATIENCE = 60_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of an operator who has logged in, after the demonstration and the first revision of the fleet's policy."""
    folder = tmp_path_factory.mktemp("fleet")
    with server() as nats:
        operator = Operator(folder, nats.url)
        operator.write("domains/a.toml", DOMAINS)
        fleet = f'[fleet]\nservers = "{nats.url}"\nname = "{folder.name}"\nnode = "mx1"\n'
        with demo(free_port(), f'{fleet}policy_keys = ["{folder / "policy.key.pub"}"]\n') as running:
            # Playwright's loop runs until its browser ends, and the command has one too.
            operator.change("publish")
            with chromium() as browser:
                made = browser.new_page()
                made.set_default_timeout(PATIENCE)
                made.goto(f"{running.address}/console/login")
                made.get_by_label("Token").fill(TOKENS["operator"])
                made.get_by_role("button", name="Log in").click()
                yield made


def check(page: Page) -> None:
    """Check that the page has a heading, and that axe-core finds nothing."""
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    found = Axe().run(page)
    assert not found.violations_count, f"{page.url}: {found.generate_report()}"


def go_to(page: Page, name: str) -> None:
    """Click a link of the navigation."""
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(name)


def is_shown(page: Page, text: str) -> bool:
    page.reload()
    return text in page.locator("main").inner_text()


def test_every_page_after_real_mail(page: Page) -> None:
    go_to(page, "Overview")
    wait_until(lambda: is_shown(page, "logged and relayed") and is_shown(page, "logged and dropped"), "the index has all")
    for name in PAGES:
        go_to(page, name)
        check(page)
    go_to(page, "Search")
    assert {"Reception", "OOB", "Feedback", "Rejection"} <= {*page.locator("td.kind").all_inner_texts()}
    go_to(page, "Overview")
    page.locator("table", has_text="Rejections by reason").get_by_role("link").first.click()
    page.locator("a", has_text="Rejection").first.click()
    expect(page.get_by_role("heading", name="What the current policy does")).to_be_visible()
    check(page)


def test_the_node_and_the_commands_of_its_fleet(page: Page) -> None:
    go_to(page, "Nodes")
    wait_until(lambda: is_shown(page, "mx1\tok\t1"), "the node serves revision 1")
    command = page.locator("code.copy", has_text="--canary mx1 policy.toml")
    command.click()
    assert page.evaluate("String(getSelection())") == "sidecar fleet publish --key policy.key --canary mx1 policy.toml"
    check(page)
