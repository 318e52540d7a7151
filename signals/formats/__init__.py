"""Plans in the formats of others, one file a format; each reader raises InputError naming the element and the field.

document.py   our own JSON document
order.py      an approved plan as the message to its controller
sumo.py       SUMO's tlLogic
"""

from __future__ import annotations

from signals.formats.document import PlansDocument, from_json, to_json
from signals.formats.order import to_order
from signals.formats.sumo import from_sumo, to_sumo

__all__ = ["PlansDocument", "from_json", "from_sumo", "to_json", "to_order", "to_sumo"]
