"""Plans in the formats of others, one file a format; every reader raises InputError naming file, element and field.

book.py       what every format is read into and written from: named programmes and timetables
files.py      any of the formats below, told by content
document.py   our own JSON document, with plan.schema.json
sumo.py       SUMO's tlLogic and WAUT
gat1049.py    GA/T 1049.2, between a Chinese control centre and the signal system
sheet.py      the CSV sheet of engineers, one row a stage
proofs.py     the proof of safety of a whole book
order.py      an approved plan as the message to its controller

Views of a plan: stage_rows.py (stages and the changes between), legs.py ("N left, S through"), nema.py (rings and
barriers), cycle_text.py (a cycle as text). For vehicles: spat_csae53.py and spat_j2735.py, over spat_times.py.
"""

from __future__ import annotations

from signals.formats.document import PlansDocument, from_json, to_json
from signals.formats.order import to_order
from signals.formats.sumo import from_sumo, to_sumo

__all__ = ["PlansDocument", "from_json", "from_sumo", "to_json", "to_order", "to_sumo"]
