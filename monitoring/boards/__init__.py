"""The Grafana dashboards as Python; generate.py writes them as JSON.

It makes no request and reads no file: the same source gives the same bytes.
"""

from boards.internals import INTERNALS
from boards.overview import OVERVIEW

BOARDS = {"overview": OVERVIEW, "internals": INTERNALS}
