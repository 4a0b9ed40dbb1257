"""The scenarios of tests/mta that need no listener: many milter clients never name their own end of a connection.

Owns the choice of them. Never talks to a milter.
"""

from tests.mta import scenarios

DOMAINS, SETTINGS = (text.partition("[listener.")[0] for text in (scenarios.DOMAINS, scenarios.SETTINGS))
SCENARIOS = [one for one in scenarios.SCENARIOS if "listener" not in one.name]
