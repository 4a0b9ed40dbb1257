"""The results in deploy/docs/mtas.md are those of the tests."""

from tests import ROOT
from tests.deploy.documents import Document
from tests.interop import scenarios as alone
from tests.interop.maddy import VERSION
from tests.interop.maddy_scenarios import DIFFERENT
from tests.interop.test_mtasim import PLAYED
from tests.mta.scenarios import LACKS, SCENARIOS

ALL = len(SCENARIOS)
SENDMAIL = sum(not one.needs & LACKS["sendmail"] for one in SCENARIOS)
MADDY = len(alone.SCENARIOS) - len(DIFFERENT)
SHORT = len(SCENARIOS[::5])


def of(some: int, count: int = ALL) -> str:
    """Write a result."""
    return f"{some} of {count}"


def test_results() -> None:
    """Each number of scenarios is the one that the tests play, and each version of a module the one that they build."""
    document = Document(ROOT / "deploy" / "docs" / "mtas.md")
    results, exceptions, _ = document.tables()
    module = (ROOT / "tests" / "interop" / "clients" / "go.mod").read_text()
    rows = {(row[0], row[1]): row[3:5] for row in results.rows}
    assert rows == {
        ("Postfix", "3.7.11"): (of(ALL), of(SHORT, SHORT)),
        ("Postfix", "3.10.13, 3.11.7"): (of(ALL), of(SHORT, SHORT)),
        ("Sendmail", "8.17.1"): (of(SENDMAIL), of(SHORT, SHORT)),
        ("maddy", VERSION.removeprefix("v")): (of(MADDY),) * 2,
        ("d--j/go-milter", "0.10.1"): (of(ALL),) * 2,
        ("emersion/go-milter", "0.5.0"): (of(ALL),) * 2,
        ("mtasim of GNU mailfromd", "8.15"): (of(len(PLAYED)),) * 2,
    }
    assert all(f"{name} v{version}" in module for name, version in rows if "/" in name)
    apart: dict[str, int] = {}
    for name, _, count in exceptions.rows:
        apart[name] = apart.get(name, 0) + int(count)
    assert apart == {"Sendmail": ALL - SENDMAIL, "maddy": ALL - MADDY, "mtasim": ALL - len(PLAYED)}
